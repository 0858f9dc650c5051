"""The drifting LunarLander: LunarLander's own world to begin with, another one in the end."""

from typing import Any

import gymnasium as gym
import kd_envs.drift
import numpy as np
import pytest
from gymnasium.envs.box2d import lunar_lander
from kd_envs.drift import NEW, OLD, World

ENV = "kd_envs/LunarLanderDrift-v3"


def trace(env: gym.Env[Any, Any], episodes: int = 2, action: int | None = None) -> list[np.ndarray]:
    rng, found = np.random.default_rng(0), []
    for seed in range(episodes):
        observation, _ = env.reset(seed=seed)
        found.append(np.append(observation, 0.0))
        done = False
        while not done:
            observation, reward, terminated, truncated, _ = env.step(int(rng.integers(4)) if action is None else action)
            found.append(np.append(observation, reward))
            done = terminated or truncated
    return found


def same(first: list[np.ndarray], second: list[np.ndarray]) -> bool:
    return len(first) == len(second) and all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


def test_the_old_world_is_lunar_landers_bit_for_bit() -> None:
    assert same(trace(gym.make(ENV, drift=0)), trace(gym.make("LunarLander-v3")))
    assert same(trace(gym.make(ENV)), trace(gym.make("LunarLander-v3")))


def test_a_windy_world_of_other_gravity_is_lunar_landers_bit_for_bit() -> None:
    new = {"gravity": -7.5, "wind_power": 12.0, "turbulence_power": 1.0}
    theirs = gym.make("LunarLander-v3", gravity=-7.5, enable_wind=True, wind_power=12.0, turbulence_power=1.0)
    assert same(trace(gym.make(ENV, drift=1, new=new)), trace(theirs))


@pytest.mark.parametrize("action", [1, 2, 3])
def test_an_engines_power_acts_as_if_lunar_lander_had_been_built_with_it(
    monkeypatch: pytest.MonkeyPatch, action: int
) -> None:
    new = {"main_engine_power": 9.0, "side_engine_power": 0.4}
    weak = trace(gym.make(ENV, drift=1, new=new), 1, action)[12][:8]
    usual = trace(gym.make("LunarLander-v3"), 1, action)[12][:8]
    monkeypatch.setattr(lunar_lander, "MAIN_ENGINE_POWER", 9.0)
    monkeypatch.setattr(lunar_lander, "SIDE_ENGINE_POWER", 0.4)
    expected = trace(gym.make("LunarLander-v3"), 1, action)[12][:8]
    assert np.linalg.norm(weak - expected) < 0.25 * np.linalg.norm(usual - expected)


def test_the_world_drifts_from_old_to_new_between_episodes() -> None:
    env = gym.make(ENV, begin=200, duration=300)
    shares, worlds = [], []
    for seed in range(12):
        info = env.reset(seed=seed)[1]
        shares.append(info["drift"])
        worlds.append(World(**info["world"]))
        done = False
        while not done:
            _, _, terminated, truncated, info = env.step(0)
            done = terminated or truncated
            assert info["drift"] == shares[-1]
    assert (worlds[0], worlds[-1]) == (OLD, NEW)
    assert shares == sorted(shares)
    assert sum(0 < share < 1 for share in shares) >= 2
    assert all(world == OLD.towards(NEW, share) for world, share in zip(worlds, shares, strict=True))


def test_a_world_can_change_at_once() -> None:
    env = gym.make(ENV, begin=100, duration=0)
    shares = []
    for seed in range(5):
        shares.append(env.reset(seed=seed)[1]["drift"])
        while not any(env.step(0)[2:4]):
            pass
    assert set(shares) == {0.0, 1.0}
    assert shares == sorted(shares)


def test_drifted_all_the_way_is_the_new_world() -> None:
    drifted = gym.make(ENV, begin=0, duration=0)
    assert same(trace(drifted), trace(gym.make(ENV, drift=1)))
    assert not same(trace(drifted), trace(gym.make(ENV, drift=0)))


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"drift": 1.5}, "drift 1.5 in \\[0, 1\\]"),
        ({"duration": -1}, "duration -1"),
        ({"new": {"gravity": 1}}, "gravity 1 should be"),
        ({"new": {"graviti": -1}}, "graviti"),
    ],
)
def test_an_impossible_world_is_refused(kwargs: dict[str, Any], message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        kd_envs.drift.DriftingLander(**kwargs)
