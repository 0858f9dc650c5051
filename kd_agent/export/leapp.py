"""LEAPP, robotics' convention: a graph `NAME.yaml` with what its numbers mean, and the policy as `NAME.onnx` beside it.

The graph has one model, `policy`, whose inputs and outputs are those of the ONNX export. A memory is fed back by the
host, as `feedback_flow` has it, and begins as `NAME_initial_values.safetensors` says; so do action masks, all true, for
a host that has none. Nothing here needs the package `leapp` but `play`.
"""

import hashlib
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

import kd_agent
from kd_agent.errors import KDError
from kd_agent.export import onnx as onnx_export
from kd_agent.export._leapp_meaning import meanings
from kd_agent.export._play import Played, RuntimeMissingError, Steps
from kd_agent.export._program import environment_of
from kd_agent.policies import Array, PolicyGraph, following
from kd_agent.policies.safe_files import write_atomically

SUFFIX = ".yaml"
OPS = onnx_export.OPS
CONFIG_VERSION = "1.3"
"""Of the graph's format: that of leapp 0.7."""
MODEL = "policy"
"""The graph's only model."""


def write(graph: PolicyGraph, path: Path, *, opset: int | None = None) -> list[Path]:
    """Write the graph, its model, and how its memory begins.

    Args:
        graph: The policy.
        path: The graph's file, `NAME.yaml`; anything else is a folder for `NAME.yaml` of its own name.
        opset: Version of the operator set of the ONNX file; default: one that old runtimes load.

    Returns:
        The graph first.

    Raises:
        KDError: The operator set cannot express the policy, or LEAPP cannot name an observation.
    """
    from safetensors.numpy import save

    target = _graph_file(path)
    model = onnx_export.build(graph, opset)
    raw = model.SerializeToString()
    initial = _initial_values(graph)
    text = _as_yaml(_description(graph, model, raw, target.stem))

    files = {target.with_suffix(".onnx"): raw}
    if initial:
        files[target.with_name(_initial_name(target.stem))] = save(initial)
    # The graph comes last: one that is there never names a file that is not.
    files[target] = text.encode()
    target.parent.mkdir(parents=True, exist_ok=True)
    for file, content in files.items():
        write_atomically(file, content)
    return list(files)[::-1]


def play(path: Path, graph: PolicyGraph, steps: Steps) -> Played:
    """Play the graph in leapp's own inference manager, step by step, as a host does.

    Args:
        path: The graph's file.
        graph: The policy.
        steps: What it is asked about.

    Raises:
        RuntimeMissingError: leapp is not installed.
    """
    try:
        leapp = import_module("leapp")
    except ImportError:
        raise RuntimeMissingError("leapp is not there") from None
    import torch

    manager = leapp.InferenceManager(str(path))
    feed = onnx_export.feed_of(graph, steps)
    rows = []
    for index, starts in enumerate(steps.starts):
        if starts:
            manager.reset()
        # Copies in and out: the manager's reset writes zeros into what it was given, and into what it gave.
        inputs = {f"{MODEL}/{name}": torch.tensor(array[index : index + 1]) for name, array in feed.items()}
        rows.append(manager.run_policy(inputs)[f"{MODEL}/action"].numpy().copy())
    return Played(np.concatenate(rows), "in leapp's inference manager")


def _graph_file(path: Path) -> Path:
    """The file of the graph."""
    if path.suffix == SUFFIX:
        return path
    if path.suffix == ".yml":
        raise KDError(f"{path}: leapp reads graphs of the suffix .yaml alone: {path.with_suffix(SUFFIX)}")
    return path / f"{path.name}{SUFFIX}"


def _description(graph: PolicyGraph, model: Any, raw: bytes, name: str) -> dict[str, Any]:
    """The whole graph as plain data.

    Args:
        graph: The policy.
        model: Its ONNX model.
        raw: That as a file.
        name: The graph's name, and its files'.
    """
    told = meanings(graph)
    inputs = [_tensor(value, told) for value in model.graph.input]
    outputs = [_tensor(value, told) for value in model.graph.output]
    for tensor in [*inputs, *outputs]:
        if "/" in tensor["name"]:
            raise KDError(f"LEAPP writes MODEL/TENSOR: the observation {tensor['name']!r} cannot have a / in its name")
    parameters = {
        "model_path": f"{name}.onnx",
        "md5sum": hashlib.md5(raw, usedforsecurity=False).hexdigest(),
        "sha256sum": hashlib.sha256(raw).hexdigest(),
        "backend": "onnx",
        "opset_version": model.opset_import[0].version,
    }
    states = {f"state.{following(state)}": f"state.{state}" for state in sorted(graph.states)}
    pipeline: dict[str, Any] = {
        "data_flow": {},
        "feedback_flow": {f"{MODEL}/{source}": [f"{MODEL}/{target}"] for source, target in states.items()},
        "inputs": {MODEL: [tensor["name"] for tensor in inputs if tensor["name"] not in states.values()]},
        "outputs": {MODEL: [tensor["name"] for tensor in outputs if tensor["name"] not in states]},
        "configs": {"environment": environment_of(graph), "description": model.doc_string},
    }
    if _initial_values(graph):
        pipeline["initial_values"] = _initial_name(name)
    return {
        "models": {MODEL: {"inputs": inputs, "outputs": outputs, "parameters": parameters}},
        "pipeline": pipeline,
        "system information": {
            "leapp config version": CONFIG_VERSION,
            "written by": f"kd_agent {kd_agent.__version__}",
        },
    }


def _as_yaml(description: Mapping[str, Any]) -> str:
    """A graph as leapp lays it out: a line a key, and a list of numbers or names in one."""
    import yaml

    class Dumper(yaml.SafeDumper):
        """PyYAML's, which would put short mappings into one line, too."""

        def represent_mapping(self, tag: str, mapping: Any, flow_style: bool | None = None) -> Any:
            """Each key on a line of its own."""
            return super().represent_mapping(tag, mapping, flow_style=False)

    return str(yaml.dump(description, Dumper=Dumper, sort_keys=False, width=120, default_flow_style=None))


def _tensor(value: Any, told: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """One input or output: its type and what its numbers mean."""
    from onnx import helper

    kind = value.type.tensor_type
    # The only open axis is the batch, and LEAPP's hosts ask about one observation at a time.
    shape = [axis.dim_value or 1 for axis in kind.shape.dim]
    dtype = np.dtype(helper.tensor_dtype_to_np_dtype(kind.elem_type)).name
    return {"name": value.name, "dtype": dtype, "shape": shape, "type": "tensor", **told.get(value.name, {})}


def _initial_values(graph: PolicyGraph) -> dict[str, Array]:
    """What the model is told before anybody feeds it: no memory, and everything allowed."""
    values: dict[str, Array] = {}
    for name, shape in graph.states.items():
        values[f"{MODEL}/state.{name}"] = np.zeros((1, *shape), np.float32)
    if graph.head.expects_masks:
        values[f"{MODEL}/{onnx_export.MASKS}"] = np.ones((1, graph.head.num_masks), bool)
    return values


def _initial_name(name: str) -> str:
    """The file of the initial values, as leapp itself calls it."""
    return f"{name}_initial_values.safetensors"
