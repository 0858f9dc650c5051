"""Nodes of an ONNX graph under construction, and how each kind of operation is written as such."""

from collections.abc import Callable
from typing import Any

import numpy as np

from kd_agent.export._program import Program
from kd_agent.policies import OBSERVATION, Array, Op

TREES = "ai.onnx.ml"
"""The operator set that has trees."""


class Nodes:
    """An ONNX graph under construction; every inner name is generated.

    Attributes:
        nodes, constants: What has been added.
        registers: Name of the value in each of the policy's registers.
    """

    def __init__(self, program: Program) -> None:
        self.program = program
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self.registers: dict[str, str] = {}

    def add(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """Append a node and return the name of its output."""
        from onnx import helper

        name = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], **attributes))
        return name

    def constant(self, value: Any, dtype: str = "float32") -> str:
        """Add a constant and return its name."""
        from onnx import numpy_helper

        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.array(value, dtype), name))
        return name

    def whole(self, *values: int) -> str:
        """A constant vector of int64."""
        return self.constant(values, "int64")

    def columns(self, value: str, start: int, stop: int, axis: int = -1) -> str:
        """A part of the last axis."""
        return self.add("Slice", value, self.whole(start), self.whole(stop), self.whole(axis))

    def observation(self, key: str) -> Any:
        """Declare an input; the register holds it as float32."""
        spec = self.program.graph.observations[key]
        name = OBSERVATION if list(self.program.graph.observations) == [OBSERVATION] else f"obs.{key}"
        dtype = "float32" if np.dtype(spec.dtype).kind == "f" else spec.dtype
        self.registers[key] = name if dtype == "float32" else self.add("Cast", name, to=type_number("float32"))
        return value_info(name, dtype, spec.shape)

    def state(self, name: str) -> Any:
        """Declare the memory before the step."""
        self.registers[name] = f"state.{name}"
        return value_info(self.registers[name], "float32", self.program.graph.states[name])

    def result(self, name: str, value: str, dtype: str, shape: tuple[int, ...]) -> Any:
        """Declare an output."""
        from onnx import helper

        self.nodes.append(helper.make_node("Identity", [value], [name]))
        return value_info(name, dtype, shape)


def value_info(name: str, dtype: str, shape: tuple[int, ...]) -> Any:
    """What an input or output is, `[batch, *shape]`."""
    from onnx import helper

    return helper.make_tensor_value_info(name, type_number(dtype), ["batch", *shape])


def type_number(dtype: str) -> int:
    """ONNX's number for a NumPy dtype."""
    from onnx import helper

    return int(helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))


def _linear(n: Nodes, op: Op) -> str:
    product = n.add("MatMul", n.registers[op.inputs[0]], n.constant(op.tensors["weight"].T))
    return n.add("Add", product, n.constant(op.tensors["bias"]))


def _affine(n: Nodes, x: str, weight: Array, bias: Array) -> str:
    return n.add("Gemm", x, n.constant(weight), n.constant(bias), transB=1)


def _normalise(n: Nodes, op: Op) -> str:
    centred = n.add("Sub", n.registers[op.inputs[0]], n.constant(op.tensors["mean"]))
    scaled, limit = n.add("Mul", centred, n.constant(op.tensors["scale"])), op.attributes["clip"]
    return n.add("Clip", scaled, n.constant(-limit), n.constant(limit))


def _scale(n: Nodes, op: Op) -> str:
    scaled = n.add("Mul", n.registers[op.inputs[0]], n.constant(op.tensors["scale"]))
    return n.add("Add", scaled, n.constant(op.tensors["shift"]))


def _clip(n: Nodes, op: Op) -> str:
    low, high = (n.constant(op.attributes[side]) for side in ("low", "high"))
    return n.add("Clip", n.registers[op.inputs[0]], low, high)


def _activation(n: Nodes, op: Op) -> str:
    x, function = n.registers[op.inputs[0]], op.attributes["function"]
    if function == "silu":
        return n.add("Mul", x, n.add("Sigmoid", x))
    if function == "leaky_relu":
        return n.add("LeakyRelu", x, alpha=0.01)
    names = {"relu": "Relu", "tanh": "Tanh", "sigmoid": "Sigmoid", "elu": "Elu", "softplus": "Softplus", "gelu": "Gelu"}
    return n.add(names[function], x)


def _append(n: Nodes, op: Op) -> str:
    x, value = n.registers[op.inputs[0]], op.tensors["value"]
    batch = n.add("Shape", x, start=0, end=1)
    shape = n.add("Concat", batch, n.whole(len(value)), axis=0)
    return n.add("Concat", x, n.add("Expand", n.constant(value), shape), axis=-1)


def _one_hot(n: Nodes, op: Op) -> str:
    sizes = [int(size) for size in op.attributes["sizes"]]
    rows = n.add("Reshape", n.registers[op.inputs[0]], n.whole(-1, len(sizes)))
    part = np.repeat(np.arange(len(sizes)), sizes)
    wanted = n.constant(np.concatenate([np.arange(size) for size in sizes]))
    same = n.add("Equal", n.add("Gather", rows, n.constant(part, "int64"), axis=1), wanted)
    return n.add("Cast", same, to=type_number("float32"))


def _sde_log_std(n: Nodes, op: Op) -> str:
    x = n.registers[op.inputs[0]]
    variance = n.add("MatMul", n.add("Mul", x, x), n.constant(op.tensors["variance"]))
    return n.add("Mul", n.add("Log", n.add("Add", variance, n.constant(1e-6))), n.constant(0.5))


def _conv2d(n: Nodes, op: Op) -> str:
    stride, padding = int(op.attributes["stride"]), int(op.attributes.get("padding", 0))
    tensors = [n.constant(op.tensors[role]) for role in ("weight", "bias")]
    return n.add("Conv", n.registers[op.inputs[0]], *tensors, strides=[stride] * 2, pads=[padding] * 4)


def _lstm(n: Nodes, op: Op) -> str:
    x, memory = (n.registers[name] for name in op.inputs)
    size = len(op.tensors["bias"]) // 4
    hidden, cell = n.columns(memory, 0, size), n.columns(memory, size, 2 * size)
    no_bias = np.zeros(4 * size, np.float32)
    gates = n.add("Add", _affine(n, x, op.tensors["weight_input"], op.tensors["bias"]),
                  _affine(n, hidden, op.tensors["weight_hidden"], no_bias))  # fmt: skip
    into, keep, new, out = (n.columns(gates, k * size, (k + 1) * size) for k in range(4))
    fresh = n.add("Mul", n.add("Sigmoid", into), n.add("Tanh", new))
    kept = n.add("Add", n.add("Mul", n.add("Sigmoid", keep), cell), fresh)
    return n.add("Concat", n.add("Mul", n.add("Sigmoid", out), n.add("Tanh", kept)), kept, axis=-1)


def _gru(n: Nodes, op: Op) -> str:
    x, memory = (n.registers[name] for name in op.inputs)
    size = len(op.tensors["bias_input"]) // 3
    sides = [_affine(n, value, op.tensors[f"weight_{side}"], op.tensors[f"bias_{side}"])
             for value, side in ((x, "input"), (memory, "hidden"))]  # fmt: skip
    (rx, zx, nx), (rh, zh, nh) = (
        [n.columns(value, k * size, (k + 1) * size) for k in range(3)] for value in sides
    )  # fmt: skip
    reset, update = n.add("Sigmoid", n.add("Add", rx, rh)), n.add("Sigmoid", n.add("Add", zx, zh))
    new = n.add("Tanh", n.add("Add", nx, n.add("Mul", reset, nh)))
    return n.add("Add", new, n.add("Mul", update, n.add("Sub", memory, new)))


def _tree(n: Nodes, op: Op) -> str:
    """One tree of ONNX's ensembles; its nodes are the splits, then the leaves."""
    feature, threshold, left, right, value = (
        op.tensors[role] for role in ("feature", "threshold", "left", "right", "value")
    )
    splits, (leaves, width) = len(feature), value.shape
    nodes, no_child = splits + leaves, [0] * leaves
    return n.add(
        "TreeEnsembleRegressor", n.registers[op.inputs[0]], domain=TREES, n_targets=width,
        nodes_treeids=[0] * nodes, nodes_nodeids=list(range(nodes)),
        nodes_modes=["BRANCH_LEQ"] * splits + ["LEAF"] * leaves,
        nodes_featureids=[*feature.tolist(), *no_child], nodes_values=[*threshold.tolist(), *no_child],
        nodes_truenodeids=[*left.tolist(), *no_child], nodes_falsenodeids=[*right.tolist(), *no_child],
        target_treeids=[0] * value.size, target_nodeids=np.repeat(range(splits, nodes), width).tolist(),
        target_ids=list(range(width)) * leaves, target_weights=value.reshape(-1).tolist(),
    )  # fmt: skip


WRITERS: dict[str, Callable[[Nodes, Op], str]] = {
    "flatten": lambda n, op: n.add("Reshape", n.registers[op.inputs[0]], n.whole(-1, n.program.size(op.output))),
    "transpose": lambda n, op: n.add(
        "Transpose", n.registers[op.inputs[0]], perm=[0, *(int(axis) + 1 for axis in op.attributes["axes"])]
    ),
    "concatenate": lambda n, op: n.add("Concat", *(n.registers[name] for name in op.inputs), axis=-1),
    "slice": lambda n, op: n.columns(
        n.registers[op.inputs[0]], int(op.attributes["start"]), int(op.attributes["stop"])
    ),
    "append": _append,
    "one_hot": _one_hot,
    "normalise": _normalise,
    "scale": _scale,
    "clip": _clip,
    "linear": _linear,
    "conv2d": _conv2d,
    "lstm": _lstm,
    "gru": _gru,
    "activation": _activation,
    "sde_log_std": _sde_log_std,
    "tree": _tree,
}
