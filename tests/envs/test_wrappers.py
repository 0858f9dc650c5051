"""Our wrappers: what they show, and what they cannot be put around."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from kd_envs.wrappers import FrameSkip, HistoryWrapper, MaskVelocityWrapper, ZeroContactForces, without_velocities


class Counter(gym.Env[Any, Any]):
    """Shows and rewards the number of its step; ends at the seventh."""

    def __init__(self) -> None:
        self.observation_space = gym.spaces.Box(0, 9, (2,), np.float32)
        self.action_space = gym.spaces.Box(-1, 1, (1,), np.float32)
        self.count = 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.count = 0
        return np.zeros(2, np.float32), {}

    def step(self, action: Any) -> Any:
        self.count += 1
        return np.full(2, self.count, np.float32), self.count, self.count == 7, False, {}


def test_skipped_frames_add_their_rewards_and_end_with_the_episode() -> None:
    env = FrameSkip(Counter(), skip=4)
    env.reset()
    observation, reward, terminated, _, _ = env.step(np.zeros(1))
    assert (observation[0], reward, terminated) == (4, 1 + 2 + 3 + 4, False)
    observation, reward, terminated, _, _ = env.step(np.zeros(1))
    assert (observation[0], reward, terminated) == (7, 5 + 6 + 7, True)


def test_a_history_is_the_oldest_first_and_empty_before_an_episode() -> None:
    env = HistoryWrapper(Counter(), horizon=3)
    assert env.observation_space.shape == (3 * 2 + 3 * 1,)
    first, _ = env.reset()
    np.testing.assert_array_equal(first, 0)
    for action in (0.25, -0.5):
        observation = env.step(np.float32([action]))[0]
    np.testing.assert_array_equal(observation, [0, 0, 1, 1, 2, 2, 0, 0.25, -0.5])
    assert env.observation_space.contains(observation)
    np.testing.assert_array_equal(env.reset()[0], 0)


@pytest.mark.parametrize("name", sorted(MaskVelocityWrapper.velocities))
def test_exactly_the_velocities_are_hidden(name: str) -> None:
    base = next(env_id for env_id in ("v3", "v1", "v0") if f"{name}-{env_id}" in gym.registry)
    hidden, plain = without_velocities(f"{name}-{base}"), gym.make(f"{name}-{base}")
    places = list(MaskVelocityWrapper.velocities[name])
    for env in (hidden, plain):
        env.action_space.seed(0)
        env.reset(seed=0)
    for _ in range(3):
        action = plain.action_space.sample()
        masked = hidden.step(action)[0]
        expected = plain.step(action)[0].copy()  # MountainCarContinuous shows its own state
        assert (expected[places] != 0).all()
        expected[places] = 0
        np.testing.assert_array_equal(masked, expected)


def test_velocities_that_nobody_knows_are_refused() -> None:
    with pytest.raises(TypeError, match="velocities of Acrobot"):
        MaskVelocityWrapper(gym.make("Acrobot-v1"))
    with pytest.raises(TypeError, match="an unregistered environment"):
        MaskVelocityWrapper(Counter())


def test_contact_forces_are_zeros_behind_the_rest_of_the_observation() -> None:
    env = ZeroContactForces(Counter(), size=5, forces=4)
    env.reset()
    np.testing.assert_array_equal(env.step(np.zeros(1))[0], [1, 0, 0, 0, 0])
    assert env.observation_space.shape == (5,)


@pytest.mark.parametrize("size", [4, 7])
def test_forces_that_do_not_fit_the_observation_are_refused(size: int) -> None:
    with pytest.raises(ValueError, match=f"{size} numbers, 4 of them forces, do not fit"):
        ZeroContactForces(Counter(), size=size, forces=4)
