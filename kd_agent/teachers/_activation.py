"""Which activation an agent's network has, told by the text of torch's class."""

import re
from dataclasses import dataclass

from kd_agent.policies.activations import SLOPED
from kd_agent.teachers._archive import Archive, NotUnderstoodError

FUNCTIONS = {
    "Tanh": "tanh",
    "ReLU": "relu",
    "SiLU": "silu",
    "ELU": "elu",
    "LeakyReLU": "leaky_relu",
    "Sigmoid": "sigmoid",
    "Softplus": "softplus",
    "GELU": "gelu",
    "Mish": "mish",
    "SELU": "selu",
    "Softsign": "softsign",
    "ReLU6": "relu6",
    "Hardtanh": "hardtanh",
    "Identity": "identity",
}
"""The activation of a graph by the name of torch's class."""


@dataclass(frozen=True)
class Function:
    """An activation.

    Attributes:
        name: One of the values of `FUNCTIONS`, or `SLOPED`.
        slope: Of `SLOPED`.
    """

    name: str
    slope: float | None = None


RELU = Function("relu")

_PARTIAL = re.compile(r"functools\.partial\((?P<function><class '[\w.]+'>)(?:, (?P<arguments>.*))?\)")
_TORCH_CLASS = re.compile(r"<class 'torch\.nn\.modules\.(?:activation|linear)\.(?P<name>\w+)'>")
_SLOPE = re.compile(r"(?:negative_slope=)?(?P<number>-?\d+\.?\d*(?:e-?\d+)?)")


def activation(archive: Archive, default: str) -> Function:
    """The activation function that `policy_kwargs` asks for.

    Args:
        archive: Whose.
        default: That of the algorithm, where `policy_kwargs` asks for none.

    Raises:
        NotUnderstoodError: It is none of torch's in `FUNCTIONS`.
    """
    text = archive.policy_kwarg("activation_fn")
    if text is None:
        return Function(default)
    # "<class 'torch.nn.modules.activation.ReLU'>", or a partial of it: anybody can call a class of theirs ReLU.
    partial = _PARTIAL.fullmatch(str(text))
    found = _TORCH_CLASS.fullmatch(partial["function"] if partial else str(text))
    if not found or found["name"] not in FUNCTIONS:
        raise NotUnderstoodError(f"{archive.source}: the activation {str(text)[:80]!r} is not understood")
    name = found["name"]
    slope = None
    for argument in ((partial["arguments"] or "") if partial else "").split(", "):
        sloped = _SLOPE.fullmatch(argument)
        if sloped and name == "LeakyReLU":
            slope = float(sloped["number"])
        elif argument not in ("", "inplace=True", "inplace=False"):
            raise NotUnderstoodError(f"{archive.source}: the activation {str(text)[:120]!r} is not understood")
    if slope is not None:
        return Function(SLOPED, slope)
    return Function(FUNCTIONS[name])
