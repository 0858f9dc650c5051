"""Tensors of a torch file, in today's format (a zip) or that of torch before 1.6, without running anything in it.

`torch.load(weights_only=True)` reads them after an allow-list over the file's opcodes, because it stops code but not
abuse: a few bytes could claim gigabytes.
"""

import io
import pickletools
import re
import zipfile
from typing import Any

import numpy as np
import torch

from kd_agent.errors import KDError
from kd_agent.policies import Array

MAX_TENSORS = 256
"""Actor, critics and their targets together: TQC from pixels has some 100."""
_MAX_PROGRAM = 1 << 20
"""Bytes of the pickle that describes the tensors, which takes some 150 for each."""
_GLOBAL = re.compile(
    r"collections OrderedDict|torch\._utils _rebuild_tensor_v2|torch (Float|Double|Half|BFloat16|Long)Storage"
)
_OPCODES = frozenset(
    """PROTO EMPTY_DICT EMPTY_TUPLE MARK STOP GLOBAL REDUCE BUILD BINPERSID SETITEM SETITEMS BINUNICODE
    BININT BININT1 BININT2 NEWTRUE NEWFALSE TUPLE TUPLE1 TUPLE2 TUPLE3 BINPUT LONG_BINPUT BINGET
    LONG_BINGET""".split()  # noqa: SIM905
)
_LEGACY = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03."
"""How torch before 1.6 began a file: a magic number, and the version 1001 of its protocol, each a pickle."""
_LEGACY_OPCODES = _OPCODES | {"NONE", "EMPTY_LIST", "APPEND", "APPENDS"}
"""In that format a storage has no view (None), and a list of the storages follows the tensors."""


def tensors_of(raw: bytes, source: str) -> dict[str, Array]:
    """A state dict's tensors by name, float32.

    Args:
        raw: The file's content.
        source: The agent's name for messages.

    Raises:
        KDError: It is no state dict of dense, finite tensors, or claims more than it has.
    """
    try:
        if raw.startswith(_LEGACY):
            _check_legacy(raw, source)
        else:
            _check_zip(raw, source)
        state = torch.load(io.BytesIO(raw), weights_only=True, map_location="cpu")
    except KDError:
        raise
    except Exception as error:  # torch and zipfile raise all kinds on damage
        raise KDError(f"{source}: policy.pth cannot be read ({type(error).__name__})") from None
    if not isinstance(state, dict) or not 0 < len(state) <= MAX_TENSORS:
        raise KDError(f"{source}: policy.pth is not a state dict of torch")
    return _arrays(state, len(raw), source)


def check_members(archive: zipfile.ZipFile, size: int, source: str) -> None:
    """Require a zip's members to be unencrypted, unique, and packed into no more bytes than there are.

    Args:
        archive: The zip.
        size: Bytes of the whole file.
        source: Its name for messages.

    Raises:
        KDError: One of them is not.
    """
    names = set()
    claimed = 0
    for info in archive.infolist():
        # Readers of zips disagree about which of two members of one name counts, so a check could see another one.
        if info.filename in names:
            raise KDError(f"{source}: a member appears twice")
        if info.flag_bits & 1:
            raise KDError(f"{source}: a member is encrypted")
        names.add(info.filename)
        claimed += info.compress_size
    # Members may overlap in the file: each is then no larger than it, and all of them together are.
    if claimed > size:
        raise KDError(f"{source}: its members claim more bytes than the file has")


def _check_zip(raw: bytes, source: str) -> None:
    """Let only a torch file pass whose members are stored as they are and whose program makes tensors alone."""
    try:
        archive = zipfile.ZipFile(io.BytesIO(raw))
    except zipfile.BadZipFile:
        raise KDError(f"{source}: policy.pth is not a state dict of torch") from None
    check_members(archive, len(raw), source)
    for info in archive.infolist():
        # Torch never compresses, and what is only stored cannot swell when torch reads it.
        if info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size:
            raise KDError(f"{source}: a member of policy.pth is compressed, which torch never does")
    programs = [info for info in archive.infolist() if info.filename.endswith("/data.pkl")]
    if len(programs) != 1 or programs[0].file_size > _MAX_PROGRAM:
        raise KDError(f"{source}: policy.pth is not a state dict of torch")
    program = archive.read(programs[0])
    _check_program(io.BytesIO(program), _OPCODES, len(program), source)


def _check_legacy(raw: bytes, source: str) -> None:
    """The same for the old format: three pickles more, then the storages, each its length and its bytes."""
    stream = io.BytesIO(raw)
    stream.seek(len(_LEGACY))
    claimed = 0
    # A description of the machine, the tensors, and the names of the storages.
    for _ in range(3):
        claimed += _check_program(stream, _LEGACY_OPCODES, len(raw), source)
    # Torch makes room for every storage before it reads the first.
    if claimed > len(raw):
        raise KDError(f"{source}: policy.pth claims more numbers than it has")


def _check_program(stream: io.BytesIO, allowed: frozenset[str], limit: int, source: str) -> int:
    """Let only the few opcodes and names pass that a state dict consists of.

    Args:
        stream: Where the pickle begins; read to its end.
        allowed: The opcodes.
        limit: Bytes of the file, which no index and no number may exceed.
        source: The agent's name for messages.

    Returns:
        Numbers that its storages claim to have, each at least a byte.
    """
    start = stream.tell()
    claimed = 0
    number = 0
    for opcode, argument, position in pickletools.genops(stream):
        if opcode.name not in allowed:
            raise KDError(f"{source}: policy.pth holds more than tensors ({opcode.name})")
        if (position or 0) - start > _MAX_PROGRAM:
            raise KDError(f"{source}: policy.pth is not a state dict of torch")
        if opcode.name == "GLOBAL" and not _GLOBAL.fullmatch(str(argument)):
            raise KDError(f"{source}: policy.pth names {argument!r}, which is no tensor")
        # Pickle's memo is an array that grows to the largest index: a few bytes could claim gigabytes.
        if opcode.name.endswith("PUT") and int(argument or 0) > limit:
            raise KDError(f"{source}: policy.pth is damaged")
        if opcode.name.startswith("BININT"):
            number = int(argument or 0)
        # The last number before a storage's name is complete is the count of its numbers.
        if opcode.name == "BINPERSID":
            claimed += number
    return claimed


def _arrays(state: dict[Any, Any], size: int, source: str) -> dict[str, Array]:
    """The tensors as arrays; names of one tensor share its array."""
    arrays: dict[str, Array] = {}
    seen: dict[tuple[int, tuple[int, ...], torch.dtype], Array] = {}
    claimed = 0
    for key, tensor in state.items():
        name = str(key)
        _check_tensor(tensor, name, source)
        place = (tensor.data_ptr(), tuple(tensor.shape), tensor.dtype)
        if place not in seen:
            # Tensors that share a storage part it among them: a file of 6 MB could else claim 3 GB.
            claimed += tensor.numel() * tensor.element_size()
            if claimed > size:
                raise KDError(f"{source}: policy.pth claims more numbers than it has")
            # NumPy has no bfloat16: torch widens it.
            seen[place] = tensor.detach().to(torch.float32).numpy().astype(np.float32)
            if not np.isfinite(seen[place]).all():
                raise KDError(f"{source}: {name} is NaN or infinite")
        arrays[name] = seen[place]
    return arrays


def _check_tensor(tensor: Any, name: str, source: str) -> None:
    if not isinstance(tensor, torch.Tensor) or tensor.layout != torch.strided or tensor.is_quantized:
        raise KDError(f"{source}: {name} is not a dense tensor")
    # A stride of 0 lets one number stand for a terabyte, which NumPy would then write out.
    if not tensor.is_contiguous() or tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        raise KDError(f"{source}: {name} claims more numbers than it has")
