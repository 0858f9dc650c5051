"""The sweep over a folder of teachers: every one is a row, whatever happens to it."""

import io
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import redirect_stderr
from pathlib import Path
from threading import Lock
from typing import Any

import pytest
from samples import Agent

from kd_agent.commands import cli
from kd_agent.commands.cli import run
from kd_agent.settings import SweepConfig, resolve
from kd_agent.studies import zoo_sweep
from kd_agent.studies.zoo_sweep import distil_one, environment, find_teachers


class InProcess:
    """Stands in for `subprocess`: a command that would be a process of its own is run in this one.

    Attributes:
        commands: The words of each, after Python, its flags and the package's name.
    """

    def __init__(self) -> None:
        self.commands: list[list[str]] = []
        self._one_at_a_time = Lock()

    def run(self, words: list[str], **how: Any) -> subprocess.CompletedProcess[str]:
        python, *module = words[:4]
        assert (python, module) == (sys.executable, ["-P", "-m", "kd_agent"])
        assert {name: how[name] for name in how if name != "env"} == {
            "capture_output": True,
            "text": True,
            "check": False,
        }
        said = io.StringIO()
        with self._one_at_a_time, redirect_stderr(said):
            self.commands.append(words[4:])
            code = cli.main(words[4:])
        return subprocess.CompletedProcess(words, code, "", said.getvalue())


@pytest.fixture(scope="module", autouse=True)
def processes() -> Iterator[InProcess]:
    """Without the seconds that each new process takes to import torch."""
    stand_in = InProcess()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(zoo_sweep, "subprocess", stand_in)
        patch.setattr(cli.signal, "signal", lambda *arguments: None)
        patch.setattr(cli.warnings, "showwarning", cli.warnings.showwarning)
        yield stand_in


@pytest.fixture(scope="module")
def swept(agents: dict[str, Agent], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Agent]:
    """A folder of one good and two bad teachers, and what the sweep made of it."""
    root, out = tmp_path_factory.mktemp("teachers"), tmp_path_factory.mktemp("sweep")
    agent = agents["Discrete"]
    for name in ("good", "broken", "foreign"):
        (root / name).mkdir()
    shutil.copy(agent.path, root / "good" / "ProbeDiscrete-v0.zip")
    (root / "good" / "ProbeDiscrete-v0").mkdir()
    (root / "good" / "ProbeDiscrete-v0" / "args.yml").write_text(f"env: {agent.env_id}\n")
    (root / "good" / "ProbeDiscrete-v0" / "config.yml").write_text("n_envs: 1\n")
    (root / "broken" / "CartPole-v1.zip").write_bytes(agent.path.read_bytes()[:1000])
    shutil.copy(agent.path, root / "foreign" / "NoSuchEnvironment-v3.zip")
    quick = root / "quick.yaml"
    quick.write_text("{env_steps: 400, rounds: 2, round_steps: 10, final_steps: 20, attempts: 1}")
    flags = ["--teachers", str(root), "--out", str(out), "--jobs", "3", "--episodes", "2", "--quiet"]
    assert run("zoo-sweep", [*flags, "--settings", str(quick)]) == 0
    return root, out, agent


def rows(out: Path) -> dict[str, dict]:
    return {row["name"]: row for row in json.loads((out / "sweep.json").read_text())}


def test_a_good_teacher_is_distilled_and_a_bad_one_is_a_row_with_its_error(swept: tuple[Path, Path, Agent]) -> None:
    _, out, agent = swept
    found = rows(out)
    assert set(found) == {"good", "broken", "foreign"}
    good = found["good"]
    assert (good["loaded"], good["error"], good["env"], good["algo"]) == (True, None, agent.env_id, "PPO")
    assert good["teacher_parameters"] > good["student_parameters"] > 0
    assert isinstance(good["non_inferior"], bool)
    result = json.loads((out / "good" / "result.json").read_text())
    for player in ("teacher", "student"):
        assert good[f"{player}_mean"] == result[player]["mean"]
        assert good[f"{player}_lower_tail"] == result[player]["lower_tail"]
    assert good["random_mean"] == result["random"]["mean"]
    assert good["episodes"] == result["verdict"]["episodes"]
    assert good["seconds"] > 0
    assert "broken/CartPole-v1.zip" in found["broken"]["error"]
    assert "NoSuchEnvironment" in found["foreign"]["error"]
    assert not found["broken"]["loaded"]
    assert not found["foreign"]["non_inferior"]


def test_the_table_and_the_plot_are_written(swept: tuple[Path, Path, Agent]) -> None:
    _, out, _ = swept
    table = (out / "sweep.md").read_text()
    assert "| good | PPO |" in table
    assert "1 of 3 loaded" in table
    assert (out / "sweep.png").read_bytes().startswith(b"\x89PNG")


def test_a_second_sweep_does_not_do_finished_runs_again(swept: tuple[Path, Path, Agent], processes: InProcess) -> None:
    root, out, _ = swept
    student = out / "good" / "student.safetensors"
    before, seconds = student.stat().st_mtime_ns, rows(out)["good"]["seconds"]
    processes.commands.clear()
    flags = ["--teachers", str(root), "--out", str(out), "--jobs", "1", "--episodes", "2", "--quiet"]
    assert run("zoo-sweep", flags) == 0
    assert student.stat().st_mtime_ns == before
    assert [Path(words[1].removeprefix("--teacher=")).parent.name for words in processes.commands] == ["broken"]
    assert rows(out)["good"]["seconds"] == pytest.approx(seconds, rel=0.9)
    assert set(rows(out)) == {"good", "broken", "foreign"}


def test_a_distillation_is_a_process_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A real one, which fails before it imports anything that takes long."""
    monkeypatch.setattr(zoo_sweep, "subprocess", subprocess)
    config = {"teachers": str(tmp_path), "out": str(tmp_path), "settings": "absent.yaml"}
    row = distil_one("name", tmp_path / "CartPole-v1.zip", tmp_path / "out", resolve(SweepConfig, config))
    assert (row["name"], row["env"], row["loaded"]) == ("name", "CartPole-v1", False)
    assert row["error"].startswith("kd-agent: error: ")
    assert "absent.yaml" in row["error"]


def test_what_was_begun_is_gone_on_with(tmp_path: Path, processes: InProcess) -> None:
    (tmp_path / "out").mkdir()
    config = resolve(SweepConfig, {"teachers": str(tmp_path), "out": str(tmp_path)})
    processes.commands.clear()
    for begun in (False, True):
        if begun:
            (tmp_path / "out" / "config.yaml").write_text("env: CartPole-v1")
        distil_one("name", tmp_path / "CartPole-v1.zip", tmp_path / "out", config)
    assert ["--resume" in words for words in processes.commands] == [False, True]


def test_an_environment_is_told_by_settings_or_by_name(swept: tuple[Path, Path, Agent]) -> None:
    root, _, agent = swept
    teachers = find_teachers(root)
    assert environment(teachers["good"]) == agent.env_id
    assert environment(teachers["foreign"]) == "NoSuchEnvironment-v3"


def test_a_folder_without_teachers_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("zoo-sweep", ["--teachers", str(tmp_path), "--out", str(tmp_path / "out"), "--quiet"]) == 2
    assert "no teachers" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
