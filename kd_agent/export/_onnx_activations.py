"""Activations as nodes of ONNX."""

from collections.abc import Callable

from kd_agent.policies import Op
from kd_agent.policies.activations import SLOPED

_ACTIVATIONS = {
    "relu": "Relu",
    "tanh": "Tanh",
    "sigmoid": "Sigmoid",
    "elu": "Elu",
    "softplus": "Softplus",
    "selu": "Selu",
    "softsign": "Softsign",
}
"""Activations that ONNX has under a name of its own."""
_BOUNDS = {"relu6": (0.0, 6.0), "hardtanh": (-1.0, 1.0)}
"""Activations that only bound their input."""


def activation(add: Callable[..., str], constant: Callable[[float], str], x: str, op: Op) -> str:
    """Add an activation's nodes and return the name of the result.

    Args:
        add: Appends a node, as `Nodes.add`.
        constant: Adds a constant, as `Nodes.constant`.
        x: Name of its input.
        op: The operation.
    """
    function = op.attributes["function"]
    if function == "silu":
        return add("Mul", x, add("Sigmoid", x))
    if function == "gelu":  # of its parts: ONNX's own Gelu came with opset 20 only
        bell = add("Erf", add("Mul", x, constant(0.5**0.5)))
        return add("Mul", add("Mul", x, constant(0.5)), add("Add", bell, constant(1.0)))
    if function == "mish":  # of its parts: ONNX's own came with opset 18 only
        return add("Mul", x, add("Tanh", add("Softplus", x)))
    if function in _BOUNDS:
        low, high = _BOUNDS[function]
        return add("Clip", x, constant(low), constant(high))
    if function == "leaky_relu":
        return add("LeakyRelu", x, alpha=0.01)  # torch's slope, and the kernels'
    if function == SLOPED:
        return add("LeakyRelu", x, alpha=float(op.attributes["slope"]))
    return add(_ACTIVATIONS[function], x)
