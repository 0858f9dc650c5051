"""Stacked frames: what Stable-Baselines3's wrapper around all environments shows, within each of them."""

import copy
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from stable_baselines3.common.vec_env import DummyVecEnv, VecFrameStack

from kd_agent import KDError
from kd_agent.environments import Recipe
from kd_agent.environments.frames import StackedFrames
from kd_agent.environments.vector import make_env

SPACES: dict[str, gym.Space[Any]] = {
    "vector": gym.spaces.Box(-1, 1, (3,), np.float32),
    "channels last": gym.spaces.Box(0, 255, (36, 40, 3), np.uint8),
    "channels first": gym.spaces.Box(0, 255, (1, 36, 40), np.uint8),
    "dict": gym.spaces.Dict({"a": gym.spaces.Box(-1, 1, (2,)), "b": gym.spaces.Box(0, 255, (36, 40, 1), np.uint8)}),
}
LENGTHS = (3, 5)
"""Steps of an episode of each environment."""


class Random(gym.Env[Any, Any]):
    """Random observations of a space, episodes of one length."""

    def __init__(self, space: gym.Space[Any], length: int) -> None:
        self.observation_space, self.length, self.count = space, length, 0
        self.action_space = gym.spaces.Discrete(2)
        self.observation_space.seed(length)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        self.count = 0
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.count += 1
        return self.observation_space.sample(), 0.0, self.count == self.length, False, {}


def environments(name: str, stacked: bool) -> list[Any]:
    """Functions that make the environments."""

    def maker(length: int) -> Any:
        def make() -> gym.Env[Any, Any]:
            # A space of its own, for it holds what is random.
            env = Random(copy.deepcopy(SPACES[name]), length)
            return StackedFrames(env, 4) if stacked else env

        return make

    return [maker(length) for length in LENGTHS]


def parts(shown: Any) -> dict[str, np.ndarray]:
    return dict(shown) if isinstance(shown, dict) else {"obs": shown}


def assert_same(one: Any, other: Any) -> None:
    for key, part in parts(other).items():
        np.testing.assert_array_equal(parts(one)[key], part)
        assert parts(one)[key].dtype == part.dtype


@pytest.mark.parametrize("name", SPACES)
def test_frames_are_those_that_a_wrapper_around_all_environments_shows(name: str) -> None:
    ours = DummyVecEnv(environments(name, stacked=True))
    theirs = VecFrameStack(DummyVecEnv(environments(name, stacked=False)), 4)
    assert ours.observation_space == theirs.observation_space
    assert_same(ours.reset(), theirs.reset())
    ends = 0
    for _ in range(20):
        found, expected = (env.step(np.zeros(2, np.int64)) for env in (ours, theirs))
        assert_same(found[0], expected[0])
        for info, other in zip(found[3], expected[3], strict=True):
            if "terminal_observation" in other:
                ends += 1
                assert_same(info["terminal_observation"], other["terminal_observation"])
    assert ends == 20 // 3 + 20 // 5


def test_what_cannot_be_stacked_is_one_line(register_env: Any) -> None:
    env_id = register_env("Words-v0", lambda render_mode=None: Random(gym.spaces.Discrete(3), 3))
    with pytest.raises(KDError, match=r"frames of Discrete\(3\) cannot be stacked: it is neither a Box nor a Dict"):
        make_env(Recipe(env_id, frame_stack=2), 1)
