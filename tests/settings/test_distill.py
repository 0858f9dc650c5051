"""The settings of a distillation: their defaults, and the files that are shipped for environments."""

from dataclasses import fields
from pathlib import Path
from typing import Any, get_args

import gymnasium as gym
import pytest
from samples import ROOT

import kd_agent.environments.recipe  # noqa: F401 - registers every environment
from kd_agent import KDError, plugins
from kd_agent.settings import (
    DistillConfig,
    RunConfig,
    SearchConfig,
    TrainingConfig,
    env_defaults,
    read_mapping,
    resolve,
)

CONFIGS = sorted((ROOT / "configs").glob("*.yaml"))


def test_there_are_settings_for_every_environment_that_is_promised() -> None:
    promised = {
        "CartPole-v1",
        "Acrobot-v1",
        "MountainCar-v0",
        "Pendulum-v1",
        "LunarLander-v3",
        "LunarLanderContinuous-v3",
        "BipedalWalker-v3",
    }
    assert promised <= {path.stem for path in CONFIGS}


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.stem)
def test_every_shipped_file_resolves_for_every_command(path: Path) -> None:
    env_id = path.stem.replace("kd_envs-", "kd_envs/")
    assert env_id in gym.registry
    config = resolve(DistillConfig, {"env": env_id})
    given = read_mapping(path)
    training = given.get("training") or env_defaults(given["teacher_env"])["training"]
    assert training["total_steps"] == config.training.total_steps
    assert resolve(RunConfig, {"env": env_id}).training == config.training
    assert env_defaults(env_id) == given


def test_settings_are_frozen() -> None:
    config = resolve(DistillConfig, {"env": "CartPole-v1"})
    with pytest.raises(AttributeError):
        config.seed = 3  # type: ignore[misc]


@pytest.mark.parametrize("cls", [DistillConfig, RunConfig, SearchConfig, TrainingConfig], ids=lambda c: c.__name__)
def test_every_setting_says_what_it_is(cls: Any) -> None:
    for field in fields(cls):
        description = get_args(field.type)[-1].description
        assert description
        assert not description.endswith(".")


def test_an_environment_is_all_that_has_to_be_said() -> None:
    config = DistillConfig(env="CartPole-v1")
    assert config == resolve(DistillConfig, {"env": "CartPole-v1", "training": vars(TrainingConfig())})
    assert config.temperature == 1.0
    assert config.training == TrainingConfig()
    assert all(name in plugins.names("losses") for name in config.loss or {})


def test_a_search_is_told_all_that_a_distillation_is() -> None:
    own = {field.name for field in fields(SearchConfig)} - {field.name for field in fields(DistillConfig)}
    assert own == {"trials"}
    assert resolve(SearchConfig, {"env": "CartPole-v1", "trials": "3"}).trials == 3


@pytest.mark.parametrize(
    ("name", "value"),
    [("compression", 0.9), ("compression", "inf"), ("compression", "nan"), ("seeds", 0), ("seeds", 1.5)],
)
def test_a_student_is_no_larger_than_its_teacher_and_there_is_one_at_least(name: str, value: Any) -> None:
    with pytest.raises(KDError, match=f"^{name}: "):
        resolve(DistillConfig, {"env": "CartPole-v1", name: value})


@pytest.mark.parametrize(
    ("name", "default", "asked"),
    [
        ("grow", None, False),
        ("compression", None, 1.0),
        ("seeds", 1, 3),
        ("label_budget", None, 300),
        ("strict", False, True),
        ("sampled", None, True),
    ],
)
def test_nobody_has_to_say_how_a_student_grows_plays_or_is_judged(name: str, default: Any, asked: Any) -> None:
    assert getattr(resolve(DistillConfig, {"env": "CartPole-v1"}), name) == default
    assert getattr(resolve(DistillConfig, {"env": "CartPole-v1", name: asked}), name) == asked


@pytest.mark.parametrize("leaves", [1, 0, -1, "many"])
def test_a_tree_has_two_leaves_or_more(leaves: Any) -> None:
    with pytest.raises(KDError, match=r"^leaves: "):
        resolve(DistillConfig, {"env": "CartPole-v1", "leaves": leaves})
