"""Single nodes of ONNX as operations.

What a reader gives is a register, a constant, or None where no operation does the same as its node.
"""

from collections.abc import Callable

import numpy as np

from kd_agent.policies import Array
from kd_agent.teachers._onnx_nodes import Node, Program, Unread, Value

Reader = Callable[[Program, Node], Value | None]


def _same(program: Program, node: Node) -> Value | None:
    """Identity, and Dropout where nobody trains."""
    return node.inputs[0]


def _constant(program: Program, node: Node) -> Value | None:
    value = node.attributes.get("value")
    return value if isinstance(value, np.ndarray) else None


def _cast(program: Program, node: Node) -> Value | None:
    # Whatever type, operations compute in float32, into which the first of them takes whole numbers.
    return node.inputs[0] if node.attributes.get("to") in (1, 10, 11) else None


def _gemm(program: Program, node: Node) -> Value | None:
    weight = node.constant(1)
    if node.register is None or weight is None or node.attributes.get("transA", 0):
        return None
    if not node.attributes.get("transB", 0):
        weight = weight.T
    bias = np.zeros(len(weight), np.float32)
    if len(node.inputs) > 2:
        constant = node.constant(2)
        if constant is None:
            return None
        bias = np.float32(node.attributes.get("beta", 1)) * np.broadcast_to(np.ravel(constant), bias.shape)
    weight = np.float32(node.attributes.get("alpha", 1)) * weight
    tensors = {"weight": np.ascontiguousarray(weight), "bias": np.ascontiguousarray(bias)}
    return program.add("linear", (node.register,), {}, tensors)


def _matmul(program: Program, node: Node) -> Value | None:
    weight = node.constant(1)
    if node.register is None or weight is None or weight.ndim != 2:
        return None
    tensors = {"weight": np.ascontiguousarray(weight.T), "bias": np.zeros(weight.shape[1], np.float32)}
    return program.add("linear", (node.register,), {}, tensors)


def _scaled(program: Program, node: Node, scale: Array, shift: Array) -> Value | None:
    """Elementwise `x * scale + shift`, of whichever input is the register."""
    register = node.register
    if register is None:
        second = node.inputs[1]
        register = second if isinstance(second, str) else None
    if register is None:
        return None
    # An axis of the batch is none of one observation's.
    tensors = {"scale": _per_observation(scale), "shift": _per_observation(shift)}
    return program.add("scale", (register,), {}, tensors)


def _per_observation(array: Array) -> Array:
    while array.ndim > 1 and array.shape[0] == 1:
        array = array[0]
    return np.ascontiguousarray(np.atleast_1d(array), np.float32)


def _either(node: Node) -> Array | None:
    """The constant of a register and a constant, in either order."""
    first, second = node.constant(0), node.constant(1)
    return second if first is None else first


def _add(program: Program, node: Node) -> Value | None:
    constant = _either(node)
    if constant is None:
        return None
    made = program.made(node.inputs[0])
    # MatMul and Add are a linear layer.
    if made is not None and made.kind == "linear" and not made.tensors["bias"].any():
        bias = np.broadcast_to(_per_observation(constant), made.tensors["bias"].shape)
        tensors = {"weight": made.tensors["weight"], "bias": np.ascontiguousarray(bias)}
        return program.add("linear", made.inputs, {}, tensors)
    return _scaled(program, node, np.ones(1, np.float32), constant)


def _sub(program: Program, node: Node) -> Value | None:
    one = np.ones(1, np.float32)
    constant = node.constant(1)
    if constant is not None:
        return _scaled(program, node, one, -constant)
    constant = node.constant(0)
    return None if constant is None else _scaled(program, node, -one, constant)


def _mul(program: Program, node: Node) -> Value | None:
    constant = _either(node)
    if constant is not None:
        return _scaled(program, node, constant, np.zeros(1, np.float32))
    # x sigmoid(x), in either order.
    for register, gate in (node.inputs[:2], node.inputs[1::-1]):
        made = program.made(gate)
        is_own = made is not None and made.kind == "activation" and made.inputs == (register,)
        if is_own and made is not None and made.attributes["function"] == "sigmoid" and isinstance(register, str):
            return program.add("activation", (register,), {"function": "silu"})
    return None


def _div(program: Program, node: Node) -> Value | None:
    constant = node.constant(1)
    if constant is None or not constant.all():
        return None
    scale = (1 / constant.astype(np.float64)).astype(np.float32)
    return _scaled(program, node, scale, np.zeros(1, np.float32))


def _function(name: str, **expected: float) -> Reader:
    """The reader of an activation whose attributes, where they are written, are its usual ones."""

    def read(program: Program, node: Node) -> Value | None:
        for attribute, value in node.attributes.items():
            if not np.isclose(expected.get(attribute, np.nan), value):
                return None
        if node.register is None:
            return None
        return program.add("activation", (node.register,), {"function": name})

    return read


def _leaky_relu(program: Program, node: Node) -> Value | None:
    if node.register is None:
        return None
    slope = float(node.attributes.get("alpha", 0.01))
    return program.add("activation", (node.register,), {"function": "prelu", "slope": slope})


def _clip(program: Program, node: Node) -> Value | None:
    low, high = node.constant(1), node.constant(2)
    if node.register is None or low is None or high is None or low.size != 1 or high.size != 1:
        return None
    return program.add("clip", (node.register,), {"low": low.item(), "high": high.item()})


def _bound(program: Program, node: Node, *, above: bool) -> Value | None:
    """Max and Min with a number."""
    constant = _either(node)
    registers = [value for value in node.inputs if isinstance(value, str)]
    if constant is None or constant.size != 1 or len(registers) != 1:
        return None
    largest = float(np.finfo(np.float32).max)
    low, high = (-largest, constant.item()) if above else (constant.item(), largest)
    return program.add("clip", (registers[0],), {"low": low, "high": high})


def _flatten(program: Program, node: Node) -> Value | None:
    if node.register is None or node.attributes.get("axis", 1) != 1:
        return None
    return program.add("flatten", (node.register,))


def _reshape(program: Program, node: Node) -> Value | None:
    """To rows; of a shape that only running tells, the graph's own check says whether it was rows."""
    shape = node.inputs[1]
    is_rows = isinstance(shape, Unread) or (isinstance(shape, np.ndarray) and shape.size == 2)
    return program.add("flatten", (node.register,)) if node.register and is_rows else None


def _transpose(program: Program, node: Node) -> Value | None:
    axes = list(node.attributes.get("perm", ()))
    if node.register is None or not axes or axes[0] != 0:
        return None
    return program.add("transpose", (node.register,), {"axes": [int(axis) - 1 for axis in axes[1:]]})


def _shape(program: Program, node: Node) -> Value | None:
    return Unread("its output depends on the number of observations")


def _expand(program: Program, node: Node) -> Value | None:
    """A row of constants for each observation stays that row."""
    value = node.inputs[0]
    return value if isinstance(value, np.ndarray) and value.ndim == 1 else None


def _concat(program: Program, node: Node) -> Value | None:
    if node.attributes.get("axis") not in (-1, 1):
        return None
    registers = tuple(value for value in node.inputs if isinstance(value, str))
    if len(registers) == len(node.inputs):
        return program.add("concatenate", registers)
    constant = node.constant(1)
    if len(node.inputs) == 2 and node.register and constant is not None:
        return program.add("append", (node.register,), {}, {"value": np.ravel(constant)})
    return None


def _slice(program: Program, node: Node) -> Value | None:
    parts = [node.constant(index) for index in (1, 2, 3)]
    if node.register is None or any(part is None or part.size != 1 for part in parts):
        return None
    start, stop, axis = (int(part.item()) for part in parts if part is not None)
    steps = node.constant(4)
    if axis not in (-1, 1) or min(start, stop) < 0 or (steps is not None and steps.item() != 1):
        return None
    return program.add("slice", (node.register,), {"start": start, "stop": stop})


def _conv(program: Program, node: Node) -> Value | None:
    weight = node.constant(1)
    if node.register is None or weight is None or weight.ndim != 4:
        return None
    strides = set(node.attributes.get("strides", [1, 1]))
    pads = set(node.attributes.get("pads", [0] * 4))
    plain = node.attributes.get("group", 1) == 1 and set(node.attributes.get("dilations", [1])) == {1}
    if len(strides) != 1 or len(pads) != 1 or not plain or node.attributes.get("auto_pad", b"NOTSET") != b"NOTSET":
        return None
    bias = node.constant(2)
    tensors = {"weight": weight, "bias": np.zeros(len(weight), np.float32) if bias is None else bias}
    attributes = {"stride": int(strides.pop())}
    padding = int(pads.pop())
    if padding:
        attributes["padding"] = padding
    return program.add("conv2d", (node.register,), attributes, tensors)


READERS: dict[str, Reader] = {
    "Identity": _same,
    "Dropout": _same,
    "Constant": _constant,
    "Cast": _cast,
    "Gemm": _gemm,
    "MatMul": _matmul,
    "Add": _add,
    "Sub": _sub,
    "Mul": _mul,
    "Div": _div,
    "Relu": _function("relu"),
    "Tanh": _function("tanh"),
    "Sigmoid": _function("sigmoid"),
    "Elu": _function("elu", alpha=1.0),
    "Selu": _function("selu", alpha=1.6732632, gamma=1.0507010),
    "Softplus": _function("softplus"),
    "Softsign": _function("softsign"),
    "LeakyRelu": _leaky_relu,
    "Clip": _clip,
    "Max": lambda program, node: _bound(program, node, above=False),
    "Min": lambda program, node: _bound(program, node, above=True),
    "Flatten": _flatten,
    "Reshape": _reshape,
    "Transpose": _transpose,
    "Shape": _shape,
    "Expand": _expand,
    "Concat": _concat,
    "Slice": _slice,
    "Conv": _conv,
}
"""By the operator's name."""
