"""Another world each episode: all of the range, and the seed says which."""

from dataclasses import asdict

import gymnasium as gym
import kd_envs  # noqa: F401 - registers the environment
import numpy as np

ENV = "kd_envs/LunarLanderWorlds-v3"
RANGE = {"gravity": -8.0, "wind_power": 10.0, "turbulence_power": 1.0, "main_engine_power": 15.0}


def drawn(env: gym.Env, seeds: range) -> np.ndarray:
    """Each seed's world, a row of attributes."""
    return np.array([list(env.reset(seed=seed)[1]["world"].values()) for seed in seeds])


def test_each_attribute_takes_all_of_its_range_independently_of_the_others() -> None:
    env = gym.make(ENV, new=RANGE)
    old, new = (np.array(list(asdict(world).values())) for world in (env.unwrapped.old, env.unwrapped.new))
    low, high = np.minimum(old, new), np.maximum(old, new)
    worlds = drawn(env, range(60))
    assert ((worlds >= low) & (worlds <= high)).all()
    assert (np.ptp(worlds, axis=0) >= 0.7 * (high - low)).all()
    moving = worlds[:, high > low]
    correlation = np.corrcoef(moving.T) - np.eye(moving.shape[1])
    assert np.abs(correlation).max() < 0.5


def test_the_seed_decides_and_the_next_episode_without_one_is_another_world() -> None:
    env = gym.make(ENV)
    assert np.array_equal(drawn(env, range(5)), drawn(gym.make(ENV), range(5)))
    first = env.reset(seed=3)[1]["world"]
    assert env.reset()[1]["world"] != first == env.reset(seed=3)[1]["world"]


def test_the_world_stays_for_an_episode() -> None:
    env = gym.make(ENV)
    world = env.reset(seed=1)[1]["world"]
    assert all(env.step(0)[4]["world"] == world for _ in range(20))
