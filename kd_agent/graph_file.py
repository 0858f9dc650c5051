"""A PolicyGraph as one safetensors file, and the guarded reader.

The file is an ordinary safetensors file whose metadata hold one JSON document: format, program,
head, spaces, provenance, and the SHA-256 of the whole file with the digest's own 64 digits read as
zeros. A flipped byte anywhere is therefore noticed, and nothing in a file is ever executed.
"""

import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from kd_agent.errors import KDError
from kd_agent.files import read_capped, write_atomically
from kd_agent.graph import ObservationSpec, Op, PolicyGraph
from kd_agent.head import Array, HeadSpec

FORMAT = 1
MAX_FILE = 64 << 20
MAX_HEADER = 1 << 20
MAX_TENSORS = 256
_KEY = "kd_agent"
_BLANK = "0" * 64
_DTYPES = ("float32", "int32", "int8")


def to_bytes(graph: PolicyGraph) -> bytes:
    """The file's content; the same graph gives the same bytes."""
    tensors: dict[str, Array] = {}
    ops = []
    for index, op in enumerate(graph.ops):
        names = {role: f"{index}.{role}" for role in sorted(op.tensors)}
        tensors |= {name: np.ascontiguousarray(op.tensors[role]) for role, name in names.items()}
        ops.append({"kind": op.kind, "inputs": op.inputs, "output": op.output,
                    "attributes": dict(op.attributes), "tensors": names})  # fmt: skip
    document = {
        "format": FORMAT,
        "sha256": _BLANK,
        "observations": {
            k: {"shape": s.shape, "dtype": s.dtype} | ({"categories": s.categories} if s.categories else {})
            for k, s in graph.observations.items()
        },
        "ops": ops,
        "head": graph.head.to_json(),
        "provenance": dict(graph.provenance),
    }
    if graph.states:
        document["states"] = dict(graph.states)
    raw = save(tensors, {_KEY: json.dumps(document, sort_keys=True, allow_nan=False)})
    return raw.replace(_BLANK.encode(), hashlib.sha256(raw).hexdigest().encode(), 1)


def from_bytes(raw: bytes, source: str = "student") -> PolicyGraph:
    """Inverse of `to_bytes`.

    Args:
        raw: The file's content.
        source: The name to use in messages.

    Raises:
        KDError: The bytes are damaged, too large, of a newer format, or not a policy.
    """
    try:
        return _from_document(*_unpack(raw))
    except KDError as error:
        raise KDError(f"{source}: {error}") from None


def write(graph: PolicyGraph, path: str | os.PathLike[str]) -> Path:
    """Write the file atomically and return its path."""
    path = Path(path)
    write_atomically(path, to_bytes(graph))
    return path


def read(path: str | os.PathLike[str]) -> PolicyGraph:
    """Read a policy file; raises KDError where that is impossible."""
    return from_bytes(read_capped(path, MAX_FILE), str(path))


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
    if document.get("format") != FORMAT:
        raise KDError(f"format {document.get('format')!r} is not known here (this is {FORMAT}); update kd_agent")
    digest = str(document.get("sha256")).encode("ascii", "replace")
    if len(digest) != 64 or hashlib.sha256(raw.replace(digest, _BLANK.encode(), 1)).hexdigest().encode() != digest:
        raise KDError("damaged: its content does not match its SHA-256")
    try:
        tensors = load(raw)
    except (SafetensorError, ValueError, KeyError, OverflowError) as error:
        raise KDError(f"damaged: {error}") from None
    return document, tensors


def _from_document(document: dict[str, Any], tensors: dict[str, Array]) -> PolicyGraph:
    try:
        ops = tuple(
            Op(
                kind=str(op["kind"]),
                inputs=tuple(map(str, op["inputs"])),
                output=str(op["output"]),
                attributes=dict(op["attributes"]),
                tensors={str(role): tensors.pop(name) for role, name in op["tensors"].items()},
            )
            for op in document["ops"]
        )
        observations = {
            str(k): ObservationSpec(
                tuple(map(int, s["shape"])), np.dtype(str(s["dtype"])).name, tuple(map(int, s.get("categories", ())))
            )
            for k, s in document["observations"].items()
        }
        provenance = dict(document["provenance"])
        states = {str(k): tuple(map(int, shape)) for k, shape in document.get("states", {}).items()}
        head = HeadSpec.from_json(document["head"])
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise KDError(f"its description is damaged: {error!r}") from None
    used = [tensor for op in ops for tensor in op.tensors.values()]
    if tensors or any(tensor.dtype.name not in _DTYPES for tensor in used):
        raise KDError("damaged: tensors that no operation uses, or of a strange type")
    return PolicyGraph(observations, ops, head, provenance, states)


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
