"""A file of `torch.save` as data: tensors by dotted name, and plain values, whatever the object that was saved.

Nothing is unpickled (`kd_agent.teachers._pickled`), and torch reads nothing: numbers are taken from the bytes.
"""

import hashlib
import math
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from kd_agent.errors import KDError
from kd_agent.policies import Array
from kd_agent.policies.safe_files import read_capped
from kd_agent.teachers._pickled import MAX_BYTES, Built, read_pickle
from kd_agent.teachers._torch_file import Members, Stored, tensor_of

MAX_FILE = 64 << 20
MAX_NAMES = 50_000
"""Tensors, values and what holds them, in one file."""
MAX_DEPTH = 32
"""Levels of what holds what."""
MAX_TENSORS = 1024
"""Of a policy; an optimiser's are not read."""
SUFFIXES = (".pt", ".pth", ".cleanrl_model")
"""How files of `torch.save` are called: a zip of such a name is none of Stable-Baselines3's."""


@dataclass(frozen=True)
class Outline:
    """What a file holds, without its numbers.

    Attributes:
        root: The object that was saved, as `read_pickle` has it.
        stored: Its tensors by dotted name.
        values: All else by dotted name.
        script: Whether it is TorchScript's.
    """

    root: Any
    stored: Mapping[str, Stored]
    values: Mapping[str, Any]
    script: bool


@dataclass(frozen=True)
class Checkpoint:
    """A file of `torch.save`.

    Attributes:
        source: Its path.
        sha256: Hash of the file.
        outline: What it holds.
        members: Its members' content by name, of those that were read.
    """

    source: str
    sha256: str
    outline: Outline
    members: Members = field(repr=False)

    def tensors(self, prefix: str = "") -> dict[str, Array]:
        """The tensors below a name, which is left off; float32.

        Args:
            prefix: The name, with its dot; "": all.

        Raises:
            KDError: One of them is not dense or not finite, or together they claim more than the file has.
        """
        chosen = {name: stored for name, stored in self.outline.stored.items() if name.startswith(prefix)}
        if len(chosen) > MAX_TENSORS:
            raise KDError(f"{self.source}: more than {MAX_TENSORS} tensors")
        arrays: dict[str, Array] = {}
        seen: dict[Stored, Array] = {}
        claimed = 0
        for name, stored in chosen.items():
            if stored not in seen:
                # Tensors that share a storage part it among them: a small file could else claim gigabytes.
                claimed += math.prod(stored.shape)
                if claimed > self.members.size:
                    raise KDError(f"{self.source}: claims more numbers than it has")
                seen[stored] = self.array(stored, name)
            arrays[name.removeprefix(prefix)] = seen[stored]
        return arrays

    def array(self, stored: Stored, name: str, folder: str = "data") -> Array:
        """One tensor, float32.

        Args:
            stored: Where it lies.
            name: Its name, for messages.
            folder: Where its storage lies: "data", or "constants" of TorchScript's code.

        Raises:
            KDError: It is not dense, has more numbers than its storage, or one that is not finite.
        """
        try:
            return self.members.array(stored, folder)
        except KDError as error:
            raise KDError(f"{self.source}: {name} {error}") from None


def read_checkpoint(source: str) -> Checkpoint:
    """Read a file of `torch.save`, or of TorchScript.

    Args:
        source: Its path.

    Raises:
        KDError: It is missing, no such file, damaged or hostile; one line.
    """
    raw = read_capped(source, MAX_FILE)
    members = Members(raw, source)
    if "byteorder" in members.names and members.read("byteorder", 16) != b"little":
        raise KDError(f"{source}: its numbers are of big-endian order, which is not read")
    return Checkpoint(source, hashlib.sha256(raw).hexdigest(), _outline(members), members)


def outline_of(source: Any) -> Outline | None:
    """What a torch file holds, without reading its numbers; None where it is none.

    Args:
        source: What names a teacher.
    """
    if not isinstance(source, str) or not source.endswith(SUFFIXES):
        return None
    try:
        state = Path(source).stat()
    except (OSError, ValueError):
        return None
    # A pipe would be waited for.
    if not stat.S_ISREG(state.st_mode):
        return None
    return _remembered(source, state.st_mtime_ns, state.st_size)


@lru_cache(maxsize=4)
def _remembered(source: str, changed: int, size: int) -> Outline | None:
    """The outline of a file as it was then, for several plug-ins ask for it; once it changed it is another."""
    try:
        return _outline(Members(source, source))
    except KDError:
        return None


def refusal(source: str, libraries: str) -> KDError | None:
    """Why a torch file is no teacher; None for files of other kinds.

    Args:
        source: Its path.
        libraries: What it was held against, for the message.
    """
    if not source.endswith(SUFFIXES):
        return None
    try:
        outline = read_checkpoint(source).outline
    except KDError as error:
        return error
    names = ", ".join(list(outline.stored)[:3]) or "none"
    return KDError(f"{source}: its tensors ({names}, ...) are those of no policy of {libraries}")


def _outline(members: Members) -> Outline:
    root = read_pickle(members.read("data.pkl", MAX_BYTES), members.source)
    stored: dict[str, Stored] = {}
    values: dict[str, Any] = {}
    for name, value in _leaves(root, members.source):
        if isinstance(value, Stored):
            stored[name] = value
        else:
            values[name] = value
    script = any(name.startswith("code/") for name in members.names)
    return Outline(root, stored, values, script)


def _leaves(root: Any, source: str) -> Iterator[tuple[str, Any]]:
    """Tensors and values by dotted name; of an object, what it was given as its state."""
    left = [("", root, 0)]
    visited = 0
    while left:
        name, value, depth = left.pop()
        visited += 1
        # A pickle can hold one list twice, and that twice again: what it says grows without it.
        if visited > MAX_NAMES or depth > MAX_DEPTH:
            raise KDError(f"{source}: holds more than {MAX_NAMES} tensors and values, or deeper than {MAX_DEPTH}")
        try:
            tensor = tensor_of(value)
        except KDError as error:
            raise KDError(f"{source}: {error}") from None
        parts = _parts_of(value)
        if tensor is not None or parts is None:
            yield name, value if tensor is None else tensor
            continue
        for key, part in reversed(parts.items()):
            left.append((f"{name}.{key}" if name else str(key), part, depth + 1))


def _parts_of(value: Any) -> dict[Any, Any] | None:
    """What a container or an object holds, by key; None for a plain value."""
    if isinstance(value, Built) and isinstance(value.state, dict):
        return _members_of_module(value.state)
    if isinstance(value, list | tuple):
        return dict(enumerate(value))
    return value if isinstance(value, dict) else None


def _members_of_module(state: dict[Any, Any]) -> dict[Any, Any]:
    """What a saved object was given; of torch's modules, parameters, buffers and parts under the names they have."""
    members = {}
    for key, part in state.items():
        if key in ("_parameters", "_buffers", "_modules") and isinstance(part, dict):
            members.update(part)
        elif key not in members:
            members[key] = part
    return members
