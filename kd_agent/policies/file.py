"""A PolicyGraph, or the TaskGraph of several tasks, as one safetensors file, and the guarded reader.

The file is an ordinary safetensors file whose metadata hold one JSON document: format, program,
head, spaces, provenance, and the SHA-256 of the whole file with the digest's own 64 digits read as
zeros. A flipped byte anywhere is therefore noticed, and nothing in a file is ever executed.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from kd_agent.errors import KDError
from kd_agent.policies.graph import ObservationSpec, Op, PolicyGraph
from kd_agent.policies.head import Array, HeadSpec
from kd_agent.policies.multitask_graph import Task, TaskGraph
from kd_agent.policies.safe_files import read_capped, write_atomically

FORMAT = 1
"""The format of one policy."""
TASKS_FORMAT = 2
"""The format of several tasks; the operations that they share are stored once."""
MAX_FILE = 64 << 20
MAX_HEADER = 1 << 20
MAX_TENSORS = 256
_KEY = "kd_agent"
_BLANK = "0" * 64
_PLACE = rb"\"sha256\": \"" + _BLANK.encode()
"""The digest's place: a string within JSON within JSON."""
_DTYPES = ("float32", "int32", "int8")
_DAMAGE = (KeyError, TypeError, ValueError, AttributeError, OverflowError)


def to_bytes(graph: PolicyGraph | TaskGraph) -> bytes:
    """The file's content; the same graph gives the same bytes."""
    tensors: dict[str, Array] = {}
    described = _describe_tasks(graph, tensors) if isinstance(graph, TaskGraph) else _describe(graph, tensors)
    document = {**described, "sha256": _BLANK, "provenance": dict(graph.provenance)}
    raw = save(tensors, {_KEY: json.dumps(document, sort_keys=True, allow_nan=False)})
    before, place, after = raw.rpartition(_PLACE)
    return before + place.replace(_BLANK.encode(), hashlib.sha256(raw).hexdigest().encode()) + after


def from_bytes(raw: bytes, source: str = "student", task: str | None = None) -> PolicyGraph:
    """Inverse of `to_bytes`, for one policy.

    Args:
        raw: The file's content.
        source: The name to use in messages.
        task: Which task's, where the file holds several.

    Raises:
        KDError: The bytes are damaged, too large, of a newer format, or not a policy; or the task is not
            named or not there.
    """
    try:
        graph = _graph(raw)
        if isinstance(graph, TaskGraph):
            return graph.task(task)
        if task not in (None, graph.provenance.get("env")):
            raise KDError(f"holds one policy, of {graph.provenance.get('env')}, and no task {task!r}")
    except KDError as error:
        raise KDError(f"{source}: {error}") from None
    return graph


def tasks_from_bytes(raw: bytes, source: str = "student") -> TaskGraph:
    """Inverse of `to_bytes`, for all tasks of a file; raises KDError as `from_bytes` does."""
    try:
        graph = _graph(raw)
        if not isinstance(graph, TaskGraph):
            raise KDError(f"holds one policy, of {graph.provenance.get('env')}, not several tasks")
    except KDError as error:
        raise KDError(f"{source}: {error}") from None
    return graph


def write(graph: PolicyGraph | TaskGraph, path: str | os.PathLike[str]) -> Path:
    """Write the file atomically and return its path."""
    path = Path(path)
    write_atomically(path, to_bytes(graph))
    return path


def read(path: str | os.PathLike[str], task: str | None = None) -> PolicyGraph:
    """Read a policy file, or one task of a file of several; raises KDError where that is impossible."""
    return from_bytes(read_capped(path, MAX_FILE), str(path), task)


def read_tasks(path: str | os.PathLike[str]) -> TaskGraph:
    """Read a file of several tasks; raises KDError where that is impossible."""
    return tasks_from_bytes(read_capped(path, MAX_FILE), str(path))


def _describe(graph: PolicyGraph, tensors: dict[str, Array]) -> dict[str, Any]:
    """One policy's description; its tensors are put into `tensors`."""
    described = {"format": FORMAT, "observations": _describe_observations(graph.observations),
                 "ops": _describe_ops(graph.ops, "", tensors), "head": graph.head.to_json()}  # fmt: skip
    return {**described, "states": dict(graph.states)} if graph.states else described


def _describe_tasks(graph: TaskGraph, tensors: dict[str, Array]) -> dict[str, Any]:
    """The description of several tasks; their tensors are put into `tensors`."""
    tasks = {
        name: {
            "observations": _describe_observations(own.observations),
            "before": _describe_ops(own.before, f"{index}.before.", tensors),
            "after": _describe_ops(own.after, f"{index}.after.", tensors),
            "head": own.head.to_json(),
            "provenance": dict(own.provenance),
        }
        for index, (name, own) in enumerate(sorted(graph.tasks.items()))
    }
    return {"format": TASKS_FORMAT, "shared": _describe_ops(graph.shared, "shared.", tensors), "tasks": tasks}


def _describe_ops(ops: Sequence[Op], prefix: str, tensors: dict[str, Array]) -> list[dict[str, Any]]:
    described = []
    for index, op in enumerate(ops):
        names = {role: f"{prefix}{index}.{role}" for role in sorted(op.tensors)}
        tensors |= {name: np.ascontiguousarray(op.tensors[role]) for role, name in names.items()}
        described.append({"kind": op.kind, "inputs": op.inputs, "output": op.output,
                          "attributes": dict(op.attributes), "tensors": names})  # fmt: skip
    return described


def _describe_observations(observations: Mapping[str, ObservationSpec]) -> dict[str, Any]:
    return {
        k: {"shape": s.shape, "dtype": s.dtype} | ({"categories": s.categories} if s.categories else {})
        for k, s in observations.items()
    }


def _graph(raw: bytes) -> PolicyGraph | TaskGraph:
    document, tensors = _unpack(raw)
    graph = _read_tasks(document, tensors) if document["format"] == TASKS_FORMAT else _read(document, tensors)
    if tensors:
        raise KDError("damaged: tensors that no operation uses")
    return graph


def _unpack(raw: bytes) -> tuple[dict[str, Any], dict[str, Array]]:
    size = int.from_bytes(raw[:8], "little")
    if len(raw) < 8 or size > min(MAX_HEADER, len(raw) - 8):
        raise KDError("not a safetensors file, or cut short")
    header = _json(raw[8 : 8 + size].decode("utf-8", "replace"))
    if len(header) > MAX_TENSORS + 1:
        raise KDError(f"more than {MAX_TENSORS} tensors")
    metadata = header.get("__metadata__")
    if not isinstance(metadata, dict) or not isinstance(metadata.get(_KEY), str):
        raise KDError("a safetensors file, but not one of a kd_agent policy")
    document = _json(metadata[_KEY])
    if document.get("format") not in (FORMAT, TASKS_FORMAT):
        raise KDError(f"format {document.get('format')!r} is not known here (this is {TASKS_FORMAT}); update kd_agent")
    digest = str(document.get("sha256")).encode("ascii", "replace")
    if len(digest) != 64 or hashlib.sha256(raw.replace(digest, _BLANK.encode(), 1)).hexdigest().encode() != digest:
        raise KDError("damaged: its content does not match its SHA-256")
    try:
        tensors = load(raw)
    except (SafetensorError, ValueError, KeyError, OverflowError) as error:
        raise KDError(f"damaged: {error}") from None
    return document, tensors


def _read(document: dict[str, Any], tensors: dict[str, Array]) -> PolicyGraph:
    """One policy from its description; its tensors are taken out of `tensors`."""
    try:
        ops = _read_ops(document["ops"], tensors)
        observations = _read_observations(document["observations"])
        provenance = dict(document["provenance"])
        states = {str(k): tuple(map(int, shape)) for k, shape in document.get("states", {}).items()}
        head = HeadSpec.from_json(document["head"])
    except _DAMAGE as error:
        raise KDError(f"its description is damaged: {error!r}") from None
    return PolicyGraph(observations, ops, head, provenance, states)


def _read_tasks(document: dict[str, Any], tensors: dict[str, Array]) -> TaskGraph:
    """Several tasks from their description; their tensors are taken out of `tensors`."""
    try:
        shared = _read_ops(document["shared"], tensors)
        tasks = {
            str(name): Task(
                observations=_read_observations(own["observations"]),
                before=_read_ops(own["before"], tensors),
                after=_read_ops(own["after"], tensors),
                head=HeadSpec.from_json(own["head"]),
                provenance=dict(own["provenance"]),
            )
            for name, own in document["tasks"].items()
        }
        provenance = dict(document["provenance"])
    except _DAMAGE as error:
        raise KDError(f"its description is damaged: {error!r}") from None
    return TaskGraph(shared, tasks, provenance)


def _read_ops(plain: Any, tensors: dict[str, Array]) -> tuple[Op, ...]:
    ops = tuple(
        Op(
            kind=str(op["kind"]),
            inputs=tuple(map(str, op["inputs"])),
            output=str(op["output"]),
            attributes=dict(op["attributes"]),
            tensors={str(role): tensors.pop(name) for role, name in op["tensors"].items()},
        )
        for op in plain
    )
    if any(tensor.dtype.name not in _DTYPES for op in ops for tensor in op.tensors.values()):
        raise KDError("damaged: a tensor of a strange type")
    return ops


def _read_observations(plain: Any) -> dict[str, ObservationSpec]:
    return {
        str(k): ObservationSpec(
            tuple(map(int, s["shape"])), np.dtype(str(s["dtype"])).name, tuple(map(int, s.get("categories", ())))
        )
        for k, s in plain.items()
    }


def _json(text: str) -> dict[str, Any]:
    def unique(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
        pairs = list(pairs)
        if len({k for k, _ in pairs}) != len(pairs):
            raise KDError("damaged: a key appears twice")
        return dict(pairs)

    try:
        value = json.loads(text, object_pairs_hook=unique)
    except (ValueError, RecursionError):
        raise KDError("damaged: its header is not JSON") from None
    if not isinstance(value, dict):
        raise KDError("damaged: its header is not an object")
    return value
