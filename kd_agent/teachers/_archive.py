"""Reading a Stable-Baselines3 zip as data: nothing in it is executed or unpickled.

Weights come from `policy.pth` (`kd_agent.teachers._state_dict`); spaces and architecture from the readable text that
SB3 writes beside each pickled field of `data`.
The pickled fields, the optimiser and the variables stay unread.
"""

import hashlib
import io
import json
import math
import re
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym

from kd_agent.errors import KDError
from kd_agent.policies import Array
from kd_agent.policies.safe_files import read_capped
from kd_agent.teachers._state_dict import check_members, tensors_of

MAX_FILE = 64 << 20
MAX_DATA = 16 << 20
MEMBERS = {"data": MAX_DATA, "policy.pth": MAX_FILE}
"""What is read of an agent, and how large it may be; the optimiser and the variables stay unread."""


class NotUnderstoodError(KDError):
    """A zip that is whole, but says too little in readable form; SB3's own loader may know more.

    Attributes:
        reason: What is not understood, without the way round.
    """

    def __init__(self, message: str) -> None:
        super().__init__(f"{message} (--trust-teacher lets Stable-Baselines3 load it, which runs its code)")
        self.reason = message


@dataclass(frozen=True)
class Archive:
    """What a zip says of its agent.

    Attributes:
        source: Its path.
        sha256: Hash of the file.
        data: The JSON document `data`.
        tensors: The policy's float tensors by name.
        spaces: Observation and action space, where they are known without reading the data.
    """

    source: str
    sha256: str
    data: Mapping[str, Any]
    tensors: Mapping[str, Array]
    spaces: tuple[gym.Space[Any], gym.Space[Any]] | None = None

    @property
    def policy_class(self) -> str:
        """Class name of the policy, read from the text of its functions."""
        # SB3 writes no name of the class, but the text of its methods, each of which tells where it was defined.
        text = _text_of(self.data.get("policy_class"))
        found = re.search(r"<function (\w+)\.__init__", text)
        if not found:
            raise NotUnderstoodError(
                f"{self.source}: the class of its policy is not readable (module {self.policy_module!r})"
            )
        return found.group(1)

    @property
    def policy_module(self) -> str:
        """Module of the policy's class ("" if unreadable)."""
        record = self.data.get("policy_class")
        if not isinstance(record, dict):
            return ""
        return str(record.get("__module__", ""))

    def policy_kwarg(self, name: str, default: Any = None) -> Any:
        """A value (or the text of one) of `policy_kwargs`.

        Args:
            name: Which.
            default: What stands for it where nothing is said.
        """
        kwargs = self.data.get("policy_kwargs")
        if not isinstance(kwargs, dict):
            return default
        return kwargs.get(name, default)

    def policy_number(self, name: str, default: float) -> float:
        """A finite number of `policy_kwargs`.

        Args:
            name: Which.
            default: What stands for it where nothing is said.

        Raises:
            NotUnderstoodError: It is something else.
        """
        value = self.policy_kwarg(name, default)
        if not isinstance(value, int | float) or not math.isfinite(value):
            raise NotUnderstoodError(f"{self.source}: {name} = {str(value)[:40]!r} is no number")
        return float(value)


def read(path: str | Path) -> Archive:
    """Read an agent's zip, or the folder that somebody unpacked it into.

    Raises:
        KDError: It is no SB3 zip, is damaged or hostile, or lacks something; one line.
    """
    source = str(path)
    if Path(path).is_dir():
        parts = {name: read_capped(Path(path) / name, limit) for name, limit in MEMBERS.items()}
        whole = b"".join(parts.values())
    else:
        whole = read_capped(path, MAX_FILE)
        parts = _members(whole, source)
    data = _parse(parts["data"], source)
    return Archive(source, hashlib.sha256(whole).hexdigest(), data, tensors_of(parts["policy.pth"], source))


def _text_of(record: Any) -> str:
    """All that a field of `data` says in readable form."""
    if isinstance(record, dict):
        return " ".join(map(str, record.values()))
    return str(record)


def _members(raw: bytes, source: str) -> dict[str, bytes]:
    """The content of the members that are read."""
    try:
        archive = zipfile.ZipFile(io.BytesIO(raw))
        check_members(archive, len(raw), source)
        for name in MEMBERS:
            if name not in archive.namelist():
                is_torch = any(member.endswith("/data.pkl") for member in archive.namelist())
                hint = "; files of torch.save are read as .pt, .pth or .cleanrl_model" if is_torch else ""
                raise KDError(f"{source}: not an agent of Stable-Baselines3, it has no {name!r}{hint}")
        return {name: _unpacked(archive, name, limit, source) for name, limit in MEMBERS.items()}
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, EOFError, OSError, RuntimeError, ValueError) as error:
        raise KDError(f"{source}: damaged ({' '.join(str(error).split())[:120]})") from None


def _unpacked(archive: zipfile.ZipFile, name: str, limit: int, source: str) -> bytes:
    """A member's content; more than it declares is never unpacked."""
    info = archive.getinfo(name)
    if info.file_size > limit:
        raise KDError(f"{source}: its {name} exceeds {limit >> 20} MiB")
    # The reader stops at the declared size, and what was cut off there fails its checksum.
    with archive.open(info) as member:
        content = member.read(limit + 1)
    if len(content) != info.file_size:
        raise KDError(f"{source}: its {name} is not of the size that it declares")
    return content


def _parse(raw: bytes, source: str) -> dict[str, Any]:
    try:
        data = json.loads(raw)
    except (ValueError, RecursionError):
        raise KDError(f"{source}: its data are not JSON") from None
    if not isinstance(data, dict):
        raise KDError(f"{source}: its data are not a JSON object")
    return data
