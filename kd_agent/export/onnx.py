"""ONNX: inputs `obs` (or `obs.<key>`), outputs `params` and `action`, any batch size.

A recurrent policy also reads `state.<name>` and writes `state.<name>.next`.
"""

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from kd_agent.export._program import Program, analyse
from kd_agent.files import write_atomically
from kd_agent.graph import OBSERVATION, PARAMS, Op, PolicyGraph, following
from kd_agent.head import Array, HeadSpec


def write(graph: PolicyGraph, path: Path, *, opset: int | None = None) -> list[Path]:
    """Write the model.

    Args:
        graph: The policy.
        path: The file.
        opset: Version of the operator set; default: the newest that the onnx package knows.
    """
    write_atomically(path, build(graph, opset).SerializeToString())
    return [path]


def build(graph: PolicyGraph, opset: int | None = None) -> Any:
    """The model, checked.

    Args:
        graph: The policy.
        opset: Version of the operator set; default: the newest that the onnx package knows.
    """
    import onnx
    from onnx import helper

    program = analyse(graph)
    nodes = _Nodes(program)
    inputs = [nodes.observation(key) for key in graph.observations]
    inputs += [nodes.state(name) for name in sorted(graph.states)]
    for op in graph.ops:
        nodes.registers[op.output] = _WRITERS[op.kind](nodes, op)
    outputs = [nodes.result(PARAMS, nodes.registers[PARAMS], "float32", (graph.head.num_params,))]
    outputs.append(nodes.result("action", _action(nodes, graph.head), graph.head.dtype, graph.head.shape))
    for name in sorted(graph.states):
        source = nodes.registers[following(name)]
        outputs.append(nodes.result(f"state.{name}.next", source, "float32", graph.states[name]))
    versions = [helper.make_opsetid("", opset or onnx.defs.onnx_opset_version())]
    model = helper.make_model(
        helper.make_graph(nodes.nodes, "policy", inputs, outputs, nodes.constants),
        opset_imports=versions,
        ir_version=helper.find_min_ir_version_for(versions),
        producer_name="kd_agent",
    )
    helper.set_model_props(model, _metadata(graph))
    onnx.checker.check_model(model, full_check=True)
    return model


def _metadata(graph: PolicyGraph) -> dict[str, str]:
    observations = {key: asdict(spec) for key, spec in graph.observations.items()}
    return {
        "env": str(graph.provenance.get("env", "")),
        "observations": json.dumps(observations),
        "head": json.dumps(graph.head.to_json()),
    }


class _Nodes:
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
        self.registers[key] = name if dtype == "float32" else self.add("Cast", name, to=_type("float32"))
        return _value(name, dtype, spec.shape)

    def state(self, name: str) -> Any:
        """Declare the memory before the step."""
        self.registers[name] = f"state.{name}"
        return _value(self.registers[name], "float32", self.program.graph.states[name])

    def result(self, name: str, value: str, dtype: str, shape: tuple[int, ...]) -> Any:
        """Declare an output."""
        from onnx import helper

        self.nodes.append(helper.make_node("Identity", [value], [name]))
        return _value(name, dtype, shape)


def _value(name: str, dtype: str, shape: tuple[int, ...]) -> Any:
    from onnx import helper

    return helper.make_tensor_value_info(name, _type(dtype), ["batch", *shape])


def _type(dtype: str) -> int:
    from onnx import helper

    return int(helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))


def _action(n: _Nodes, head: HeadSpec) -> str:
    """The greedy action `[B, *A]`."""
    row = n.registers[n.program.row]
    if head.kind == "categorical":
        return n.add("Cast", _best(n, row, head.start[0], keepdims=0), to=_type(head.dtype))
    if head.kind == "multi_categorical":
        bounds = np.cumsum([0, *head.nvec]).tolist()
        parts = [
            _best(n, n.columns(row, bounds[i], bounds[i + 1]), start, keepdims=1) for i, start in enumerate(head.start)
        ]
        flat = n.add("Concat", *parts, axis=-1)
    elif head.kind == "bernoulli":
        flat = n.add("Greater", row, n.constant(0.0))
    else:
        flat = _to_box(n, n.columns(row, 0, head.num_acting), head)
    return n.add("Reshape", n.add("Cast", flat, to=_type(head.dtype)), n.whole(-1, *head.shape))


def _best(n: _Nodes, logits: str, start: int, keepdims: int) -> str:
    return n.add("Add", n.add("ArgMax", logits, axis=-1, keepdims=keepdims), n.constant(start, "int64"))


def _to_box(n: _Nodes, latent: str, head: HeadSpec) -> str:
    low, high = np.asarray(head.low, np.float32), np.asarray(head.high, np.float32)
    if head.kind == "squashed_gaussian":
        unit = n.add("Add", n.add("Tanh", latent), n.constant(1.0))
        return n.add("Add", n.add("Mul", unit, n.constant(0.5 * (high - low))), n.constant(low))
    return n.add("Min", n.add("Max", latent, n.constant(low)), n.constant(high))


def _linear(n: _Nodes, op: Op) -> str:
    product = n.add("MatMul", n.registers[op.inputs[0]], n.constant(op.tensors["weight"].T))
    return n.add("Add", product, n.constant(op.tensors["bias"]))


def _affine(n: _Nodes, x: str, weight: Array, bias: Array) -> str:
    return n.add("Gemm", x, n.constant(weight), n.constant(bias), transB=1)


def _normalise(n: _Nodes, op: Op) -> str:
    centred = n.add("Sub", n.registers[op.inputs[0]], n.constant(op.tensors["mean"]))
    scaled, limit = n.add("Mul", centred, n.constant(op.tensors["scale"])), op.attributes["clip"]
    return n.add("Clip", scaled, n.constant(-limit), n.constant(limit))


def _scale(n: _Nodes, op: Op) -> str:
    scaled = n.add("Mul", n.registers[op.inputs[0]], n.constant(op.tensors["scale"]))
    return n.add("Add", scaled, n.constant(op.tensors["shift"]))


def _clip(n: _Nodes, op: Op) -> str:
    low, high = (n.constant(op.attributes[side]) for side in ("low", "high"))
    return n.add("Clip", n.registers[op.inputs[0]], low, high)


def _activation(n: _Nodes, op: Op) -> str:
    x, function = n.registers[op.inputs[0]], op.attributes["function"]
    if function == "silu":
        return n.add("Mul", x, n.add("Sigmoid", x))
    if function == "leaky_relu":
        return n.add("LeakyRelu", x, alpha=0.01)
    names = {"relu": "Relu", "tanh": "Tanh", "sigmoid": "Sigmoid", "elu": "Elu", "softplus": "Softplus", "gelu": "Gelu"}
    return n.add(names[function], x)


def _append(n: _Nodes, op: Op) -> str:
    x, value = n.registers[op.inputs[0]], op.tensors["value"]
    batch = n.add("Shape", x, start=0, end=1)
    shape = n.add("Concat", batch, n.whole(len(value)), axis=0)
    return n.add("Concat", x, n.add("Expand", n.constant(value), shape), axis=-1)


def _one_hot(n: _Nodes, op: Op) -> str:
    sizes = [int(size) for size in op.attributes["sizes"]]
    rows = n.add("Reshape", n.registers[op.inputs[0]], n.whole(-1, len(sizes)))
    part = np.repeat(np.arange(len(sizes)), sizes)
    wanted = n.constant(np.concatenate([np.arange(size) for size in sizes]))
    same = n.add("Equal", n.add("Gather", rows, n.constant(part, "int64"), axis=1), wanted)
    return n.add("Cast", same, to=_type("float32"))


def _sde_log_std(n: _Nodes, op: Op) -> str:
    x = n.registers[op.inputs[0]]
    variance = n.add("MatMul", n.add("Mul", x, x), n.constant(op.tensors["variance"]))
    return n.add("Mul", n.add("Log", n.add("Add", variance, n.constant(1e-6))), n.constant(0.5))


def _conv2d(n: _Nodes, op: Op) -> str:
    stride, padding = int(op.attributes["stride"]), int(op.attributes.get("padding", 0))
    tensors = [n.constant(op.tensors[role]) for role in ("weight", "bias")]
    return n.add("Conv", n.registers[op.inputs[0]], *tensors, strides=[stride] * 2, pads=[padding] * 4)


def _lstm(n: _Nodes, op: Op) -> str:
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


def _gru(n: _Nodes, op: Op) -> str:
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


_WRITERS: dict[str, Callable[[_Nodes, Op], str]] = {
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
}
OPS = frozenset(_WRITERS)
