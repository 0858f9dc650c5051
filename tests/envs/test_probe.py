"""Our own environments: Gymnasium's rules, the same trace for the same seed, and the known answer."""

import warnings

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from kd_envs.probe import best_action
from samples import PROBES

OURS = sorted(env_id for env_id in gym.registry if env_id.startswith("kd_envs/"))


def trace(env_id: str, seed: int) -> list[np.ndarray]:
    env = gym.make(env_id)
    env.action_space.seed(seed)
    observation, _ = env.reset(seed=seed)
    found, done = [gym.spaces.flatten(env.observation_space, observation)], False
    while not done:
        observation, reward, terminated, truncated, _ = env.step(env.action_space.sample())
        found.append(np.append(gym.spaces.flatten(env.observation_space, observation), reward))
        done = terminated or truncated
    return found


def test_there_is_a_probe_for_each_action_space() -> None:
    assert set(PROBES.values()) <= set(OURS)


@pytest.mark.parametrize("env_id", OURS)
def test_gymnasium_accepts_the_environment(env_id: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        check_env(gym.make(env_id).unwrapped, skip_render_check=True)
        check_env(gym.make(env_id), skip_render_check=True)
        env = gym.make(env_id)
    assert env.observation_space.contains(env.reset(seed=0)[0])


@pytest.mark.parametrize("env_id", OURS)
def test_the_same_seed_gives_the_same_trace_and_another_seed_another(env_id: str) -> None:
    first, second, other = trace(env_id, 3), trace(env_id, 3), trace(env_id, 4)
    assert len(first) == len(second) > 2
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))
    assert not np.array_equal(first[0], other[0])


@pytest.mark.parametrize("env_id", PROBES.values(), ids=PROBES)
def test_the_best_action_earns_one_a_step_and_chance_earns_less(env_id: str) -> None:
    env = gym.make(env_id)
    observation, _ = env.reset(seed=0)
    total, steps, done = 0.0, 0, False
    while not done:
        action = best_action(env.action_space, observation)
        assert env.action_space.contains(np.asarray(action, env.action_space.dtype) if np.ndim(action) else action)
        observation, reward, terminated, truncated, _ = env.step(action)
        total, steps, done = total + reward, steps + 1, terminated or truncated
    assert steps == 50
    assert total == pytest.approx(50, abs=1e-4)
    assert sum(step[-1] for step in trace(env_id, 0)[1:]) < 40
