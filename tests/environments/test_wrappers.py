"""Wrappers by the names of RL Zoo's settings, from whichever library they were taken."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from kd_envs.wrappers import FrameSkip, HistoryWrapper
from masked_agents import IDS
from sb3_contrib.common.wrappers import TimeFeatureWrapper

from kd_agent import KDError
from kd_agent.environments.recipe import TIME_FEATURE, ZERO_FORCES, Recipe
from kd_agent.environments.vector import action_masks, make_env, start
from kd_agent.environments.wrappers import _WRAPPERS, wrapped, wrapper
from kd_agent.networks import head_for


def through(name: str, **kwargs: Any) -> gym.Env[Any, Any]:
    return wrapped(gym.make("CarRacing-v3"), Recipe("CarRacing-v3", {}, ((name, kwargs),)))


@pytest.mark.parametrize(
    ("name", "cls"),
    [
        ("sb3_contrib.common.wrappers.TimeFeatureWrapper", TimeFeatureWrapper),
        ("sb3_contrib.common.wrappers.time_feature.TimeFeatureWrapper", TimeFeatureWrapper),
        ("utils.wrappers.TimeFeatureWrapper", TimeFeatureWrapper),
        ("rl_zoo.wrappers.HistoryWrapper", HistoryWrapper),
        ("rl_zoo3.wrappers.FrameSkip", FrameSkip),
        ("gym.wrappers.resize_observation.ResizeObservation", gym.wrappers.ResizeObservation),
        ("gym.wrappers.gray_scale_observation.GrayScaleObservation", gym.wrappers.GrayscaleObservation),
        ("rl_zoo3.wrappers.YAMLCompatResizeObservation", gym.wrappers.ResizeObservation),
    ],
)
def test_a_wrapper_is_known_by_every_name_that_it_had(name: str, cls: type[Any]) -> None:
    assert wrapper(name) is cls


@pytest.mark.parametrize("name", sorted(_WRAPPERS))
def test_every_known_wrapper_exists(name: str) -> None:
    assert issubclass(wrapper(f"gymnasium.wrappers.{name}"), gym.Wrapper)


def test_the_names_that_other_rooms_write_are_known() -> None:
    assert wrapper(TIME_FEATURE) is TimeFeatureWrapper
    assert wrapper(ZERO_FORCES).__name__ == "ZeroContactForces"


@pytest.mark.parametrize(
    "name", ["gymnasium.wrappers.RecordVideo", "os.system", "evil.wrappers.FrameSkip", "FrameSkip"]
)
def test_any_other_name_is_refused_with_those_that_are_known(name: str) -> None:
    with pytest.raises(KDError, match=f"'{name}' is not known here.*; known are: .*FrameSkip, .*TimeLimit"):
        wrapper(name)


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(_WRAPPERS, "FrameSkip", "absent_library.wrappers:FrameSkip")
    with pytest.raises(KDError, match="needs: pip install absent_library"):
        wrapper("rl_zoo3.wrappers.FrameSkip")


@pytest.mark.parametrize("shape", [64, [64, 64], (64, 64)])
def test_a_shape_may_be_a_number_or_a_list(shape: Any) -> None:
    pytest.importorskip("cv2")
    env = through("gym.wrappers.ResizeObservation", shape=shape)
    assert env.observation_space.shape == (64, 64, 3)


def test_the_first_wrapper_is_the_innermost() -> None:
    inner = ("rl_zoo3.wrappers.HistoryWrapper", {"horizon": 1})
    outer = ("gymnasium.wrappers.TimeLimit", {"max_episode_steps": 7})
    env = wrapped(gym.make("Pendulum-v1"), Recipe("Pendulum-v1", {}, (inner, outer)))
    assert isinstance(env, gym.wrappers.TimeLimit)
    assert isinstance(env.env, HistoryWrapper)
    assert env.reset(seed=0)[0].shape == (3 + 1,)


@pytest.mark.parametrize(
    ("name", "kwargs", "message"),
    [
        ("rl_zoo3.wrappers.FrameSkip", {"skips": 3}, "skips"),
        ("rl_zoo3.wrappers.HistoryWrapper", {}, ""),
        ("gymnasium.wrappers.RescaleAction", {"min_action": np.inf, "max_action": 0.0}, ""),
    ],
)
def test_an_environment_that_does_not_fit_is_one_line(name: str, kwargs: dict[str, Any], message: str) -> None:
    recipe = Recipe("CartPole-v1", {}, ((name, kwargs),))
    with pytest.raises(KDError, match=f"CartPole-v1 does not fit into {name}: .*{message}") as caught:
        wrapped(gym.make("CartPole-v1"), recipe)
    assert "\n" not in str(caught.value)


def test_an_action_masker_of_settings_finds_the_environments_own_method() -> None:
    name = "sb3_contrib.common.wrappers.ActionMasker"
    env = make_env(Recipe(IDS["Discrete"], {}, ((name, {"action_mask_fn": "action_masks"}),)), 2)
    start(env, iter([1, 2]))
    masks = action_masks(env, head_for(env.action_space).spec)
    assert masks.tolist() == [list(mask) for mask in env.get_attr("mask")]
    for method in ("nothing_like_it", "__class__"):
        with pytest.raises(KDError, match=f"the environment has no method '{method}'"):
            make_env(Recipe(IDS["Discrete"], {}, ((name, {"action_mask_fn": method}),)), 1)
