"""The one loop that steps environments: who acts acts on what was observed, and episodes follow on one another."""

from collections.abc import Mapping
from itertools import islice
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from kd_agent import KDError
from kd_agent.environments.guarded import EPISODE
from kd_agent.environments.vector import make_env
from kd_agent.rollouts import Step, episode_seeds, play

ENDS = 3


class Counting(gym.Env[Any, Any]):
    """Shows its seed and the number of its steps; pays what it is told to do; ends after `ENDS` steps."""

    def __init__(self, dictionary: bool = False, render_mode: str | None = None) -> None:
        part = gym.spaces.Box(-1e6, 1e6, (2,), np.float32)
        self.observation_space = gym.spaces.Dict({"a": part, "b": part}) if dictionary else part
        self.action_space = gym.spaces.Discrete(100)
        self.render_mode = render_mode
        self.seed, self.count, self.dictionary = 0, 0, dictionary

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        self.seed, self.count = -1 if seed is None else seed, 0
        return self._shown(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.count += 1
        return self._shown(), float(action), self.count == ENDS, False, {"count": self.count}

    def _shown(self) -> Any:
        shown = np.float32([self.seed, self.count])
        return {"a": shown, "b": -shown} if self.dictionary else shown


@pytest.fixture
def counting(register_env: Any) -> str:
    return str(register_env("Counting-v0", Counting))


def played(env_id: str, seeds: list[int], count: int, n_envs: int = 2, **kwargs: Any) -> tuple[list[Step], list[Any]]:
    """So many steps, and what was asked of whoever acts, who does what he sees as the number of steps."""
    asked: list[tuple[dict[str, np.ndarray], np.ndarray]] = []

    def act(observations: Mapping[str, np.ndarray], starts: np.ndarray, allowed: Any) -> np.ndarray:
        asked.append((dict(observations), starts.copy()))
        first = next(iter(observations.values()))
        return first[:, 1].astype(int) + 10

    env = make_env(env_id, n_envs, kwargs)
    steps = list(islice(play(env, iter(seeds), act), count))
    env.close()
    return steps, asked


def test_who_acts_acts_on_what_the_step_tells(counting: str) -> None:
    steps, asked = played(counting, list(range(9)), 7)
    assert len(steps) == len(asked) == 7
    for step, (observations, starts) in zip(steps, asked, strict=True):
        np.testing.assert_array_equal(step.observations["obs"], observations["obs"])
        np.testing.assert_array_equal(step.starts, starts)
        np.testing.assert_array_equal(step.rewards, observations["obs"][:, 1] + 10)


def test_every_episode_is_played_from_its_first_state_to_its_last(counting: str) -> None:
    steps, _ = played(counting, list(range(9)), 2 * ENDS)
    counts = [step.observations["obs"][:, 1].tolist() for step in steps]
    assert counts == [[n, n] for n in (0, 1, 2, 0, 1, 2)]
    assert [step.starts.tolist() for step in steps] == [[n == 0] * 2 for n in (0, 1, 2, 0, 1, 2)]
    assert [step.ended.tolist() for step in steps] == [[n == 2] * 2 for n in (0, 1, 2, 0, 1, 2)]


def test_seeds_are_given_out_to_whichever_environment_begins_an_episode(counting: str) -> None:
    steps, _ = played(counting, [7, 5, 3, 11], 3 * ENDS)
    firsts = [step.observations["obs"][:, 0].tolist() for step in steps if step.starts.all()]
    assert firsts == [[7, 5], [3, 11], [-1, -1]]


def test_infos_are_those_of_the_step_with_the_episode_that_it_ended(counting: str) -> None:
    steps, _ = played(counting, [7, 5], ENDS)
    assert [info["count"] for step in steps for info in step.infos] == [1, 1, 2, 2, 3, 3]
    assert [info.get(EPISODE) for info in steps[-1].infos] == [(7, 10 + 11 + 12, ENDS), (5, 10 + 11 + 12, ENDS)]
    assert not any(EPISODE in info for step in steps[:-1] for info in step.infos)


def test_observations_have_their_keys(counting: str) -> None:
    steps, _ = played(counting, [7, 5], 2, dictionary=True)
    assert set(steps[0].observations) == {"a", "b"}
    np.testing.assert_array_equal(steps[1].observations["a"], -steps[1].observations["b"])


def test_what_a_step_holds_is_not_written_over_by_the_next(counting: str) -> None:
    steps, asked = played(counting, [7, 5], 5)
    kept = [step.observations["obs"].copy() for step in steps]
    assert [array[0, 1] for array in kept] == [0, 1, 2, 0, 1]
    assert [observations["obs"][0, 1] for observations, _ in asked] == [0, 1, 2, 0, 1]


def test_an_environment_that_fails_is_named_and_nobody_acts_again(counting: str) -> None:
    def act(observations: Mapping[str, np.ndarray], starts: np.ndarray, allowed: Any) -> np.ndarray:
        calls.append(starts)
        return np.array([1, 1])

    calls: list[np.ndarray] = []
    env = make_env(counting, 2)
    env.envs[1].unwrapped.step = lambda action: 1 / 0
    with pytest.raises(KDError, match=r"environment 1 \(seed 5, step 1\) raised ZeroDivisionError"):
        next(play(env, iter([7, 5]), act))
    assert len(calls) == 1
    env.close()


def test_episode_seeds_follow_from_their_entropy_alone() -> None:
    first, same, other = (list(islice(episode_seeds(entropy), 50)) for entropy in (3, 3, 4))
    assert first == same
    assert not set(first) & set(other)
    assert len(set(first)) == 50
    assert all(0 <= seed < 2**31 for seed in first)
