"""Single functions of TorchScript as operations, by the readers of ONNX's nodes where these do the same."""

import math
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from kd_agent.policies import Array
from kd_agent.teachers._onnx_nodes import Node, Program, Value
from kd_agent.teachers._onnx_readers import READERS

_MOST = 1 << 22
"""Numbers of a constant that is computed."""
_LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class Register:
    """What depends on the observation.

    Attributes:
        name: The register that holds it.
    """

    name: str


@dataclass(frozen=True)
class Choice:
    """The index of the largest number of a register.

    Attributes:
        register: Its name.
    """

    register: str


Arguments = list[Any]
Operator = Callable[[Program, Arguments, Mapping[str, Any]], Any]
"""What a function gives: a `Register`, a constant, a `Choice`; None where no operation does the same."""


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _given(value: Any) -> Value | None:
    """An argument as ONNX's readers take it; None where it is neither register nor numbers."""
    if isinstance(value, Register):
        return value.name
    if isinstance(value, np.ndarray):
        return value
    return np.asarray(value, np.float32) if _is_number(value) else None


def _read(program: Program, kind: str, values: Arguments, **attributes: Any) -> Register | Array | None:
    """What the reader of a node of ONNX makes of the arguments."""
    given = []
    for value in values:
        part = _given(value)
        if part is None:
            return None
        given.append(part)
    found = READERS[kind](program, Node(tuple(given), attributes))
    if isinstance(found, str):
        return Register(found)
    return found if isinstance(found, np.ndarray) else None


def _linear(program: Program, values: Arguments, keywords: Mapping[str, Any]) -> Any:
    present = [value for value in values if value is not None]
    return _read(program, "Gemm", present, transB=1)


def _addmm(program: Program, values: Arguments, keywords: Mapping[str, Any]) -> Any:
    if any(value != 1 for value in keywords.values()):
        return None
    bias, x, weight = values
    return _read(program, "Gemm", [x, weight, bias])


def _matmul(program: Program, values: Arguments, keywords: Mapping[str, Any]) -> Any:
    return _read(program, "MatMul", values)


def _transposed(program: Program, values: Arguments, keywords: Mapping[str, Any]) -> Any:
    [weight] = values
    is_matrix = isinstance(weight, np.ndarray) and weight.ndim == 2
    return np.ascontiguousarray(weight.T) if is_matrix else None


def _elementwise(kind: str, compute: Callable[[Any, Any], Any]) -> Operator:
    """Arithmetic of two values: an operation where one of them is a register."""

    def apply(program: Program, values: Arguments, keywords: Mapping[str, Any]) -> Any:
        # torch.add(x, y, alpha=2) is x + 2 y.
        if len(values) != 2 or any(value != 1 for value in keywords.values()):
            return None
        if any(isinstance(value, Register) for value in values):
            return _read(program, kind, values)
        first, second = map(_given, values)
        if not isinstance(first, np.ndarray) or not isinstance(second, np.ndarray):
            return None
        if math.prod(np.broadcast_shapes(first.shape, second.shape)) > _MOST:
            return None
        with np.errstate(all="ignore"):
            return np.asarray(compute(first, second), np.float32)

    return apply


def _function(kind: str) -> Operator:
    """An activation without settings."""
    return lambda program, values, keywords: _read(program, kind, values) if len(values) == 1 else None


def _named(function: str, *usual: Any) -> Operator:
    """An activation that ONNX has no node for; what is said beside its input are its usual settings."""

    def apply(program: Program, values: Arguments, keywords: Mapping[str, Any]) -> Any:
        said = [*values[1:], *keywords.values()]
        if not isinstance(values[0], Register) or said != list(usual)[: len(said)]:
            return None
        return Register(program.add("activation", (values[0].name,), {"function": function}))

    return apply


def _elu(program: Program, values: Arguments, keywords: Mapping[str, Any]) -> Any:
    alpha, *rest = [*values[1:], 1.0][: max(1, len(values) - 1)]
    return _read(program, "Elu", values[:1], alpha=alpha) if all(value == 1 for value in rest) else None


def _leaky_relu(program: Program, values: Arguments, keywords: Mapping[str, Any]) -> Any:
    slope = values[1] if len(values) > 1 else 0.01
    return _read(program, "LeakyRelu", values[:1], alpha=slope) if _is_number(slope) else None


def _clamp(program: Program, values: Arguments, keywords: Mapping[str, Any]) -> Any:
    low, high = [*values[1:], None, None][:2]
    low, high = keywords.get("min", low), keywords.get("max", high)
    low = -_LARGEST if low is None else low
    high = _LARGEST if high is None else high
    return _read(program, "Clip", [values[0], low, high])


def _hardtanh(program: Program, values: Arguments, keywords: Mapping[str, Any]) -> Any:
    low, high = [*values[1:], -1.0, 1.0][:2] if len(values) != 2 else (values[1], 1.0)
    return _read(program, "Clip", [values[0], low, high])


def _flatten(program: Program, values: Arguments, keywords: Mapping[str, Any]) -> Any:
    return _read(program, "Flatten", values[:1], axis=values[1] if len(values) > 1 else 0)


def _cat(program: Program, values: Arguments, keywords: Mapping[str, Any]) -> Any:
    parts = values[0] if isinstance(values[0], list) else []
    axis = values[1] if len(values) > 1 else keywords.get("dim", 0)
    if len(parts) == 1:
        return parts[0]
    return _read(program, "Concat", parts, axis=axis) if parts else None


def _same(program: Program, values: Arguments, keywords: Mapping[str, Any]) -> Any:
    return values[0] if isinstance(values[0], Register | np.ndarray) else None


def _to(program: Program, values: Arguments, keywords: Mapping[str, Any]) -> Any:
    # 6 is float32, 7 float64: operations compute in float32 whatever the type.
    types = [value for value in values[1:2] if _is_number(value)]
    return _same(program, values, keywords) if set(types) <= {6, 7} else None


def _dropout(program: Program, values: Arguments, keywords: Mapping[str, Any]) -> Any:
    # Of what is still being trained, the answer is chance.
    return values[0] if values[2:] == [False] else None


def _argmax(program: Program, values: Arguments, keywords: Mapping[str, Any]) -> Any:
    axis = values[1] if len(values) > 1 else keywords.get("dim")
    return Choice(values[0].name) if isinstance(values[0], Register) and axis in (-1, 1) else None


def _is(program: Program, values: Arguments, keywords: Mapping[str, Any]) -> Any:
    return values[0] is values[1]


def _is_not(program: Program, values: Arguments, keywords: Mapping[str, Any]) -> Any:
    return values[0] is not values[1]


def _compared(compare: Callable[[Any, Any], Any]) -> Operator:
    """A comparison of two numbers, which torch's own functions check their settings by."""

    def apply(program: Program, values: Arguments, keywords: Mapping[str, Any]) -> Any:
        return bool(compare(*values)) if all(map(_is_number, values)) else None

    return apply


def _not(program: Program, values: Arguments, keywords: Mapping[str, Any]) -> Any:
    return not values[0] if isinstance(values[0], bool) else None


_MUL = _elementwise("Mul", np.multiply)
_SUB = _elementwise("Sub", np.subtract)

OPERATORS: dict[str, Operator] = {
    "linear": _linear,
    "addmm": _addmm,
    "matmul": _matmul,
    "mm": _matmul,
    "t": _transposed,
    "add": _elementwise("Add", np.add),
    "sub": _SUB,
    "rsub": lambda program, values, keywords: _SUB(program, values[::-1], keywords),
    "mul": _MUL,
    "neg": lambda program, values, keywords: _MUL(program, [values[0], -1.0], keywords),
    "div": _elementwise("Div", np.divide),
    "relu": _function("Relu"),
    "tanh": _function("Tanh"),
    "sigmoid": _function("Sigmoid"),
    "selu": _function("Selu"),
    "softsign": _function("Softsign"),
    "softplus": _named("softplus", 1, 20),
    "silu": _named("silu"),
    "mish": _named("mish"),
    "gelu": _named("gelu", "none"),
    "relu6": _named("relu6"),
    "elu": _elu,
    "leaky_relu": _leaky_relu,
    "hardtanh": _hardtanh,
    "clamp": _clamp,
    "clip": _clamp,
    "flatten": _flatten,
    "cat": _cat,
    "clone": _same,
    "detach": _same,
    "contiguous": _same,
    "to": _to,
    "dropout": _dropout,
    "argmax": _argmax,
    "lt": _compared(operator.lt),
    "gt": _compared(operator.gt),
    "eq": _compared(operator.eq),
    "ne": _compared(operator.ne),
    "__is__": _is,
    "__isnot__": _is_not,
    "__not__": _not,
}
"""By the function's name, without the `_` of those that write into their input."""
