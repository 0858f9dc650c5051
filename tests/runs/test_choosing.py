"""The run folder: chosen by one process alone, locked, and nothing in it leads elsewhere."""

import os
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kd_agent import KDError
from kd_agent.errors import Stopped
from kd_agent.runs.folder import RunFolder, choose_folder, next_folder, open_run


def forked(work: Callable[[], Any]) -> int:
    """Run `work` in a forked process, which ends with code 1 where it raises a KDError; its process id."""
    child = os.fork()
    if not child:
        code = 2
        try:
            work()
            code = 0
        except KDError:
            code = 1
        finally:
            os._exit(code)
    return child


def code_of(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_run_folders_count_up_and_are_made(tmp_path: Path) -> None:
    assert next_folder("a/b:C-v0", tmp_path) == tmp_path / "a-b-C-v0" / "1"
    for name in ("2", "10", "other", "²"):
        (tmp_path / "CartPole-v1" / name).mkdir(parents=True)
    assert next_folder("CartPole-v1", tmp_path) == tmp_path / "CartPole-v1" / "11"
    assert (tmp_path / "CartPole-v1" / "11").is_dir()
    assert next_folder("CartPole-v1", tmp_path) == tmp_path / "CartPole-v1" / "12"


def test_all_who_ask_at_once_get_folders_of_their_own(tmp_path: Path) -> None:
    with ThreadPoolExecutor(16) as pool:
        folders = list(pool.map(lambda _: next_folder("CartPole-v1", tmp_path), range(64)))
    assert sorted(int(folder.name) for folder in folders) == list(range(1, 65))


def test_a_folder_that_another_has_just_made_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other one made it after this one had looked."""
    for number in (1, 2):
        (tmp_path / "CartPole-v1" / str(number)).mkdir(parents=True)
    monkeypatch.setattr(Path, "glob", lambda *arguments: iter(()))
    assert next_folder("CartPole-v1", tmp_path).name == "3"


def test_a_root_that_cannot_hold_runs_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("a file")
    with pytest.raises(KDError, match=r"runs/CartPole-v1: cannot hold run folders \(Not a directory\)"):
        next_folder("CartPole-v1", tmp_path / "runs")


def test_a_named_folder_is_taken_and_a_run_is_not_resumed_in_a_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert choose_folder("mine", "CartPole-v1", resume=True) == Path("mine")
    with pytest.raises(KDError, match="--resume needs --out"):
        choose_folder(None, "CartPole-v1", resume=True)
    assert list(tmp_path.iterdir()) == []
    assert choose_folder(None, "CartPole-v1", resume=False) == Path("runs/CartPole-v1/1")


def test_of_a_hundred_starts_in_one_folder_one_runs(tmp_path: Path) -> None:
    def start() -> None:
        with open_run(tmp_path / "run", resume=False) as folder:
            folder.write_text("config.yaml", str(os.getpid()))
            time.sleep(0.05)
            assert (tmp_path / "run" / "config.yaml").read_text() == str(os.getpid())

    children = [forked(start) for _ in range(100)]
    codes = dict(zip(children, map(code_of, children), strict=True))
    winners = [child for child, code in codes.items() if code == 0]
    assert len(winners) == 1
    assert set(codes.values()) == {0, 1}
    assert (tmp_path / "run" / "config.yaml").read_text() == str(winners[0])


def test_the_lock_dies_with_its_process(tmp_path: Path) -> None:
    def hold() -> None:
        with open_run(tmp_path / "run", resume=False) as folder:
            folder.write_text("held", "")
            time.sleep(60)

    child = forked(hold)
    while not (tmp_path / "run" / "held").exists():
        time.sleep(0.005)
    with (
        pytest.raises(KDError, match="another process is running in this folder"),
        open_run(tmp_path / "run", resume=False),
    ):
        pass
    os.kill(child, signal.SIGKILL)
    assert code_of(child) == -signal.SIGKILL
    with open_run(tmp_path / "run", resume=False) as folder:
        assert folder.holds_file("held")


@pytest.mark.parametrize("name", [".lock", "checkpoint"])
@pytest.mark.parametrize("there", [True, False], ids=["a link to something", "a link to nothing"])
def test_a_planted_link_is_refused_and_nothing_is_written_through_it(name: str, there: bool, tmp_path: Path) -> None:
    target = tmp_path / "elsewhere"
    if there and name == ".lock":
        target.write_text("precious")
    elif there:
        target.mkdir()
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / name).symlink_to(target)
    with pytest.raises(KDError, match="is a link to elsewhere"), open_run(tmp_path / "run", resume=False) as folder:
        folder.save_arrays("round-1", {"x": np.zeros(1)})
    if there and name == ".lock":
        assert target.read_text() == "precious"
    elif there:
        assert list(target.iterdir()) == []
    else:
        assert not target.exists()


@pytest.mark.parametrize("why", [(), (143,)])
def test_a_stop_says_where_the_run_was_writing(why: tuple[int, ...], tmp_path: Path) -> None:
    with pytest.raises(Stopped) as caught, open_run(tmp_path / "run", resume=False):
        raise KeyboardInterrupt(*why)
    assert caught.value.folder == tmp_path / "run"
    assert caught.value.args == why
    assert str(tmp_path / "run") in str(caught.value)
    # It is let go of.
    with open_run(tmp_path / "run", resume=False):
        pass


def test_of_runs_within_a_run_a_stop_names_the_outer_one(tmp_path: Path) -> None:
    with (
        pytest.raises(Stopped) as caught,
        open_run(tmp_path / "tasks", resume=False),
        open_run(tmp_path / "tasks" / "one", resume=False),
    ):
        raise KeyboardInterrupt
    assert caught.value.folder == tmp_path / "tasks"


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(KDError, match="cannot be used as a run folder"),
        open_run(tmp_path / "file" / "run", resume=False),
    ):
        pass


def test_a_full_disk_names_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    folder = RunFolder(tmp_path)
    for write in (
        lambda: folder.write_json("result.json", {}),
        lambda: folder.save_arrays("round-1", {"x": np.zeros(3)}),
    ):
        with pytest.raises(OSError, match="No space left") as caught:
            write()
        assert Path(str(caught.value.filename)).name in ("result.json", "round-1.npz")
