"""A PolicyGraph, or the TaskGraph of several tasks, as one safetensors file, and the guarded reader.

The file is an ordinary safetensors file whose metadata hold one JSON document: format, program,
head, spaces, provenance, and the SHA-256 of the whole file with the digest's own 64 digits read as
zeros. A flipped byte anywhere is therefore noticed, and nothing in a file is ever executed.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from kd_agent.errors import KDError
from kd_agent.policies._file_ops import describe_ops, packed_bytes, read_ops
from kd_agent.policies.graph import ObservationSpec, PolicyGraph, plays_sampled
from kd_agent.policies.head import Array, HeadSpec
from kd_agent.policies.multitask_graph import Task, TaskGraph
from kd_agent.policies.safe_files import read_capped, write_atomically

FORMAT = 1
"""The format of one policy."""
TASKS_FORMAT = 2
"""The format of several tasks; the operations that they share are stored once."""
MASKS_FORMAT = 3
"""Either of them, played with action masks: a reader that knew nothing of masks would let it play without."""
SAMPLED_FORMAT = 4
"""Any of them, played by samples: a reader that knew nothing of that would let it play greedily."""
PACKED_FORMAT = 5
"""Any of them, with weights of 4 bits or less that are stored as such."""
# Far beyond any student (tens of KiB), and little enough for whoever opens a stranger's file.
MAX_FILE = 64 << 20
MAX_HEADER = 1 << 20
MAX_TENSORS = 256
_KEY = "kd_agent"
_BLANK = "0" * 64
"""What stands in the digest's place while the digest is made."""
_DAMAGE = (KeyError, TypeError, ValueError, AttributeError, OverflowError)
"""What reading a forged description may raise."""


def to_bytes(graph: PolicyGraph | TaskGraph) -> bytes:
    """The file's content; the same graph gives the same bytes."""
    tensors: dict[str, Array] = {}
    document = _describe_tasks(graph, tensors) if isinstance(graph, TaskGraph) else _describe(graph, tensors)
    document |= {"format": _format(graph, packed=packed_bytes(tensors) > 0), "provenance": dict(graph.provenance)}
    # A provenance may hold a row of zeros, but not the digest of the document that it is part of: that marks the place.
    place = hashlib.sha256(_dumped(document).encode()).hexdigest()
    document["sha256"] = place
    raw = save(tensors, {_KEY: _dumped(document)})
    digest = hashlib.sha256(raw.replace(place.encode(), _BLANK.encode())).hexdigest()
    return raw.replace(place.encode(), digest.encode())


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
    """Inverse of `to_bytes`, for all tasks of a file.

    Args:
        raw: The file's content.
        source: The name to use in messages.

    Raises:
        KDError: As by `from_bytes`; or the file holds one policy, not several tasks.
    """
    try:
        graph = _graph(raw)
        if not isinstance(graph, TaskGraph):
            raise KDError(f"holds one policy, of {graph.provenance.get('env')}, not several tasks")
    except KDError as error:
        raise KDError(f"{source}: {error}") from None
    return graph


def write(graph: PolicyGraph | TaskGraph, path: str | os.PathLike[str]) -> Path:
    """Write the file atomically.

    Args:
        graph: The policy, or the tasks.
        path: The file; its folder exists.

    Returns:
        Its path.
    """
    write_atomically(Path(path), to_bytes(graph))
    return Path(path)


def read(path: str | os.PathLike[str], task: str | None = None) -> PolicyGraph:
    """Read one policy.

    Args:
        path: The file.
        task: Which task's, where the file holds several.

    Raises:
        KDError: The file is missing or too large, or as by `from_bytes`.
    """
    return from_bytes(read_capped(path, MAX_FILE), str(path), task)


def read_tasks(path: str | os.PathLike[str]) -> TaskGraph:
    """Read a file of several tasks; raises KDError where that is impossible."""
    return tasks_from_bytes(read_capped(path, MAX_FILE), str(path))


def _format(graph: PolicyGraph | TaskGraph, *, packed: bool) -> int:
    """The oldest format whose readers let every policy play as it is meant to."""
    if packed:
        return PACKED_FORMAT
    policies = graph.tasks.values() if isinstance(graph, TaskGraph) else [graph]
    if any(plays_sampled(policy.provenance) for policy in policies):
        return SAMPLED_FORMAT
    if any(policy.head.expects_masks for policy in policies):
        return MASKS_FORMAT
    return TASKS_FORMAT if isinstance(graph, TaskGraph) else FORMAT


def _describe(graph: PolicyGraph, tensors: dict[str, Array]) -> dict[str, Any]:
    """One policy's description; its tensors are put into `tensors`."""
    described = {
        "observations": _describe_observations(graph.observations),
        "ops": describe_ops(graph.ops, "", tensors),
        "head": graph.head.to_json(),
    }
    # Only where there are any, so that files without a memory are the same bytes as ever.
    if graph.states:
        described["states"] = dict(graph.states)
    return described


def _describe_tasks(graph: TaskGraph, tensors: dict[str, Array]) -> dict[str, Any]:
    """The description of several tasks; their tensors are put into `tensors`."""
    tasks = {}
    # Tensors are named by a task's number: its own name may hold dots.
    for index, (name, own) in enumerate(sorted(graph.tasks.items())):
        tasks[name] = {
            "observations": _describe_observations(own.observations),
            "before": describe_ops(own.before, f"{index}.before.", tensors),
            "after": describe_ops(own.after, f"{index}.after.", tensors),
            "head": own.head.to_json(),
            "provenance": dict(own.provenance),
        }
    return {"shared": describe_ops(graph.shared, "shared.", tensors), "tasks": tasks}


def _describe_observations(observations: Mapping[str, ObservationSpec]) -> dict[str, Any]:
    described: dict[str, Any] = {}
    for key, spec in observations.items():
        described[key] = {"shape": spec.shape, "dtype": spec.dtype}
        if spec.categories:
            described[key]["categories"] = spec.categories
    return described


def _graph(raw: bytes) -> PolicyGraph | TaskGraph:
    document, tensors = _unpack(raw)
    packed = packed_bytes(tensors) > 0
    graph = _read_tasks(document, tensors) if "tasks" in document else _read(document, tensors)
    # Operations took theirs out: what is left would be freight that no check has looked at.
    if tensors:
        raise KDError("damaged: tensors that no operation uses")
    if _format(graph, packed=packed) != document["format"]:
        raise KDError("damaged: its format and its policies differ about action masks, samples, tasks or packing")
    return graph


def _unpack(raw: bytes) -> tuple[dict[str, Any], dict[str, Array]]:
    """The document and the tensors of a file whose sizes and digest are right.

    Its header is looked at before safetensors reads the whole: that header is a stranger's too.
    """
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
    if document.get("format") not in range(FORMAT, PACKED_FORMAT + 1):
        raise KDError(f"format {document.get('format')!r} is not known here (up to {PACKED_FORMAT}); update kd_agent")
    digest = str(document.get("sha256")).encode("ascii", "replace")
    blanked = raw.replace(digest, _BLANK.encode(), 1)
    if len(digest) != 64 or hashlib.sha256(blanked).hexdigest().encode() != digest:
        raise KDError("damaged: its content does not match its SHA-256")
    try:
        tensors = load(raw)
    except (SafetensorError, ValueError, KeyError, OverflowError) as error:
        raise KDError(f"damaged: {error}") from None
    # A byte becomes up to five numbers: a small file is not to ask for much more memory than a large one.
    if packed_bytes(tensors) > MAX_FILE // 8:
        raise KDError(f"more than {MAX_FILE >> 23} MiB of packed weights")
    return document, tensors


def _read(document: dict[str, Any], tensors: dict[str, Array]) -> PolicyGraph:
    """One policy from its description; its tensors are taken out of `tensors`."""
    try:
        ops = read_ops(document["ops"], tensors)
        observations = _read_observations(document["observations"])
        provenance = dict(document["provenance"])
        states = {str(name): tuple(map(int, shape)) for name, shape in document.get("states", {}).items()}
        head = HeadSpec.from_json(document["head"])
    except _DAMAGE as error:
        raise KDError(f"its description is damaged: {error!r}") from None
    return PolicyGraph(observations, ops, head, provenance, states)


def _read_tasks(document: dict[str, Any], tensors: dict[str, Array]) -> TaskGraph:
    """Several tasks from their description; their tensors are taken out of `tensors`."""
    try:
        shared = read_ops(document["shared"], tensors)
        tasks = {}
        for name, own in document["tasks"].items():
            tasks[str(name)] = Task(
                observations=_read_observations(own["observations"]),
                before=read_ops(own["before"], tensors),
                after=read_ops(own["after"], tensors),
                head=HeadSpec.from_json(own["head"]),
                provenance=dict(own["provenance"]),
            )
        provenance = dict(document["provenance"])
    except _DAMAGE as error:
        raise KDError(f"its description is damaged: {error!r}") from None
    return TaskGraph(shared, tasks, provenance)


def _read_observations(plain: Any) -> dict[str, ObservationSpec]:
    observations = {}
    for key, spec in plain.items():
        shape = tuple(map(int, spec["shape"]))
        categories = tuple(map(int, spec.get("categories", ())))
        observations[str(key)] = ObservationSpec(shape, np.dtype(str(spec["dtype"])).name, categories)
    return observations


def _dumped(document: Mapping[str, Any]) -> str:
    return json.dumps(document, sort_keys=True, allow_nan=False)


def _json(text: str) -> dict[str, Any]:
    def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        # Two readers could else take different ones, and a check see another value than what runs.
        if len(found) != len(pairs):
            raise KDError("damaged: a key appears twice")
        return found

    try:
        value = json.loads(text, object_pairs_hook=_unique)
    except (ValueError, RecursionError):
        raise KDError("damaged: its header is not JSON") from None
    if not isinstance(value, dict):
        raise KDError("damaged: its header is not an object")
    return value
