"""Nodes of an ONNX graph under construction, and how each kind of operation is written as such.

Letters: `n` the nodes under construction, numbered as they are added: the order of the calls is part of the file.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from kd_agent.export._onnx_activations import activation
from kd_agent.export._program import Program
from kd_agent.policies import OBSERVATION, Array, Op, PolicyGraph

TREES = "ai.onnx.ml"
"""The operator set that has trees."""


def input_name(graph: PolicyGraph, key: str) -> str:
    """What the model calls the input of an observation.

    Args:
        graph: The policy.
        key: The observation's.
    """
    if list(graph.observations) == [OBSERVATION]:
        return OBSERVATION
    return f"obs.{key}"


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
        """Append a node and return its name, its output's too."""
        from onnx import helper

        name = f"v{len(self.nodes)}"
        # Nodes need names of their own: onnxruntime 1.19 fuses slices under the names of theirs, and clashes without.
        self.nodes.append(helper.make_node(kind, list(inputs), [name], name, **attributes))
        return name

    def constant(self, value: Any, dtype: str = "float32") -> str:
        """Add a constant and return its name.

        Args:
            value: A number or an array.
            dtype: Its NumPy dtype in the file.
        """
        from onnx import numpy_helper

        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.array(value, dtype), name))
        return name

    def whole(self, *values: int) -> str:
        """A constant vector of int64."""
        return self.constant(values, "int64")

    def columns(self, value: str, start: int, stop: int, axis: int = -1) -> str:
        """A part of one axis.

        Args:
            value: What it is a part of.
            start: The first column.
            stop: The column after the last.
            axis: The axis, the last by default.
        """
        return self.add("Slice", value, self.whole(start), self.whole(stop), self.whole(axis))

    def gates(self, value: str, count: int, size: int) -> list[str]:
        """Gates that lie side by side.

        Args:
            value: All of them, `[B, count * size]`.
            count: How many they are.
            size: Units of each.
        """
        return [self.columns(value, k * size, (k + 1) * size) for k in range(count)]

    def observation(self, key: str) -> Any:
        """Declare an input; the register holds it as float32."""
        graph = self.program.graph
        spec = graph.observations[key]
        name = input_name(graph, key)
        if np.dtype(spec.dtype).kind == "f":  # float64 comes in as float32: policies compute in nothing wider
            self.registers[key] = name
            return value_info(name, "float32", spec.shape)
        self.registers[key] = self.add("Cast", name, to=type_number("float32"))
        return value_info(name, spec.dtype, spec.shape)

    def state(self, name: str) -> Any:
        """Declare the memory before the step."""
        self.registers[name] = f"state.{name}"
        return value_info(self.registers[name], "float32", self.program.graph.states[name])

    def result(self, name: str, value: str, dtype: str, shape: tuple[int, ...]) -> Any:
        """Declare an output.

        Args:
            name: Its name.
            value: What it is.
            dtype: Its NumPy dtype.
            shape: Of one observation.
        """
        from onnx import helper

        # A copy, since one value may be two outputs, or an input that goes out as it came.
        self.nodes.append(helper.make_node("Identity", [value], [name], name))
        return value_info(name, dtype, shape)


def value_info(name: str, dtype: str, shape: tuple[int, ...]) -> Any:
    """What an input or output is, `[batch, *shape]`.

    Args:
        name: Its name.
        dtype: Its NumPy dtype.
        shape: Of one observation.
    """
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
    scaled = n.add("Mul", centred, n.constant(op.tensors["scale"]))
    limit = op.attributes["clip"]
    return n.add("Clip", scaled, n.constant(-limit), n.constant(limit))


def _scale(n: Nodes, op: Op) -> str:
    scaled = n.add("Mul", n.registers[op.inputs[0]], n.constant(op.tensors["scale"]))
    return n.add("Add", scaled, n.constant(op.tensors["shift"]))


def _clip(n: Nodes, op: Op) -> str:
    low = n.constant(op.attributes["low"])
    high = n.constant(op.attributes["high"])
    return n.add("Clip", n.registers[op.inputs[0]], low, high)


def _activation(n: Nodes, op: Op) -> str:
    return activation(n.add, n.constant, n.registers[op.inputs[0]], op)


def _append(n: Nodes, op: Op) -> str:
    x = n.registers[op.inputs[0]]
    value = op.tensors["value"]
    batch = n.columns(n.add("Shape", x), 0, 1, axis=0)  # unknown until it runs
    rows = n.add("Expand", n.constant(value), n.add("Concat", batch, n.whole(len(value)), axis=0))
    return n.add("Concat", x, rows, axis=-1)


def _one_hot(n: Nodes, op: Op) -> str:
    sizes = [int(size) for size in op.attributes["sizes"]]
    rows = n.add("Reshape", n.registers[op.inputs[0]], n.whole(-1, len(sizes)))
    part = np.repeat(np.arange(len(sizes)), sizes)
    # Each column of the result compares one part with one category; OneHot would take a single part.
    wanted = n.constant(np.concatenate(list(map(np.arange, sizes))))
    same = n.add("Equal", n.add("Gather", rows, n.constant(part, "int64"), axis=1), wanted)
    return n.add("Cast", same, to=type_number("float32"))


def _sde_log_std(n: Nodes, op: Op) -> str:
    x = n.registers[op.inputs[0]]
    variance = n.add("MatMul", n.add("Mul", x, x), n.constant(op.tensors["variance"]))
    return n.add("Mul", n.add("Log", n.add("Add", variance, n.constant(1e-6))), n.constant(0.5))


def _conv2d(n: Nodes, op: Op) -> str:
    stride = int(op.attributes["stride"])
    padding = int(op.attributes.get("padding", 0))
    fitted = [n.constant(op.tensors[role]) for role in ("weight", "bias")]
    return n.add("Conv", n.registers[op.inputs[0]], *fitted, strides=[stride] * 2, pads=[padding] * 4)


def _lstm(n: Nodes, op: Op) -> str:
    # Of plain nodes: ONNX's own LSTM wants a whole sequence, other gates first and the cells as a second state.
    x, memory = [n.registers[name] for name in op.inputs]
    size = len(op.tensors["bias"]) // 4
    hidden, cell = n.gates(memory, 2, size)
    from_x = _affine(n, x, op.tensors["weight_input"], op.tensors["bias"])
    from_hidden = n.add("MatMul", hidden, n.constant(op.tensors["weight_hidden"].T))
    into, keep, new, out = n.gates(n.add("Add", from_x, from_hidden), 4, size)
    fresh = n.add("Mul", n.add("Sigmoid", into), n.add("Tanh", new))
    kept = n.add("Add", n.add("Mul", n.add("Sigmoid", keep), cell), fresh)
    return n.add("Concat", n.add("Mul", n.add("Sigmoid", out), n.add("Tanh", kept)), kept, axis=-1)


def _gru(n: Nodes, op: Op) -> str:
    x, memory = [n.registers[name] for name in op.inputs]
    size = len(op.tensors["bias_input"]) // 3
    from_x = _affine(n, x, op.tensors["weight_input"], op.tensors["bias_input"])
    from_h = _affine(n, memory, op.tensors["weight_hidden"], op.tensors["bias_hidden"])
    rx, zx, nx = n.gates(from_x, 3, size)
    rh, zh, nh = n.gates(from_h, 3, size)
    reset = n.add("Sigmoid", n.add("Add", rx, rh))
    update = n.add("Sigmoid", n.add("Add", zx, zh))
    new = n.add("Tanh", n.add("Add", nx, n.add("Mul", reset, nh)))
    # (1 - update) new + update memory, with one product less.
    return n.add("Add", new, n.add("Mul", update, n.add("Sub", memory, new)))


def _tree(n: Nodes, op: Op) -> str:
    """One tree of ONNX's ensembles; its nodes are the splits, then the leaves."""
    value = op.tensors["value"]
    splits = len(op.tensors["feature"])
    leaves, width = value.shape
    nodes = splits + leaves
    no_child = [0] * leaves  # every list has an entry a node, used or not
    return n.add(
        "TreeEnsembleRegressor",
        n.registers[op.inputs[0]],
        domain=TREES,
        n_targets=width,
        nodes_treeids=[0] * nodes,
        nodes_nodeids=list(range(nodes)),
        nodes_modes=["BRANCH_LEQ"] * splits + ["LEAF"] * leaves,
        nodes_featureids=op.tensors["feature"].tolist() + no_child,
        nodes_values=op.tensors["threshold"].tolist() + no_child,
        nodes_truenodeids=op.tensors["left"].tolist() + no_child,
        nodes_falsenodeids=op.tensors["right"].tolist() + no_child,
        target_treeids=[0] * value.size,
        target_nodeids=np.repeat(range(splits, nodes), width).tolist(),
        target_ids=list(range(width)) * leaves,
        target_weights=value.reshape(-1).tolist(),
    )


def _flatten(n: Nodes, op: Op) -> str:
    return n.add("Reshape", n.registers[op.inputs[0]], n.whole(-1, n.program.size(op.output)))


def _transpose(n: Nodes, op: Op) -> str:
    # Axes are counted without the batch, from the end where they are below zero, as NumPy counts them.
    axes = [int(axis) + 1 for axis in op.attributes["axes"]]
    return n.add("Transpose", n.registers[op.inputs[0]], perm=[axis % (len(axes) + 1) for axis in (0, *axes)])


def _concatenate(n: Nodes, op: Op) -> str:
    return n.add("Concat", *map(n.registers.__getitem__, op.inputs), axis=-1)


def _slice(n: Nodes, op: Op) -> str:
    return n.columns(n.registers[op.inputs[0]], int(op.attributes["start"]), int(op.attributes["stop"]))


WRITERS: dict[str, Callable[[Nodes, Op], str]] = {
    "flatten": _flatten,
    "transpose": _transpose,
    "concatenate": _concatenate,
    "slice": _slice,
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
