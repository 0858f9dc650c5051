"""Reading and writing files so that nothing large, absent or half-written does harm."""

import os
from pathlib import Path

from kd_agent.errors import KDError


def read_capped(path: str | os.PathLike[str], limit: int) -> bytes:
    """A file's bytes; KDError if it is missing, unreadable, not a file, or over `limit` bytes."""
    path = Path(path)
    try:
        if not path.is_file():
            raise KDError(f"{path}: there is no such file")
        with path.open("rb") as file:
            raw = file.read(limit + 1)
    except OSError as error:
        raise KDError(f"{path}: cannot be read ({error.strerror})") from None
    if len(raw) > limit:
        raise KDError(f"{path}: larger than the {limit >> 20} MiB allowed")
    return raw


def write_atomically(path: Path, raw: bytes) -> None:
    """Replace a file's content so that a kill at any moment leaves the old or the new one, whole."""
    temporary = path.with_name(f".{path.name}.tmp")
    with temporary.open("wb") as file:
        file.write(raw)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
