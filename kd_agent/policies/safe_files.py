"""Reading and writing files so that nothing large, absent or half-written does harm."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from kd_agent.errors import KDError

_OF_THE_DISK = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS})
"""Errors that say nothing of what was written where they come from a write."""
_LFS_POINTER = b"version https://git-lfs.github.com/spec/"
"""How the file begins that Git LFS leaves in the place of a large one."""


def read_capped(path: str | os.PathLike[str], limit: int) -> bytes:
    """A file's bytes.

    Args:
        path: The file.
        limit: The most bytes it may have.

    Raises:
        KDError: It is missing, unreadable, not a file, or over the limit.
    """
    path = Path(path)
    try:
        if not path.is_file():
            found = "; it is a folder: name a file in it" if path.is_dir() else ""
            raise KDError(f"{path}: there is no such file{found}")
        with path.open("rb") as file:
            # One byte more than allowed tells; a size asked for beforehand could change until here.
            raw = file.read(limit + 1)
    except OSError as error:
        raise KDError(f"{path}: cannot be read ({error.strerror})") from None
    if raw.startswith(_LFS_POINTER):
        raise KDError(f"{path}: a Git LFS pointer, not the file itself; `git lfs pull` fetches it")
    if len(raw) > limit:
        raise KDError(f"{path}: larger than the {limit >> 20} MiB allowed")
    return raw


def write_atomically(path: Path, raw: bytes) -> None:
    """Replace a file's content so that a kill at any moment leaves the old or the new one, whole.

    Args:
        path: The file; its folder exists.
        raw: The new content.

    Raises:
        OSError: It cannot be written; the error names the file.
    """
    # In the same folder: a rename is atomic only within one file system.
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        # What lies there is left from a killed process, or is a link that leads elsewhere: "x" would follow neither.
        temporary.unlink(missing_ok=True)
        with temporary.open("xb") as file:
            file.write(raw)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        _sync_folder(path.parent)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink()
        # A full disk is reported without a name, other errors with the temporary one, which says nothing to a user.
        raise OSError(error.errno, error.strerror, str(path)) from None


@contextmanager
def disk_errors_named(path: Path) -> Iterator[None]:
    """Let errors of the disk name a path where they name none, as those of other packages' files do.

    Args:
        path: What is written while the block runs, a folder say.
    """
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno in _OF_THE_DISK:
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise


def _sync_folder(path: Path) -> None:
    """Put a folder's entries on the disk: a rename lasts through a power cut only then."""
    # Windows has no such flag, and opens no folders: there the system itself sees to it.
    if not hasattr(os, "O_DIRECTORY"):
        return
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    except OSError as error:
        # Some network file systems sync files alone.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(folder)
