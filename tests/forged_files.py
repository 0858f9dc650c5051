"""Policy files changed by somebody who knows their format."""

import hashlib
import json
import struct
from collections.abc import Callable
from typing import Any

import numpy as np
from safetensors.numpy import load, save

from kd_agent.policies import file as graph_file
from kd_agent.policies.graph import PolicyGraph

BLANK = "0" * 64


def header_of(raw: bytes) -> tuple[dict[str, Any], bytes]:
    size = int.from_bytes(raw[:8], "little")
    return json.loads(raw[8 : 8 + size]), raw[8 + size :]


def with_header(text: str, body: bytes) -> bytes:
    return struct.pack("<Q", len(text.encode())) + text.encode() + body


def forge(
    graph: PolicyGraph, change: Callable[[dict[str, Any]], Any], tensors: dict[str, np.ndarray] | None = None
) -> bytes:
    """A file whose document was changed by somebody who knows how to hash it again."""
    raw = graph_file.to_bytes(graph)
    document = json.loads(header_of(raw)[0]["__metadata__"]["kd_agent"])
    document["sha256"] = BLANK
    change(document)
    raw = save({**load(raw), **(tensors or {})}, {"kd_agent": json.dumps(document)})
    return raw.replace(BLANK.encode(), hashlib.sha256(raw).hexdigest().encode(), 1)
