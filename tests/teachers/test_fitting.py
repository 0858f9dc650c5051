"""Environments made like those that a teacher knew, told by the sizes alone."""

import warnings
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from zoo_folders import ENV, agent

from kd_agent.environments.recipe import TIME_FEATURE
from kd_agent.environments.vector import make_env, spaces_of, start
from kd_agent.rollouts.evaluate import evaluate
from kd_agent.teachers import load_teacher, recipe_for


@pytest.fixture(autouse=True)
def _quiet() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def test_a_time_feature_is_told_by_the_size_alone(tmp_path: Path) -> None:
    from sb3_contrib.common.wrappers import TimeFeatureWrapper

    path = agent(tmp_path / "a.zip", TimeFeatureWrapper(gym.make(ENV)))
    with pytest.warns(UserWarning, match="remaining time"):
        recipe = recipe_for(str(path), ENV, {})
    assert recipe.wrappers == ((TIME_FEATURE, {}),)
    teacher = load_teacher(str(path), env=spaces_of(recipe))
    assert len(evaluate(teacher, recipe, seeds=range(3)).returns) == 3


def test_stacked_frames_are_told_by_the_size_alone(tmp_path: Path) -> None:
    path = agent(
        tmp_path / "a.zip", gym.wrappers.FlattenObservation(gym.wrappers.FrameStackObservation(gym.make(ENV), 3))
    )
    recipe = recipe_for(str(path), ENV, {})
    assert recipe.frame_stack == 3
    env = make_env(recipe, 2)
    observations = start(env, iter([1, 2]))
    assert observations["obs"].shape == (2, 12)


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
