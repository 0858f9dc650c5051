"""A run that is killed, stopped, disturbed or tampered with goes on to the same bits, or is refused."""

import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from samples import PROBES, Agent, command, settings

from kd_agent import KDError, distill
from kd_agent.runs.folder import open_run
from kd_agent.settings.yaml_file import read_mapping


def forked(work: Callable[[], Any]) -> int:
    """Run `work` in a forked process; its process id."""
    child = os.fork()
    if not child:
        try:
            work()
        finally:
            os._exit(0)
    return child


@pytest.mark.parametrize("moment", [2, 4, 5, 8, 9])
def test_a_run_that_was_killed_goes_on_to_the_same_bits(
    moment: int, agents: dict[str, Agent], tmp_path: Path, expected: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kill comes just before the `moment`-th file takes its place; the 2nd is config.yaml."""
    given, replace, calls = settings(agents["Discrete"], tmp_path / "run"), os.replace, []

    def replace_or_die(*paths: Any) -> None:
        calls.append(paths)
        if len(calls) == moment:
            os.kill(os.getpid(), signal.SIGKILL)
        replace(*paths)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", replace_or_die)
        child = forked(lambda: distill(given))
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    assert list((tmp_path / "run").rglob(".*.tmp"))
    distill({**given, "resume": moment > 2})
    assert (tmp_path / "run" / "student.safetensors").read_bytes() == expected
    assert not list((tmp_path / "run").rglob(".*.tmp"))


def test_kills_in_a_row_change_nothing(agents: dict[str, Agent], tmp_path: Path, expected: bytes) -> None:
    given, rng = settings(agents["Discrete"], tmp_path / "run"), random.Random(0)
    for _ in range(5):
        resume = (tmp_path / "run" / "config.yaml").exists()
        child = forked(lambda resume=resume: distill({**given, "resume": resume}))
        time.sleep(rng.uniform(0.05, 0.5))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    distill({**given, "resume": (tmp_path / "run" / "config.yaml").exists()})
    assert (tmp_path / "run" / "student.safetensors").read_bytes() == expected


def test_a_finished_run_may_be_resumed_and_stays_the_same(
    runs: dict[str, Any], agents: dict[str, Agent], tmp_path: Path, expected: bytes
) -> None:
    folder = Path(shutil.copytree(runs["Discrete"][0], tmp_path / "run"))
    result = distill({"env": PROBES["Discrete"], "out": str(folder), "resume": True, "quiet": True})
    assert (folder / "student.safetensors").read_bytes() == expected
    assert result["cost"]["env_steps"] == runs["Discrete"][1]["cost"]["env_steps"]


def test_a_run_is_not_resumed_under_other_settings(runs: dict[str, Any], agents: dict[str, Agent]) -> None:
    given = settings(agents["Discrete"], runs["Discrete"][0], resume=True)
    for name, value in (("temperature", 3.0), ("seed", 5), ("hidden", [9]), ("env_steps", 999)):
        with pytest.raises(KDError, match=f"was begun with {name} = "):
            distill({**given, name: value})
    with pytest.raises(KDError, match="was begun with teacher"):
        distill({**given, "teacher": str(runs["Discrete"][0] / "student.safetensors")})


def test_a_run_is_not_resumed_with_another_teacher_of_the_same_name(
    runs: dict[str, Any], agents: dict[str, Agent], tmp_path: Path
) -> None:
    teacher = Path(shutil.copy(agents["Discrete"].path, tmp_path / "teacher.zip"))
    given = {**settings(agents["Discrete"], tmp_path / "run"), "teacher": str(teacher)}
    distill(given)
    agents["Discrete"].model.save(teacher)
    before = (tmp_path / "run" / "teacher.json").read_bytes()
    with pytest.raises(KDError, match="begun with another teacher"):
        distill({**given, "resume": True})
    assert (tmp_path / "run" / "teacher.json").read_bytes() == before


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


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["SIGINT", "SIGTERM"])
def test_a_signal_leaves_a_folder_to_go_on_with(
    number: int, code: int, agents: dict[str, Agent], tmp_path: Path
) -> None:
    given = settings(agents["Discrete"], tmp_path / "run", rounds=12, env_steps=4800, round_steps=150, attempts=1)
    # A shell's background jobs ignore SIGINT, and so would their children.
    heedful = ["-c", "import signal, runpy, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
               "sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"]  # fmt: skip
    python, *rest = command(given)
    process = subprocess.Popen([python, *heedful, *rest], stderr=subprocess.PIPE, text=True)
    while not (tmp_path / "run" / "checkpoint" / "round-1.npz").exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    process.send_signal(number)
    _, err = process.communicate()
    assert process.returncode == code
    assert err.strip() == f"stopped; finished rounds are kept; go on with: --resume --out {tmp_path / 'run'}"
    assert not (tmp_path / "run" / "result.json").exists()
    result = distill({"env": given["env"], "out": given["out"], "resume": True, "quiet": True})
    assert result["cost"]["env_steps"] >= 4800


def test_a_stop_names_the_folder_that_the_run_has_chosen_itself(agents: dict[str, Agent], tmp_path: Path) -> None:
    given = settings(agents["Discrete"], tmp_path, rounds=12, env_steps=4800, round_steps=150, attempts=1)
    del given["out"]
    process = subprocess.Popen(command(given), stderr=subprocess.PIPE, text=True, cwd=tmp_path)
    folder = Path("runs") / PROBES["Discrete"].replace("/", "-") / "1"
    while not (tmp_path / folder / "checkpoint" / "round-1.npz").exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate()
    assert process.returncode == 143
    assert err.strip() == f"stopped; finished rounds are kept; go on with: --resume --out {folder}"


def test_two_runs_started_at_once_take_two_folders(
    agents: dict[str, Agent], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, expected: bytes
) -> None:
    given = settings(agents["Discrete"], tmp_path)
    del given["out"]
    monkeypatch.chdir(tmp_path)
    for child in [forked(lambda: distill(given)) for _ in range(2)]:
        os.waitpid(child, 0)
    runs = sorted((tmp_path / "runs" / PROBES["Discrete"].replace("/", "-")).iterdir())
    assert [run.name for run in runs] == ["1", "2"]
    assert [(run / "student.safetensors").read_bytes() for run in runs] == [expected, expected]
    assert [read_mapping(run / "config.yaml")["out"] for run in runs] == [
        str(run.relative_to(tmp_path)) for run in runs
    ]
