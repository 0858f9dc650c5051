"""The zip that `torch.save` writes: members, tensors, and what each claims to be. Torch itself reads nothing."""

import io
import math
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kd_agent.errors import KDError
from kd_agent.policies import Array
from kd_agent.teachers._pickled import Built, Name, Reference
from kd_agent.teachers._state_dict import check_members

_TENSORS = ("torch._utils _rebuild_tensor_v2", "torch._utils _rebuild_tensor")
_PARAMETERS = ("torch._utils _rebuild_parameter", "torch._utils _rebuild_parameter_with_state")
_DTYPES = {
    "FloatStorage": "<f4",
    "DoubleStorage": "<f8",
    "HalfStorage": "<f2",
    "BFloat16Storage": "<u2",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "<i1",
    "ByteStorage": "<u1",
    "BoolStorage": "<u1",
}
"""Type of a storage's numbers; of bfloat16, the upper half of a float32."""


@dataclass(frozen=True)
class Stored:
    """Where a tensor's numbers lie.

    Attributes:
        key: Name of the storage.
        kind: Name of its type, of torch.
        offset: Numbers before the tensor's first.
        shape: The tensor's.
        stride: Numbers from one to the next along each axis.
    """

    key: str
    kind: str
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]


class Members:
    """The members of a torch file, read from its bytes or from the file itself.

    Args:
        file: Path or bytes of the file.
        source: Its name for messages.
    """

    def __init__(self, file: str | bytes, source: str) -> None:
        self.source = source
        try:
            self._archive = zipfile.ZipFile(io.BytesIO(file) if isinstance(file, bytes) else file)
        except OSError as error:
            raise KDError(f"{source}: cannot be read ({error.strerror})") from None
        except Exception:  # zipfile raises all kinds on damage
            raise KDError(
                f"{source}: no file of torch, or one of before version 1.6 (torch.save writes a zip)"
            ) from None
        self.size = len(file) if isinstance(file, bytes) else Path(file).stat().st_size
        check_members(self._archive, self.size, source)
        programs = [name for name in self._archive.namelist() if name.endswith("/data.pkl")]
        if len(programs) != 1:
            raise KDError(f"{source}: a zip, but no file of torch")
        self._folder = programs[0].removesuffix("data.pkl")

    @property
    def names(self) -> list[str]:
        """Names of the members, without their common folder."""
        return [name.removeprefix(self._folder) for name in self._archive.namelist()]

    def read(self, name: str, limit: int) -> bytes:
        """A member's content; more than `limit` bytes are never unpacked.

        Args:
            name: Its name below the common folder.
            limit: The most bytes that it may have.

        Raises:
            KDError: There is none, or it is larger or damaged.
        """
        try:
            info = self._archive.getinfo(self._folder + name)
            if info.file_size > limit:
                raise KDError(f"{self.source}: its {name} exceeds {limit >> 20} MiB")
            with self._archive.open(info) as member:
                return member.read(limit)
        except KDError:
            raise
        except Exception as error:  # zipfile and zlib raise all kinds on damage
            raise KDError(f"{self.source}: its {name} cannot be read ({type(error).__name__})") from None

    def array(self, stored: Stored, folder: str) -> Array:
        """One tensor, float32.

        Args:
            stored: Where it lies.
            folder: Where its storage lies, "data" or "constants".

        Raises:
            KDError: It is not dense, has more numbers than its storage, or one that is not finite.
        """
        if stored.kind not in _DTYPES:
            raise KDError(f"is of {stored.kind}, which is not read")
        # A stride of 0 lets one number stand for a terabyte.
        if not _is_dense(stored):
            raise KDError("is not a dense tensor")
        content = self.storage(f"{folder}/{stored.key}")
        dtype = np.dtype(_DTYPES[stored.kind])
        count = math.prod(stored.shape)
        if (stored.offset + count) * dtype.itemsize > len(content):
            raise KDError("claims more numbers than it has")
        numbers = np.frombuffer(content, dtype, count, stored.offset * dtype.itemsize)
        if stored.kind == "BFloat16Storage":
            numbers = (numbers.astype(np.uint32) << 16).view(np.float32)
        with np.errstate(over="ignore"):
            array = numbers.astype(np.float32).reshape(stored.shape)
        if not np.isfinite(array).all():
            raise KDError("is NaN or infinite")
        return array

    def storage(self, name: str) -> bytes:
        """The numbers of a storage, `data/<key>`."""
        info = self._archive.NameToInfo.get(self._folder + name)
        # Torch never compresses numbers, and what is only stored cannot swell.
        if info is not None and info.compress_type != zipfile.ZIP_STORED:
            raise KDError(f"{self.source}: its numbers are compressed, which torch never does")
        return self.read(name, self.size)


def tensor_of(value: Any) -> Stored | None:
    """The tensor that a pickle would have had built; None where it is something else.

    Raises:
        KDError: Its place or shape is none.
    """
    if isinstance(value, Built) and value.args and str(value.name) in _PARAMETERS:
        # Around a tensor, and around nothing else: a parameter of parameters of parameters could go on for ever.
        value = value.args[0]
    if not isinstance(value, Built) or str(value.name) not in _TENSORS or len(value.args) < 4:
        return None
    reference, offset, shape, stride = value.args[:4]
    what = reference.what if isinstance(reference, Reference) else ()
    if not (isinstance(what, tuple) and len(what) == 5 and isinstance(what[1], Name) and isinstance(what[2], str)):
        raise KDError("a tensor lies in no storage")
    are_tuples = isinstance(shape, tuple) and isinstance(stride, tuple)
    numbers = (offset, *shape, *stride) if are_tuples else (None,)
    if any(type(number) is not int or number < 0 for number in numbers) or len(shape) != len(stride) or len(shape) > 8:
        raise KDError("a tensor has an impossible shape")
    return Stored(what[2], what[1].name, offset, tuple(shape), tuple(stride))


def _is_dense(stored: Stored) -> bool:
    """Whether a tensor's numbers lie in order, one after the other."""
    step = 1
    for size, stride in zip(reversed(stored.shape), reversed(stored.stride), strict=True):
        # Along an axis of one number there is no next one.
        if size > 1 and stride != step:
            return False
        step *= size
    return True
