"""The run folder: one owner at a time, files that are whole or not there, and damage that is named."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from samples import PROBES, Agent, settings

from kd_agent import KDError, distill
from kd_agent.policies import safe_files
from kd_agent.runs import CONFIG_FILE, RunFolder, open_run
from kd_agent.runs.folder import folder_name


def test_a_damaged_checkpoint_is_named(runs: dict[str, Any], agents: dict[str, Agent], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(runs["Discrete"][0], tmp_path / "run"))
    given = {"env": PROBES["Discrete"], "out": str(folder), "resume": True, "quiet": True}
    for name in ("round-1.npz", "driver.npz", "best.npz"):
        path = folder / "checkpoint" / name
        good = path.read_bytes()
        for bad in (b"", good[: len(good) // 2], b"nonsense"):
            path.write_bytes(bad)
            with pytest.raises(KDError, match=name):
                distill(given)
        path.write_bytes(good)
    (folder / "checkpoint" / "round-1.npz").unlink()
    with pytest.raises(KDError, match=r"round-1"):
        distill(given)


def test_two_runs_do_not_share_a_folder(agents: dict[str, Agent], tmp_path: Path) -> None:
    given = settings(agents["Discrete"], tmp_path)
    with open_run(tmp_path, resume=False), pytest.raises(KDError, match="another process is running"):
        distill(given)
    assert {p.name for p in tmp_path.iterdir()} == {".lock"}
    distill(given)
    with pytest.raises(KDError, match="holds a run already"):
        distill(given)


def test_two_kinds_of_separators_are_no_folders() -> None:
    assert folder_name("a/b:C-v0") == "a-b-C-v0"


def test_the_lock_is_given_back_also_where_the_run_failed(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), open_run(tmp_path / "run", resume=False):
        raise ZeroDivisionError
    with open_run(tmp_path / "run", resume=False) as folder:
        assert folder.path == tmp_path / "run"


def test_a_folder_without_settings_is_nothing_to_go_on_with_and_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(KDError, match=f"nothing to resume, there is no {CONFIG_FILE}"):
        open_run(tmp_path / "absent", resume=True).__enter__()
    assert list(tmp_path.iterdir()) == []


def test_what_holds_a_run_is_gone_on_with_when_that_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / CONFIG_FILE).write_text("env: x")
    with open_run(tmp_path, resume=True) as folder:
        assert folder.read_yaml(CONFIG_FILE) == {"env": "x"}
    with pytest.raises(KDError, match="holds a run already; add --resume or choose another --out"):
        open_run(tmp_path, resume=False).__enter__()


def test_half_written_files_are_swept_by_the_next_owner_and_by_nobody_else(tmp_path: Path) -> None:
    (tmp_path / "checkpoint").mkdir()
    stale = [tmp_path / ".a.tmp", tmp_path / "checkpoint" / ".b.tmp"]
    with open_run(tmp_path, resume=False):
        for path in stale:
            path.write_text("half")
        with pytest.raises(KDError, match="another process is running"):
            open_run(tmp_path, resume=False).__enter__()
        assert all(path.exists() for path in stale)
    with open_run(tmp_path, resume=False):
        assert not any(path.exists() for path in stale)


def test_arrays_come_back_as_they_were_and_none_where_there_are_none(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    arrays: dict[str, Any] = {"obs.a": np.arange(6, dtype=np.uint8).reshape(2, 3), "n": np.array(7)}
    assert folder.load_arrays("round-0") is None
    assert not folder.holds_checkpoint("round-0")
    folder.save_arrays("round-0", arrays)
    assert folder.holds_checkpoint("round-0")
    found = folder.load_arrays("round-0")
    assert found is not None
    assert set(found) == set(arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name], array, strict=True)


def test_a_checkpoint_that_would_run_code_is_refused(tmp_path: Path) -> None:
    (tmp_path / "checkpoint").mkdir()
    np.savez(tmp_path / "checkpoint" / "driver.npz", weights=np.array([{}], object))
    with pytest.raises(KDError, match=r"driver\.npz: damaged checkpoint"):
        RunFolder(tmp_path).load_arrays("driver")


def test_nan_is_no_json_and_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.write_json("result.json", {"iqm": 1.5})
    with pytest.raises(ValueError, match="not JSON compliant"):
        folder.write_json("result.json", {"iqm": float("nan")})
    assert folder.read_json("result.json") == {"iqm": 1.5}
    assert [path.name for path in tmp_path.iterdir()] == ["result.json"]


@pytest.mark.parametrize("content", ["", "{", "[1, 2", "7", "[]"])
def test_a_damaged_json_file_is_named(content: str, tmp_path: Path) -> None:
    (tmp_path / "teacher.json").write_text(content)
    with pytest.raises(KDError, match=r"teacher\.json: damaged"):
        RunFolder(tmp_path).read_json("teacher.json")


def test_a_file_that_cannot_be_finished_leaves_the_one_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = RunFolder(tmp_path)
    folder.write_text("rules.txt", "old")

    def full(*paths: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(safe_files.os, "replace", full)
    with pytest.raises(OSError, match="No space left"):
        folder.write_text("rules.txt", "new")
    monkeypatch.undo()
    assert (tmp_path / "rules.txt").read_text() == "old"


def test_a_file_in_the_way_of_a_folder_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("")
    with pytest.raises(KDError, match="cannot be used as a run folder"):
        open_run(tmp_path / "run" / "1", resume=False).__enter__()


def test_json_is_text_that_ends_with_a_line(tmp_path: Path) -> None:
    path = RunFolder(tmp_path).write_json("a.json", {"b": [1, 2]})
    assert json.loads(path.read_text()) == {"b": [1, 2]}
    assert path.read_text().endswith("}\n")
