"""Reading a Stable-Baselines3 zip as data: nothing in it is executed or unpickled.

Weights come from `policy.pth` by `torch.load(weights_only=True)` after an allow-list over its opcodes;
spaces and architecture from the readable text that SB3 writes beside each pickled field of `data`.
The pickled fields, the optimiser and the variables stay unread.
"""

import functools
import hashlib
import io
import json
import math
import pickletools
import re
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from kd_agent.errors import KDError
from kd_agent.policies import Array
from kd_agent.policies.safe_files import read_capped

MAX_FILE = 64 << 20
MAX_DATA = 16 << 20
MAX_TENSORS = 256
"""Actor, critics and their targets together: TQC from pixels has some 100."""
_GLOBAL = re.compile(r"collections OrderedDict|torch\._utils _rebuild_tensor_v2|torch (Float|Double|Half|Long)Storage")
_OPCODES = frozenset(
    """PROTO EMPTY_DICT EMPTY_TUPLE MARK STOP GLOBAL REDUCE BUILD BINPERSID SETITEM SETITEMS BINUNICODE
    BININT BININT1 BININT2 NEWTRUE NEWFALSE TUPLE TUPLE1 TUPLE2 TUPLE3 BINPUT LONG_BINPUT BINGET
    LONG_BINGET""".split()  # noqa: SIM905
)


class NotUnderstoodError(KDError):
    """A zip that is whole, but says too little in readable form; SB3's own loader may know more."""

    def __init__(self, message: str) -> None:
        super().__init__(f"{message} (--trust-teacher lets Stable-Baselines3 load it, which runs its code)")


@dataclass(frozen=True)
class Archive:
    """What a zip says of its agent.

    Attributes:
        source: Its path.
        sha256: Hash of the file.
        data: The JSON document `data`.
        tensors: The policy's float tensors by name.
    """

    source: str
    sha256: str
    data: Mapping[str, Any]
    tensors: Mapping[str, Array]

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
    """Read an agent's zip.

    Raises:
        KDError: It is no SB3 zip, is damaged or hostile, or lacks something; one line.
    """
    raw = read_capped(path, MAX_FILE)
    try:
        members = _members(raw, str(path))
        for name in ("data", "policy.pth"):
            if name not in members:
                raise KDError(f"{path}: not an agent of Stable-Baselines3, it has no {name!r}")
        data = _parse(members["data"](), str(path))
        tensors = _tensors(members["policy.pth"](), str(path))
    except (zipfile.BadZipFile, NotImplementedError, EOFError, OSError, RuntimeError, ValueError) as error:
        raise KDError(f"{path}: damaged ({' '.join(str(error).split())[:120]})") from None
    return Archive(str(path), hashlib.sha256(raw).hexdigest(), data, tensors)


def _text_of(record: Any) -> str:
    """All that a field of `data` says in readable form."""
    if isinstance(record, dict):
        return " ".join(map(str, record.values()))
    return str(record)


def _members(raw: bytes, source: str) -> dict[str, Callable[[], bytes]]:
    """Readers of a zip's members: stored, unencrypted, unique, and no larger together than the file."""
    archive = zipfile.ZipFile(io.BytesIO(raw))
    readers: dict[str, Callable[[], bytes]] = {}
    claimed = 0
    for info in archive.infolist():
        # Readers of zips disagree about which of two members of one name counts, so a check could see another one.
        if info.filename in readers:
            raise KDError(f"{source}: a member appears twice")
        # What is only stored cannot swell when it is read, so no bomb gets further than this.
        stored = info.compress_type == zipfile.ZIP_STORED and info.compress_size == info.file_size
        encrypted = info.flag_bits & 1
        if not stored or encrypted:
            raise KDError(f"{source}: a member is compressed or encrypted, which Stable-Baselines3 never does")
        claimed += info.file_size
        readers[info.filename] = functools.partial(archive.read, info)
    # Members may overlap in the file: each is then no larger than it, and all of them together are.
    if claimed > len(raw):
        raise KDError(f"{source}: its members claim more bytes than the file has")
    return readers


def _parse(raw: bytes, source: str) -> dict[str, Any]:
    if len(raw) > MAX_DATA:
        raise KDError(f"{source}: its data exceed {MAX_DATA >> 20} MiB")
    try:
        data = json.loads(raw)
    except (ValueError, RecursionError):
        raise KDError(f"{source}: its data are not JSON") from None
    if not isinstance(data, dict):
        raise KDError(f"{source}: its data are not a JSON object")
    return data


def _tensors(raw: bytes, source: str) -> dict[str, Array]:
    program = [reader for name, reader in _members(raw, source).items() if name.endswith("/data.pkl")]
    if len(program) != 1:
        raise KDError(f"{source}: policy.pth is not a state dict of torch")
    _check_program(program[0](), source)
    try:
        state = torch.load(io.BytesIO(raw), weights_only=True, map_location="cpu")
    except Exception as error:  # torch raises all kinds on damage
        raise KDError(f"{source}: policy.pth cannot be read ({type(error).__name__})") from None
    if not isinstance(state, dict) or not 0 < len(state) <= MAX_TENSORS:
        raise KDError(f"{source}: policy.pth is not a state dict of torch")
    return {str(name): _array(tensor, str(name), source) for name, tensor in state.items()}


def _check_program(raw: bytes, source: str) -> None:
    """Let only the few opcodes and names pass that a state dict consists of."""
    limit = len(raw)
    for opcode, argument, _ in pickletools.genops(raw):
        if opcode.name not in _OPCODES:
            raise KDError(f"{source}: policy.pth holds more than tensors ({opcode.name})")
        if opcode.name == "GLOBAL" and not _GLOBAL.fullmatch(str(argument)):
            raise KDError(f"{source}: policy.pth names {argument!r}, which is no tensor")
        # Pickle's memo is an array that grows to the largest index: a few bytes could claim gigabytes.
        if opcode.name.endswith("PUT") and int(argument or 0) > limit:
            raise KDError(f"{source}: policy.pth is damaged")


def _array(tensor: Any, name: str, source: str) -> Array:
    if not isinstance(tensor, torch.Tensor) or tensor.layout != torch.strided or tensor.is_quantized:
        raise KDError(f"{source}: {name} is not a dense tensor")
    # A stride of 0 lets one number stand for a terabyte, which NumPy would then write out.
    if not tensor.is_contiguous() or tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        raise KDError(f"{source}: {name} claims more numbers than it has")
    array = tensor.detach().numpy().astype(np.float32)
    if not np.isfinite(array).all():
        raise KDError(f"{source}: {name} is NaN or infinite")
    return array
