"""The run folder: one owner at a time, atomic files, checkpoints on round ends."""

import fcntl
import io
import json
import os
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from kd_agent.errors import KDError
from kd_agent.policies.safe_files import read_capped, write_atomically
from kd_agent.policies import Array
from kd_agent.settings import read_mapping

MAX_STATE = 8 << 30
MAX_TEXT = 64 << 20
CONFIG_FILE = "config.yaml"
TEACHER_FILE = "teacher.json"
STUDENT_FILE = "student.safetensors"
RESULT_FILE = "result.json"


class RunFolder:
    """A folder that holds one run.

    Layout: `config.yaml`, `student.safetensors`, `result.json`, `checkpoint/round-<n>.npz` (the data of a
    round), `checkpoint/driver.npz` (the student that drives the next round, and how many rounds are finished),
    `checkpoint/best.npz` (the best of the final fits so far).

    Attributes:
        path: The folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def write_text(self, name: str, text: str) -> Path:
        """Write a file atomically."""
        write_atomically(self.path / name, text.encode())
        return self.path / name

    def write_json(self, name: str, value: Mapping[str, Any]) -> Path:
        """Write a JSON file atomically; NaN is refused."""
        return self.write_text(name, json.dumps(value, indent=1, allow_nan=False) + "\n")

    def read_json(self, name: str) -> dict[str, Any]:
        """Read a JSON file that this run wrote; KDError where it is missing or damaged."""
        path = self.path / name
        try:
            return dict(json.loads(read_capped(path, MAX_TEXT)))
        except ValueError:
            raise KDError(f"{path}: damaged") from None

    def read_yaml(self, name: str) -> dict[str, Any]:
        """Read a YAML file that this run wrote."""
        return read_mapping(self.path / name)

    def holds_file(self, name: str) -> bool:
        """Whether there is such a file."""
        return (self.path / name).is_file()

    def holds_checkpoint(self, name: str) -> bool:
        """Whether there is `checkpoint/<name>.npz`."""
        return self._checkpoint(name).is_file()

    def save_arrays(self, name: str, arrays: Mapping[str, Array]) -> None:
        """Write `checkpoint/<name>.npz` atomically."""
        buffer = io.BytesIO()
        np.savez(buffer, **arrays)  # type: ignore[arg-type]
        path = self._checkpoint(name)
        path.parent.mkdir(exist_ok=True)
        write_atomically(path, buffer.getvalue())

    def load_arrays(self, name: str) -> dict[str, Array] | None:
        """Read `checkpoint/<name>.npz`; None where there is none yet."""
        path = self._checkpoint(name)
        if not path.exists():
            return None
        try:
            with np.load(io.BytesIO(read_capped(path, MAX_STATE)), allow_pickle=False) as archive:
                return {key: archive[key] for key in archive.files}
        except (ValueError, OSError, EOFError, KeyError, zipfile.BadZipFile, zlib.error) as error:
            raise KDError(f"{path}: damaged checkpoint ({error})") from None

    def _checkpoint(self, name: str) -> Path:
        return self.path / "checkpoint" / f"{name}.npz"


def next_folder(env: str, root: Path = Path("runs")) -> Path:
    """`runs/<env>/<n>`, n counting up."""
    parent = root / env.replace("/", "-").replace(":", "-")
    taken = [int(p.name) for p in parent.glob("*") if p.name.isdigit()]
    return parent / str(max(taken, default=0) + 1)


@contextmanager
def open_run(path: Path, *, resume: bool) -> Iterator[RunFolder]:
    """A run folder, locked while the block runs (the lock dies with the process).

    Args:
        path: The folder; it is created.
        resume: Whether it must hold a run already, or must not.

    Raises:
        KDError: It holds (or lacks) a run, another process runs in it, or it cannot be written.
    """
    if resume and not (path / CONFIG_FILE).is_file():
        raise KDError(f"{path}: nothing to resume, there is no {CONFIG_FILE}")
    try:
        path.mkdir(parents=True, exist_ok=True)
        lock = os.open(path / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise KDError(f"{path}: cannot be used as a run folder ({error.strerror})") from None
    try:
        _take(lock, path)
        if not resume and (path / CONFIG_FILE).exists():
            raise KDError(f"{path}: holds a run already; add --resume or choose another --out")
        for stale in [*path.glob(".*.tmp"), *path.glob("checkpoint/.*.tmp")]:
            stale.unlink()
        yield RunFolder(path)
    finally:
        os.close(lock)


def _take(lock: int, path: Path) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise KDError(f"{path}: another process is running in this folder") from None
