"""The operations of a policy's file: a document, and tensors by name, those on a narrow grid packed."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from kd_agent.errors import KDError
from kd_agent.policies.graph import Op
from kd_agent.policies.head import Array
from kd_agent.policies.packed import exactly, pack, unpack

_DTYPES = frozenset({"float32", "int32", "int8"})
"""What a tensor may be that is not packed."""


def describe_ops(ops: Sequence[Op], prefix: str, tensors: dict[str, Array]) -> list[dict[str, Any]]:
    """The document's part on some operations.

    Args:
        ops: The operations.
        prefix: What their tensors' names begin with.
        tensors: The file's tensors by name, to which theirs are added.
    """
    described = []
    for index, op in enumerate(ops):
        names: dict[str, Any] = {}
        for role in sorted(op.tensors):
            names[role] = _stored(op, role, f"{prefix}{index}.{role}", tensors)
        plain = {"kind": op.kind, "inputs": op.inputs, "output": op.output, "attributes": dict(op.attributes)}
        described.append({**plain, "tensors": names})
    return described


def read_ops(plain: Any, tensors: dict[str, Array]) -> tuple[Op, ...]:
    """Inverse of `describe_ops`.

    Args:
        plain: The document's part.
        tensors: The file's tensors by name, out of which theirs are taken.

    Raises:
        KDError: A tensor is of a strange type or its packing is none; forged documents raise more.
    """
    ops = []
    for op in plain:
        own = {str(role): _taken(stored, tensors) for role, stored in op["tensors"].items()}
        if not {tensor.dtype.name for tensor in own.values()} <= _DTYPES:
            raise KDError("damaged: a tensor of a strange type")
        inputs = tuple(map(str, op["inputs"]))
        ops.append(Op(str(op["kind"]), inputs, str(op["output"]), dict(op["attributes"]), own))
    return tuple(ops)


def packed_bytes(tensors: Mapping[str, Array]) -> int:
    """Bytes of packed digits among a file's tensors: nothing else is of bytes."""
    return sum(array.nbytes for array in tensors.values() if array.dtype == np.uint8)


def _stored(op: Op, role: str, name: str, tensors: dict[str, Array]) -> Any:
    """Put a tensor into `tensors`; what the document says of it: its name, or how it is packed."""
    packed = exactly(op.tensors[role]) if (op.kind, role) == ("linear", "weight") else None
    if packed is None:
        tensors[name] = np.ascontiguousarray(op.tensors[role])
        return name
    digits, scale = f"{name}.digits", f"{name}.scale"
    tensors[digits], tensors[scale] = pack(packed), packed.scale
    return {"digits": digits, "scale": scale, "inputs": packed.whole.shape[1], "largest": packed.largest}


def _taken(stored: Any, tensors: dict[str, Array]) -> Array:
    """Inverse of `_stored`: a tensor, taken out of `tensors`."""
    if isinstance(stored, str):
        return tensors.pop(stored)
    digits, scale = tensors.pop(stored["digits"]), tensors.pop(stored["scale"])
    return unpack(digits, scale, stored["inputs"], stored["largest"]).weight
