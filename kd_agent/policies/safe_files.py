"""Reading and writing files so that nothing large, absent or half-written does harm."""

import os
from pathlib import Path

from kd_agent.errors import KDError

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
            raise KDError(f"{path}: there is no such file")
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
    """
    # In the same folder: a rename is atomic only within one file system.
    temporary = path.with_name(f".{path.name}.tmp")
    with temporary.open("wb") as file:
        file.write(raw)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
    # The rename itself lasts through a power cut only once the folder is on the disk too.
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
