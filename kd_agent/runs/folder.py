"""The run folder: one owner at a time, atomic files, checkpoints on round ends."""

import io
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout

from kd_agent.errors import KDError, Stopped
from kd_agent.policies import Array
from kd_agent.policies.safe_files import disk_errors_named, read_capped, write_atomically
from kd_agent.settings import read_mapping

MAX_STATE = 8 << 30
"""Bytes of a checkpoint that is still read: a million states of images."""
MAX_TEXT = 64 << 20
"""Bytes of a text file that is still read."""
CONFIG_FILE = "config.yaml"
TEACHER_FILE = "teacher.json"
STUDENT_FILE = "student.safetensors"
RESULT_FILE = "result.json"
_RUNNING = ".running"
"""A mark that only a process which could not end in order leaves behind."""
LOCK_FILE = ".lock"
CHECKPOINTS = "checkpoint"


class RunFolder:
    """A folder that holds one run.

    Layout: `config.yaml`, `student.safetensors`, `result.json`, `checkpoint/round-<n>.npz` (the data of a
    round), `checkpoint/episodes-<n>.npz` (how the episodes came about that go on after it), `checkpoint/driver.npz`
    (the student that drives the next round, and how many rounds are finished), `checkpoint/best.npz` (the best of the
    final fits so far).

    Attributes:
        path: The folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def write_text(self, name: str, text: str) -> Path:
        """Write a file atomically.

        Args:
            name: The file's, within the folder.
            text: Its content.

        Returns:
            Its path.
        """
        write_atomically(self.path / name, text.encode())
        return self.path / name

    def write_json(self, name: str, value: Mapping[str, Any]) -> Path:
        """Write a JSON file atomically.

        Args:
            name: The file's, within the folder.
            value: Its content.

        Returns:
            Its path.

        Raises:
            ValueError: There is NaN or an infinity in it.
        """
        # Python would write NaN, which is no JSON: other programs that read the file would fail at it.
        return self.write_text(name, json.dumps(value, indent=1, allow_nan=False) + "\n")

    def read_json(self, name: str) -> dict[str, Any]:
        """Read a JSON file that this run wrote; KDError where it is missing or damaged, or holds no mapping."""
        path = self.path / name
        try:
            value = json.loads(read_capped(path, MAX_TEXT))
        except (ValueError, RecursionError):
            raise KDError(f"{path}: damaged") from None
        if not isinstance(value, dict):
            raise KDError(f"{path}: damaged: expected a mapping")
        return value

    def read_yaml(self, name: str) -> dict[str, Any]:
        """Read a YAML file that this run wrote."""
        return read_mapping(self.path / name)

    @contextmanager
    def reading(self, name: str) -> Iterator[None]:
        """A block that takes a file of this run apart: what does not fit there is one line that names the file.

        Args:
            name: The file's, within the folder.

        Raises:
            KDError: The block failed as it does where the file is not what the run wrote.
        """
        path = self.path / name
        try:
            yield
        except KDError as error:
            if str(path) in str(error):
                raise
            raise KDError(f"{path}: damaged ({error})") from None
        except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise KDError(f"{path}: damaged ({type(error).__name__}: {' '.join(str(error).split())[:120]})") from None

    def holds_file(self, name: str) -> bool:
        """Whether there is such a file."""
        return (self.path / name).is_file()

    def holds_checkpoint(self, name: str) -> bool:
        """Whether there is `checkpoint/<name>.npz`."""
        return self._checkpoint(name).is_file()

    def save_arrays(self, name: str, arrays: Mapping[str, Array]) -> None:
        """Write `checkpoint/<name>.npz` atomically.

        Args:
            name: The checkpoint's.
            arrays: Its arrays by name.
        """
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
        raw = read_capped(path, MAX_STATE)
        try:
            # An array of objects would be unpickled, and a pickle runs code.
            with np.load(io.BytesIO(raw), allow_pickle=False) as archive:
                arrays = dict(archive)
        except Exception as error:  # np.load, zipfile and zlib raise all kinds on damage
            raise KDError(f"{path}: damaged checkpoint ({' '.join(str(error).split())[:120]})") from None
        for array in arrays.values():
            if not isinstance(array, np.ndarray):
                raise KDError(f"{path}: damaged checkpoint (a member is no array)")
        return arrays

    @contextmanager
    def running(self) -> Iterator[bool]:
        """Leave a mark while the block runs; whether an earlier process died and left its own."""
        mark = self.path / _RUNNING
        left = mark.exists()
        mark.write_text(f"{os.getpid()}\n")
        try:
            yield left
        finally:
            mark.unlink(missing_ok=True)

    def _checkpoint(self, name: str) -> Path:
        return self.path / checkpoint_file(name)


def checkpoint_file(name: str) -> str:
    """The file of a checkpoint within its run's folder."""
    return f"{CHECKPOINTS}/{name}.npz"


def choose_folder(out: str | None, env: str, *, resume: bool) -> Path:
    """Where a run writes: the folder that was named, or else a new one.

    Args:
        out: The folder that was named.
        env: The environment's id, or what else runs are told apart by.
        resume: Whether the run is one that was begun.

    Raises:
        KDError: A run that was begun lies in no new folder; or none can be made.
    """
    if out:
        return Path(out)
    if resume:
        raise KDError("--resume needs --out, the folder of the run to go on with")
    return next_folder(env)


def next_folder(env: str, root: Path = Path("runs")) -> Path:
    """Make `<root>/<env>/<n>`, n counting up: two processes that ask at once get two folders.

    Args:
        env: The environment's id, or what else runs are told apart by.
        root: The folder of all runs.

    Raises:
        KDError: It cannot be made.
    """
    parent = root / folder_name(env)
    last = 0
    for path in parent.glob("*"):
        if path.name.isdecimal():
            last = max(last, int(path.name))
    try:
        parent.mkdir(parents=True, exist_ok=True)
        return _first_free(parent, last + 1)
    except OSError as error:
        raise KDError(f"{parent}: cannot hold run folders ({error.strerror})") from None


def _first_free(parent: Path, number: int) -> Path:
    """Make the folder of the first number from here on that has none."""
    while True:
        path = parent / str(number)
        try:
            # To make it is to take it: the system lets one process alone succeed.
            path.mkdir()
        except FileExistsError:
            number += 1
        else:
            return path


def folder_name(env: str) -> str:
    """An environment's id as the name of a folder: `/` and `:` have a meaning in paths."""
    return env.replace("/", "-").replace(":", "-")


@contextmanager
def open_run(path: Path, *, resume: bool, resumes: bool = True) -> Iterator[RunFolder]:
    """A run folder, locked while the block runs (the lock dies with the process).

    Args:
        path: The folder; it is created.
        resume: Whether it must hold a run already, or must not.
        resumes: Whether such a run can be gone on with at all, for the message.

    Raises:
        KDError: It holds (or lacks) a run, another process runs in it, or it cannot be written.
        Stopped: The block was interrupted.
    """
    if resume and not (path / CONFIG_FILE).is_file():
        raise KDError(f"{path}: nothing to resume, there is no {CONFIG_FILE}")
    lock = _take(path)
    try:
        if not resume and (path / CONFIG_FILE).exists():
            way_on = "add --resume or choose" if resumes else "choose"
            raise KDError(f"{path}: holds a run already; {way_on} another --out")
        # Files that a killed process had not finished; nobody but the owner of the lock writes any.
        for stale in [*path.glob(".*.tmp"), *path.glob(f"{CHECKPOINTS}/.*.tmp")]:
            stale.unlink()
        with disk_errors_named(path):
            yield RunFolder(path)
    except KeyboardInterrupt as stop:
        # Whoever began the run may not know where it writes.
        raise Stopped(path, *stop.args) from stop
    finally:
        lock.release()


def _take(path: Path) -> FileLock:
    """Make a run folder and lock it; KDError where that cannot be."""
    # A link planted in a folder that others can write to would lead the run's files elsewhere.
    for name in (LOCK_FILE, CHECKPOINTS):
        if (path / name).is_symlink():
            raise KDError(f"{path / name}: is a link to elsewhere; a run writes within its own folder")
    try:
        path.mkdir(parents=True, exist_ok=True)
        # The system lets go of it when the process ends, however it ends: no lock outlives its run.
        lock = FileLock(path / LOCK_FILE, thread_local=False)
        lock.acquire(timeout=0)
    except Timeout:
        raise KDError(f"{path}: another process is running in this folder") from None
    except OSError as error:
        raise KDError(f"{path}: cannot be used as a run folder ({error.strerror})") from None
    return lock
