"""The settings of the other commands: what each needs, and the files that are shipped for kinds of distillation."""

from dataclasses import fields
from pathlib import Path
from typing import Any, get_args

import pytest
from samples import ROOT

from kd_agent import KDError
from kd_agent.settings import (
    DistillConfig,
    EvaluateConfig,
    ExplainConfig,
    ExportConfig,
    FollowDriftConfig,
    KickstartConfig,
    ServeConfig,
    SweepConfig,
    TasksConfig,
    VerifyConfig,
    plain,
    read_mapping,
    resolve,
)

METHODS = sorted((ROOT / "configs" / "methods").glob("*.yaml"))
COMMANDS: dict[str, tuple[Any, dict[str, Any]]] = {
    "kickstart": (KickstartConfig, {"env": "LunarLander-v3"}),
    "ppd": (KickstartConfig, {"env": "LunarLander-v3"}),
    "tasks": (TasksConfig, {}),
    "follow_drift": (FollowDriftConfig, {"student": "student.safetensors", "teacher": "teacher.zip"}),
}
"""Whose settings a method's file has, and what they need beside it; those of `distill` otherwise."""

NEEDED: dict[Any, dict[str, Any]] = {
    EvaluateConfig: {"student": "s.safetensors"},
    ExportConfig: {"source": "s.safetensors", "out": "s.onnx"},
    TasksConfig: {"tasks": ["CartPole-v1", "Acrobot-v1"]},
    SweepConfig: {"teachers": "zoo", "out": "runs"},
    ExplainConfig: {"student": "s.safetensors", "teacher": "t.zip"},
    KickstartConfig: {"env": "CartPole-v1"},
    VerifyConfig: {"run": "runs/1"},
    FollowDriftConfig: {"student": "s.safetensors", "teacher": "t.zip", "env": "CartPole-v1"},
    ServeConfig: {"student": ["s.safetensors"]},
}
"""What each command has to be told; everything else has a default."""


@pytest.mark.parametrize("path", METHODS, ids=lambda p: p.stem)
def test_every_kind_of_distillation_has_a_file_that_resolves_and_is_told_of(path: Path) -> None:
    command, needed = COMMANDS.get(path.stem, (DistillConfig, {"env": "LunarLander-v3"}))
    given, found = read_mapping(path), resolve(command, needed, str(path))
    resolved = plain(found)
    for name, value in given.items():
        assert resolved[name] == value
    assert given.keys() - needed.keys()
    assert f"`{path.stem}`" in (ROOT / "docs" / "methods.md").read_text()


def test_the_environment_of_an_evaluation_is_optional() -> None:
    assert resolve(EvaluateConfig, {"student": "s.safetensors"}).env is None
    with pytest.raises(KDError, match="student is missing"):
        resolve(EvaluateConfig, {})


@pytest.mark.parametrize("cls", NEEDED, ids=lambda c: c.__name__)
def test_a_command_needs_these_settings_and_no_others(cls: Any) -> None:
    needed = NEEDED[cls]
    resolve(cls, needed)
    for name in needed:
        rest = {key: value for key, value in needed.items() if key != name}
        how = {"student": "name its file, .*", "run": "name its folder .*", "source": "name its file or folder .*"}.get(
            name, f"--{name}"
        )
        with pytest.raises(KDError, match=rf"^{name} is missing \({how}\)$"):
            resolve(cls, rest)


@pytest.mark.parametrize("cls", NEEDED, ids=lambda c: c.__name__)
def test_every_setting_says_what_it_is(cls: Any) -> None:
    for field in fields(cls):
        assert get_args(field.type)[-1].description


@pytest.mark.parametrize(
    ("cls", "name", "value"),
    [
        (TasksConfig, "tasks", ["CartPole-v1"]),
        (ExplainConfig, "teacher", []),
        (FollowDriftConfig, "reference_episodes", 19),
        (FollowDriftConfig, "env", ""),
        (KickstartConfig, "method", "kickstrat"),
        (KickstartConfig, "fade", "never"),
        (KickstartConfig, "critic_warmup", 1.5),
        (SweepConfig, "jobs", 0),
        (EvaluateConfig, "episodes", 0),
        (ExportConfig, "int8", "perhaps"),
        (VerifyConfig, "tolerance", -0.1),
        (VerifyConfig, "episodes", 0),
    ],
)
def test_a_value_that_a_command_cannot_use_is_named(cls: Any, name: str, value: Any) -> None:
    with pytest.raises(KDError, match=f"^{name}: ") as caught:
        resolve(cls, {**NEEDED[cls], name: value})
    assert "\n" not in str(caught.value)
