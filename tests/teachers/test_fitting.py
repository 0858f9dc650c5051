"""Environments made like those that a teacher knew: versions by the sizes alone, wrappers where they are named."""

import warnings
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from zoo_folders import ENV, agent, zoo

from kd_agent import KDError
from kd_agent.environments import recipe_of
from kd_agent.environments.own_wrappers import TypedWrappers
from kd_agent.environments.recipe import TIME_FEATURE
from kd_agent.environments.vector import make_env, spaces_of, start
from kd_agent.rollouts.evaluate import evaluate
from kd_agent.teachers import load_teacher, recipe_for


@pytest.fixture(autouse=True)
def _quiet() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def played_in(path: Path, *wrappers: str) -> Any:
    """What a teacher plays in once its wrappers are typed, and that it can be played there."""
    recipe = recipe_for(str(path), ENV, {}, TypedWrappers(wrappers))
    teacher = load_teacher(str(path), env=spaces_of(recipe))
    assert len(evaluate(teacher, recipe, seeds=range(3)).returns) == 3
    return recipe


def test_one_more_number_is_not_taken_for_the_time_but_the_flag_is_named(tmp_path: Path) -> None:
    from sb3_contrib.common.wrappers import TimeFeatureWrapper

    path = agent(tmp_path / "a.zip", TimeFeatureWrapper(gym.make(ENV)))
    flag = "sb3_contrib.common.wrappers:TimeFeatureWrapper"
    with pytest.raises(KDError, match=rf"\(5,\), CartPole-v1 has \(4,\); name the wrapper .*--wrapper {flag} or"):
        recipe_for(str(path), ENV, {})
    assert played_in(path, flag).wrappers == ((TIME_FEATURE, {}),)
    assert played_in(path, "gymnasium.wrappers:TimeAwareObservation").wrappers[0][0].endswith("TimeAwareObservation")


def test_the_settings_of_its_folder_still_name_the_time_feature(tmp_path: Path) -> None:
    from sb3_contrib.common.wrappers import TimeFeatureWrapper

    agent(tmp_path / f"{ENV}.zip", TimeFeatureWrapper(gym.make(ENV)))
    zoo(tmp_path, {"env_wrapper": TIME_FEATURE})
    assert recipe_for(str(tmp_path), ENV, {}).wrappers == ((TIME_FEATURE, {}),)


def test_frames_side_by_side_are_named_and_not_guessed(tmp_path: Path) -> None:
    stacked = gym.wrappers.FrameStackObservation(gym.make(ENV), 3)
    path = agent(tmp_path / "a.zip", gym.wrappers.FlattenObservation(stacked))
    flag = "stable_baselines3.common.vec_env:VecFrameStack,n_stack=3"
    with pytest.raises(KDError, match=f"--wrapper {flag} "):
        recipe_for(str(path), ENV, {})
    assert played_in(path, flag).frame_stack == 3
    observations = start(make_env(played_in(path, flag), 2), iter([1, 2]))
    assert observations["obs"].shape == (2, 12)
    words = "gymnasium.wrappers:FrameStackObservation,stack_size=3", "gymnasium.wrappers:FlattenObservation"
    assert len(played_in(path, *words).wrappers) == 2


def test_frames_one_above_the_other_are_named_too(tmp_path: Path) -> None:
    path = agent(tmp_path / "a.zip", gym.wrappers.FrameStackObservation(gym.make(ENV), 3))
    flag = "gymnasium.wrappers:FrameStackObservation,stack_size=3"
    with pytest.raises(KDError, match=f"--wrapper {flag}"):
        recipe_for(str(path), ENV, {})
    played_in(path, flag)


def test_what_is_flattened_names_its_wrapper(tmp_path: Path) -> None:
    flag = "gymnasium.wrappers:FlattenObservation"
    for env_id in ("Blackjack-v1", "FrozenLake-v1"):
        path = agent(tmp_path / "a.zip", gym.wrappers.FlattenObservation(gym.make(env_id)))
        with pytest.raises(KDError, match=f"--wrapper {flag}"):
            recipe_for(str(path), env_id, {})
        recipe = recipe_for(str(path), env_id, {}, TypedWrappers((flag,)))
        teacher = load_teacher(str(path), env=spaces_of(recipe))
        assert len(evaluate(teacher, recipe, seeds=range(3)).returns) == 3


def test_other_sizes_are_left_to_the_loading_of_the_teacher(tmp_path: Path) -> None:
    path = agent(tmp_path / "a.zip", Resized(gym.make(ENV), 7))
    assert recipe_for(str(path), ENV, {}) == recipe_of(ENV)


def test_a_version_whose_observations_fit_is_preferred_to_a_newer_one(tmp_path: Path) -> None:
    pytest.importorskip("mujoco")
    path = agent(tmp_path / "a.zip", gym.make("Reacher-v4"))
    with pytest.warns(UserWarning, match="playing Reacher-v4"):
        assert recipe_for(str(path), "Reacher-v2", {}).env_id == "Reacher-v4"


class Resized(gym.ObservationWrapper[Any, Any, Any]):
    """An environment whose observations have another size."""

    def __init__(self, env: gym.Env[Any, Any], size: int) -> None:
        super().__init__(env)
        self.observation_space = gym.spaces.Box(-np.inf, np.inf, (size,), np.float64)

    def observation(self, observation: Any) -> Any:
        return np.resize(observation, self.observation_space.shape)


@pytest.mark.parametrize(("name", "size"), [("Ant", 111), ("Humanoid", 376)])
def test_contact_forces_are_0_for_agents_of_old_mujoco(tmp_path: Path, name: str, size: int) -> None:
    pytest.importorskip("mujoco")
    path = agent(tmp_path / "a.zip", Resized(gym.make(f"{name}-v5"), size))
    with pytest.warns(UserWarning, match="contact forces of 0"):
        recipe = recipe_for(str(path), f"{name}-v3", {})
    env = make_env(recipe, 1)
    start(env, iter([0]))
    for _ in range(20):
        observations = env.step(np.array([env.action_space.sample()]))[0]
    assert observations.shape == (1, size)
    assert (observations[0, -84:] == 0).all()
    assert (observations[0, :20] != 0).all()
