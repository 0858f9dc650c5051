"""Files that are read whole or refused, and written whole or not at all."""

import errno
import os
import random
import signal
import stat
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from samples import make_graph

from kd_agent.errors import KDError
from kd_agent.policies import file as graph_file
from kd_agent.policies import safe_files as files
from kd_agent.policies.safe_files import disk_errors_named, read_capped, write_atomically


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_write_that_fails_midway_leaves_the_old_file_whole(
    step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = graph_file.write(make_graph(), tmp_path / "s.safetensors")
    before = path.read_bytes()

    def fail(*arguments: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, step, fail)
    with pytest.raises(OSError, match="No space left"):
        graph_file.write(make_graph(seed=1), path)
    assert path.read_bytes() == before


def in_child(work: Callable[[], Any]) -> int:
    """Run `work` in a forked process, which ends without any cleaning up; its process id."""
    child = os.fork()
    if not child:
        try:
            work()
        finally:
            os._exit(0)
    return child


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_kill_at_the_worst_moment_leaves_the_old_file_whole(
    step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = graph_file.write(make_graph(), tmp_path / "s.safetensors")
    before = path.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(files.os, step, lambda *arguments: os.kill(os.getpid(), signal.SIGKILL))
        child = in_child(lambda: graph_file.write(make_graph(seed=1), path))
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    assert path.read_bytes() == before


def test_kills_at_random_moments_leave_one_of_the_two_files(tmp_path: Path) -> None:
    path = tmp_path / "s.safetensors"
    graphs = [make_graph(hidden=(64, 64)), make_graph(hidden=(64, 64), seed=1)]
    contents = [graph_file.to_bytes(graph) for graph in graphs]
    path.write_bytes(b"neither")

    def write_for_ever() -> None:
        while True:
            for graph in graphs:
                graph_file.write(graph, path)

    rng = random.Random(0)
    for _ in range(36):
        child = in_child(write_for_ever)
        while path.read_bytes() == b"neither":
            time.sleep(0.001)
        time.sleep(rng.uniform(0, 0.02))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        assert path.read_bytes() in contents
        path.write_bytes(b"neither")


def test_what_was_written_is_read_and_nothing_else_is_left(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_atomically(path, b"old and long")
    write_atomically(path, b"new")
    assert read_capped(path, 3) == b"new"
    assert read_capped(str(path), 1000) == b"new"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_may_have_as_many_bytes_as_allowed_and_not_one_more(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x" * (1 << 20))
    assert len(read_capped(path, 1 << 20)) == 1 << 20
    path.write_bytes(b"x" * ((1 << 20) + 1))
    with pytest.raises(KDError, match="larger than the 1 MiB allowed"):
        read_capped(path, 1 << 20)


def test_what_is_not_a_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for name in ("absent", "pipe", "link", "."):
        with pytest.raises(KDError, match="there is no such file"):
            read_capped(tmp_path / name, 10)
    with pytest.raises(KDError, match="it is a folder: name a file in it"):
        read_capped(tmp_path, 10)


def test_a_file_that_cannot_be_read_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"content")

    def refuse(*arguments: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(KDError, match=r"file: cannot be read \(Permission denied\)"):
        read_capped(path, 10)


def test_a_folder_that_is_missing_is_an_error_and_not_made(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_atomically(tmp_path / "absent" / "file", b"content")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_an_error_of_the_disk_names_the_file_and_leaves_no_other(
    step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, step, fail)
    with pytest.raises(OSError, match="No space left") as caught:
        write_atomically(tmp_path / "student", b"content")
    assert caught.value.filename == str(tmp_path / "student")
    assert list(tmp_path.iterdir()) == []


def test_a_link_planted_where_the_temporary_file_goes_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "precious").write_bytes(b"precious")
    (tmp_path / ".file.tmp").symlink_to(tmp_path / "precious")
    write_atomically(tmp_path / "file", b"content")
    assert (tmp_path / "precious").read_bytes() == b"precious"
    assert (tmp_path / "file").read_bytes() == b"content"
    assert not (tmp_path / "file").is_symlink()


def test_what_a_killed_process_left_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / ".file.tmp").write_bytes(b"half")
    write_atomically(tmp_path / "file", b"content")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_system_that_opens_no_folders_writes_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Any, *arguments: Any) -> int:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.delattr(files.os, "O_DIRECTORY")
    with monkeypatch.context() as patch:
        patch.setattr(files.os, "open", refuse)
        write_atomically(tmp_path / "file", b"content")
    assert (tmp_path / "file").read_bytes() == b"content"


@pytest.mark.parametrize(("number", "fine"), [(errno.EINVAL, True), (errno.ENOTSUP, True), (errno.EIO, False)])
def test_a_folder_is_on_the_disk_too_where_the_file_system_can(
    number: int, fine: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[bool] = []

    def sync(descriptor: int) -> None:
        synced.append(stat.S_ISDIR(os.fstat(descriptor).st_mode))
        if synced[-1]:
            raise OSError(number, "cannot")

    monkeypatch.setattr(files.os, "fsync", sync)
    with nullcontext() if fine else pytest.raises(OSError, match="cannot"):
        write_atomically(tmp_path / "file", b"content")
    assert synced == [False, True]


@pytest.mark.parametrize(
    ("error", "named"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "run"),
        (OSError(errno.ENOSPC, "No space left on device", "weights"), "weights"),
        # The network is no disk.
        (OSError(errno.ECONNREFUSED, "Connection refused"), None),
    ],
)
def test_errors_of_the_disk_name_what_was_written(error: OSError, named: str | None) -> None:
    with pytest.raises(OSError, match=error.strerror) as caught, disk_errors_named(Path("run")):
        raise error
    assert caught.value.filename == named
    assert caught.value.errno == error.errno
