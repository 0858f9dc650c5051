"""Settings of several commands that concern the reading of teachers and students reach what they set."""

import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from samples import PROBES, make_graph

from kd_agent import KDError
from kd_agent.commands import cli
from kd_agent.continual.follow_drift import as_distillation, follow_drift
from kd_agent.distillation import tasks
from kd_agent.evaluation import verdict
from kd_agent.explanations import explain
from kd_agent.policies import file as graph_file
from kd_agent.rollouts import render
from kd_agent.rollouts.evaluate import Evaluation
from kd_agent.settings import EvaluateConfig, ExplainConfig, FollowDriftConfig, SweepConfig, TasksConfig
from kd_agent.studies import zoo_sweep

ALLOWED = {"allow_missing_statistics": True, "trust_teacher": True}
PROBE = PROBES["Discrete"]


class ReachedError(Exception):
    """What a stand-in was told."""


@pytest.fixture(autouse=True)
def handlers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the process's handlers as they were."""
    monkeypatch.setattr(cli.signal, "signal", lambda *arguments: None)
    monkeypatch.setattr(cli.warnings, "showwarning", cli.warnings.showwarning)


@pytest.fixture
def student(tmp_path: Path) -> str:
    return str(graph_file.write(make_graph(provenance={"env": PROBE}), tmp_path / "s.safetensors"))


def test_an_evaluation_reads_its_teachers_as_it_is_told(student: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def told(source: str, **how: Any) -> None:
        raise ReachedError(how["allow_missing_statistics"], how["trust_teacher"])

    monkeypatch.setattr(verdict, "load_teacher", told)
    for how in (ALLOWED, {}):
        with pytest.raises(ReachedError) as caught:
            verdict.evaluate_file(EvaluateConfig(student=student, teacher=("t.zip",), **how))
        assert caught.value.args == (bool(how), bool(how))


def test_an_explanation_reads_its_teachers_as_it_is_told(student: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def told(config: Any, spaces: Any) -> None:
        raise ReachedError(config.allow_missing_statistics, config.trust_teacher)

    monkeypatch.setattr(explain, "load_named", told)
    for how in (ALLOWED, {}):
        with pytest.raises(ReachedError) as caught:
            explain.explain_file(ExplainConfig(student=student, teacher=("t.zip",), **how))
        assert caught.value.args == (bool(how), bool(how))


def test_a_drift_and_tasks_read_their_teachers_as_they_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    config = as_distillation(FollowDriftConfig(student="s", teacher="t.zip", env=PROBE, **ALLOWED))
    assert (config.allow_missing_statistics, config.trust_teacher) == (True, True)
    monkeypatch.setattr(tasks, "_problem", lambda task, settings: settings)
    for how in (ALLOWED, {}):
        found = tasks.problems_of(TasksConfig(tasks=("CartPole-v1", "Acrobot-v1"), **how))
        for settings in found.values():
            assert (settings.allow_missing_statistics, settings.trust_teacher) == (bool(how), bool(how))


def test_a_student_of_several_tasks_is_named_by_its_task(student: str) -> None:
    with pytest.raises(KDError, match="no task 'Other-v0'"):
        explain.explain_file(ExplainConfig(student=student, teacher=("t.zip",), task="Other-v0"))
    with pytest.raises(KDError, match="no task 'Other-v0'"):
        follow_drift(FollowDriftConfig(student=student, teacher="t.zip", env=PROBE, task="Other-v0"))


def test_a_sweep_types_its_own_settings_and_joins_each_value_to_its_flag(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    typed: list[list[str]] = []

    def run(command: list[str], **how: Any) -> subprocess.CompletedProcess[str]:
        typed.append(command)
        return subprocess.CompletedProcess(command, 2, "", "stopped here")

    monkeypatch.setattr(zoo_sweep.subprocess, "run", run)
    teacher = tmp_path / "CartPole-v1.zip"
    for trust in (True, False):
        config = SweepConfig(teachers=".", out="out", trust_teacher=trust, settings="--odd.yaml")
        assert zoo_sweep.distil_one("name", teacher, tmp_path / "out", config)["error"] == "stopped here"
    trusting, careful = typed
    assert [word for word in trusting if word not in careful] == ["--trust-teacher"]
    assert careful[1:5] == ["-P", "-m", "kd_agent", "distill"]
    assert {f"--teacher={teacher}", "--env=CartPole-v1", "--config=--odd.yaml"} <= set(careful)


def test_what_is_watched_is_played_as_it_is_told(student: str, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Any] = []

    def watch(file: Path, *where: Any, sampled: bool | None, **how: Any) -> str:
        told.append(sampled)
        return "watched"

    monkeypatch.setattr(render, "watch", watch)
    monkeypatch.setattr(verdict, "evaluate", lambda *who, **how: Evaluation(np.zeros(1), np.ones(1)))
    for flags in ([], ["--sampled"], ["--no-sampled"]):
        assert cli.run("evaluate", [student, "--render", "--quiet", "--episodes", "1", *flags]) == 0
    assert told == [None, True, False]


def test_tasks_are_sampled_as_they_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "_problem", lambda task, settings: settings)
    for sampled in (True, False, None):
        found = tasks.problems_of(TasksConfig(tasks=("CartPole-v1", "Acrobot-v1"), sampled=sampled))
        assert {settings.sampled for settings in found.values()} == {sampled}
