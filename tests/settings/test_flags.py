"""Flags: each setting is one, by its own name, and what is not said leaves the other layers alone."""

import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from kd_agent import KDError
from kd_agent.settings import (
    DistillConfig,
    EvaluateConfig,
    ExplainConfig,
    ExportConfig,
    FollowDriftConfig,
    KickstartConfig,
    RunConfig,
    SearchConfig,
    ServeConfig,
    SweepConfig,
    TasksConfig,
    TrainingConfig,
    VerifyConfig,
    resolve,
)
from kd_agent.settings.flags import parse

STUDENT = "student.safetensors"
CLASSES = [
    DistillConfig,
    EvaluateConfig,
    ExplainConfig,
    ExportConfig,
    FollowDriftConfig,
    KickstartConfig,
    RunConfig,
    SearchConfig,
    ServeConfig,
    SweepConfig,
    TasksConfig,
    VerifyConfig,
]
TAKES_STUDENT = (EvaluateConfig, ExplainConfig, FollowDriftConfig, ServeConfig)


def parsed(cls: Any, *argv: str) -> Any:
    return parse("command", cls, "A command.", argv)


def help_of(cls: Any, capsys: pytest.CaptureFixture[str]) -> str:
    """The text of `--help`, however its lines are broken."""
    with pytest.raises(SystemExit):
        parsed(cls, "--help")
    return " ".join(capsys.readouterr().out.split())


def refused(cls: Any, *argv: str) -> str:
    with pytest.raises(KDError) as caught:
        parsed(cls, *argv)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("cls", CLASSES, ids=lambda c: c.__name__)
def test_every_setting_is_a_flag_by_its_own_name(cls: Any, capsys: pytest.CaptureFixture[str]) -> None:
    shown = help_of(cls, capsys)
    for field in fields(cls):
        flag = f"--{field.name.replace('_', '-')}"
        if field.name == "training":
            assert all(f"--training.{inner.name.replace('_', '-')} " in shown for inner in fields(TrainingConfig))
        elif field.name == "student" and cls in TAKES_STUDENT:
            assert flag not in shown
            assert f"student a saved student, *{Path(STUDENT).suffix}" in shown
        elif field.name == "source":
            assert flag not in shown
            assert "source a saved student, or whatever distill takes for a --teacher" in shown
        elif field.name == "run":
            assert flag not in shown
            assert "run a run folder" in shown
        else:
            assert re.search(rf"{flag}[ ,]", shown)


def test_flags_are_read_by_the_type_of_their_setting() -> None:
    argv = ["--env", "CartPole-v1", "--env-steps", "2e4", "--hidden", "8", "4", "--loss", "kl=0.5", "ce"]
    config = parsed(DistillConfig, *argv, "--no-progress", "--training.gamma", "0.5", "--training.hidden", "3")
    settings = {"env": "CartPole-v1", "env_steps": 20_000, "hidden": (8, 4), "loss": {"kl": 0.5, "ce": 1.0}}
    training = {"gamma": 0.5, "hidden": (3,)}
    assert config == resolve(DistillConfig, {**settings, "progress": False, "training": training})


def test_a_flag_that_is_absent_does_not_overrule_a_file(tmp_path: Path) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text("temperature: 2\nquiet: true\ntraining: {gamma: 0.5, n_envs: 3}")
    argv = ["--env", "CartPole-v1", "--config", str(path), "--training.n-envs", "5"]
    config = parsed(DistillConfig, *argv)
    assert (config.temperature, config.quiet) == (2, True)
    assert (config.training.gamma, config.training.n_envs) == (0.5, 5)
    assert not parsed(DistillConfig, *argv, "--no-quiet").quiet


def test_a_student_is_named_without_a_flag() -> None:
    assert parsed(EvaluateConfig, STUDENT, "--episodes", "3") == EvaluateConfig(student=STUDENT, episodes=3)
    assert "student is missing" in refused(EvaluateConfig)
    assert parsed(DistillConfig, "--env", "CartPole-v1", "--student", "tree").student == "tree"


def test_several_students_are_named_side_by_side_wherever_the_flags_stand() -> None:
    for words in (["a.safetensors", "b.safetensors", "--seed", "3"], ["--seed", "3", "a.safetensors", "b.safetensors"]):
        assert parsed(ServeConfig, *words) == ServeConfig(student=("a.safetensors", "b.safetensors"), seed=3)
    assert "student is missing" in refused(ServeConfig)


def test_a_run_is_named_without_a_flag() -> None:
    assert parsed(VerifyConfig, "runs/1", "--episodes", "3") == VerifyConfig(run="runs/1", episodes=3)
    assert refused(VerifyConfig) == "run is missing (name its folder behind the command)"


@pytest.mark.parametrize(
    ("word", "answer"),
    [
        ("--temprature=2", "unknown flag '--temprature'; did you mean '--temperature'"),
        ("--training.gama", "unknown flag '--training.gama'; did you mean '--training.gamma'"),
        ("CartPole-v1", "unknown argument 'CartPole-v1': no flag takes it"),
    ],
)
def test_an_unknown_word_is_answered_with_the_nearest(word: str, answer: str) -> None:
    assert answer in refused(DistillConfig, "--env", "CartPole-v1", word)


def test_a_student_that_is_named_by_a_flag_is_told_how_to(capsys: pytest.CaptureFixture[str]) -> None:
    assert refused(EvaluateConfig, "--student", STUDENT).endswith(
        "a saved student, *.safetensors, is named without one: kd-agent command STUDENT"
    )
    assert refused(VerifyConfig, "--run", "folder").endswith("a run folder, is named without one: kd-agent command RUN")
    assert "unknown argument 'more.safetensors'" in refused(EvaluateConfig, STUDENT, "more.safetensors")
    assert "name its file, *.safetensors, behind the command" in refused(EvaluateConfig)


def test_a_flag_is_not_abbreviated() -> None:
    assert "unknown flag '--temp'" in refused(DistillConfig, "--env", "CartPole-v1", "--temp", "2")


@pytest.mark.parametrize("argv", [["--temperature"], ["--hidden"], ["--quiet=yes"]])
def test_a_flag_of_the_wrong_form_is_one_line(argv: list[str]) -> None:
    assert argv[0].partition("=")[0] in refused(DistillConfig, "--env", "CartPole-v1", *argv)


def test_help_shows_defaults_and_nought_and_one_are_defaults_too(capsys: pytest.CaptureFixture[str]) -> None:
    shown = help_of(DistillConfig, capsys)
    assert "softens the distributions; auto: chosen by measurement (1.0)" in shown
    assert "everything follows from it (0)" in shown
    assert "hidden layers of actor and critic (256 256)" in shown
    assert "torch device (cpu)" in shown
    for absent in ("(None)", "()", "(False)", "(True)"):
        assert absent not in shown


def test_wrappers_add_up_side_by_side_and_repeated() -> None:
    words = ["--env", "CartPole-v1", "--wrapper", "a:A", "b:B,n=1", "--wrapper", "c:C", "--teacher-wrapper", "d:D"]
    found = parse("distill", DistillConfig, "", words)
    assert found.wrapper == ("a:A", "b:B,n=1", "c:C")
    assert found.teacher_wrapper == ("d:D",)


def test_what_is_asked_for_or_left_to_the_file_or_refused_is_three_things() -> None:
    for cls, words in ((EvaluateConfig, [STUDENT]), (DistillConfig, ["--env", "CartPole-v1"])):
        found = [parsed(cls, *words, *flag).sampled for flag in ([], ["--sampled"], ["--no-sampled"])]
        assert found == [None, True, False]
