"""Actions before the squash reach the environment as the deployed policy's would."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from stable_baselines3.common.vec_env import VecEnvWrapper

from kd_agent.environments.vector import make_env
from kd_agent.policies import HeadSpec
from kd_agent.ppo.before_squash import SATURATED, BeforeSquash

HEAD = HeadSpec("squashed_gaussian", (2, 1), "float32", low=(-1.0, -2.0), high=(1.0, 6.0))


class Recording(gym.Env[Any, Any]):
    """Writes down the actions that reach it."""

    observation_space = gym.spaces.Box(-1, 1, (3,), np.float64)
    action_space = gym.spaces.Box(np.float32([[-1], [-2]]), np.float32([[1], [6]]))
    taken: list[Any] = []  # noqa: RUF012 - one list for all that the vector makes

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        return np.zeros(3), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.taken.append(action)
        return np.zeros(3), 1.0, False, False, {}


@pytest.fixture
def env(register_env: Any) -> VecEnvWrapper:
    Recording.taken.clear()
    return BeforeSquash(make_env(register_env("Recording-v0", Recording), 2), HEAD)


def test_what_is_drawn_goes_through_tanh_and_to_the_range(env: VecEnvWrapper) -> None:
    latent = np.array([[0.0, 0.5], [-1.0, 30.0]], np.float32)
    env.reset()
    observations, rewards, _, _ = env.step(latent)
    assert observations.shape == (2, 3)
    assert rewards.tolist() == [1.0, 1.0]
    assert [action.shape for action in Recording.taken] == [(2, 1)] * 2
    assert [action.dtype for action in Recording.taken] == [np.float32] * 2
    expected = np.array([-1, -2]) + (np.tanh(latent) + 1) / 2 * np.array([2, 8])
    np.testing.assert_allclose(np.stack(Recording.taken)[..., 0], expected, atol=1e-6)
    np.testing.assert_array_equal(np.stack(Recording.taken)[..., 0], HEAD.greedy(latent)[..., 0])


def test_its_own_actions_have_finite_bounds_beyond_which_nothing_changes(env: VecEnvWrapper) -> None:
    assert env.action_space == gym.spaces.Box(-SATURATED, SATURATED, (2,), np.float32)
    ends = np.float32([[SATURATED, -SATURATED], [np.inf, -np.inf]])
    inside, beyond = HEAD.greedy(ends)
    np.testing.assert_array_equal(inside, beyond)
    assert not np.array_equal(HEAD.greedy(np.float32([[2.0, 2.0]]))[0], inside)
