"""ONNX: inputs `obs` (or `obs.<key>`), outputs `params` and `action`, any batch size.

A recurrent policy also reads `state.<name>` and writes `state.<name>.next`.
"""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from kd_agent.export._onnx import TREES, WRITERS, Nodes, type_number
from kd_agent.export._program import analyse
from kd_agent.policies import PARAMS, HeadSpec, PolicyGraph, following
from kd_agent.policies.safe_files import write_atomically

OPS = frozenset(WRITERS)


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
    nodes = Nodes(program)
    inputs = [nodes.observation(key) for key in graph.observations]
    inputs += [nodes.state(name) for name in sorted(graph.states)]
    for op in graph.ops:
        nodes.registers[op.output] = WRITERS[op.kind](nodes, op)
    outputs = [nodes.result(PARAMS, nodes.registers[PARAMS], "float32", (graph.head.num_params,))]
    outputs.append(nodes.result("action", _action(nodes, graph.head), graph.head.dtype, graph.head.shape))
    for name in sorted(graph.states):
        source = nodes.registers[following(name)]
        outputs.append(nodes.result(f"state.{name}.next", source, "float32", graph.states[name]))
    versions = [helper.make_opsetid("", opset or onnx.defs.onnx_opset_version())]
    versions += [helper.make_opsetid(TREES, 1)] if any(op.kind == "tree" for op in graph.ops) else []
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


def _action(n: Nodes, head: HeadSpec) -> str:
    """The greedy action `[B, *A]`."""
    row = n.registers[n.program.row]
    if head.kind == "categorical":
        return n.add("Cast", _best(n, row, head.start[0], keepdims=0), to=type_number(head.dtype))
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
    return n.add("Reshape", n.add("Cast", flat, to=type_number(head.dtype)), n.whole(-1, *head.shape))


def _best(n: Nodes, logits: str, start: int, keepdims: int) -> str:
    return n.add("Add", n.add("ArgMax", logits, axis=-1, keepdims=keepdims), n.constant(start, "int64"))


def _to_box(n: Nodes, latent: str, head: HeadSpec) -> str:
    low, high = np.asarray(head.low, np.float32), np.asarray(head.high, np.float32)
    if head.kind == "squashed_gaussian":
        unit = n.add("Add", n.add("Tanh", latent), n.constant(1.0))
        return n.add("Add", n.add("Mul", unit, n.constant(0.5 * (high - low))), n.constant(low))
    return n.add("Min", n.add("Max", latent, n.constant(low)), n.constant(high))
