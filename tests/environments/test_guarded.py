"""The guard: episodes are counted, seeds are played, and what misbehaves is stopped at its step."""

import itertools
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from kd_agent import KDError
from kd_agent.environments.guarded import GuardedEnv

BOX = gym.spaces.Box(-9, 9, (2,), np.float32)


class Scripted(gym.Env[Any, Any]):
    """Shows and rewards what it is told to; its episodes have three steps."""

    def __init__(self, space: gym.Space[Any] = BOX, shown: Any = None, reward: Any = 1.0, fails: str = "") -> None:
        self.observation_space = space
        self.action_space = gym.spaces.Discrete(2)
        self.shown = np.zeros(2, np.float32) if shown is None else shown
        self.reward = reward
        self.fails = fails
        self.seeds: list[int | None] = []
        self.steps = 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        if self.fails == "reset":
            raise RuntimeError("no start\ntoday")
        self.seeds.append(seed)
        self.steps = 0
        return self._first(), {}

    def step(self, action: Any) -> Any:
        if self.fails == "step":
            raise ZeroDivisionError("broken")
        self.steps += 1
        return self.shown, self.reward, self.steps == 3, False, {}

    def _first(self) -> Any:
        """What a well-behaved reset shows."""
        if isinstance(self.observation_space, gym.spaces.Dict):
            return {key: np.zeros(2, np.float32) for key in self.observation_space}
        return np.zeros(2, np.float32)


def failing_step(env: Scripted) -> str:
    guarded = GuardedEnv(env, index=4)
    guarded.reset(seed=17)
    with pytest.raises(KDError) as caught:
        guarded.step(0)
    message = str(caught.value)
    assert message.startswith("environment 4 (seed 17, step 1) ")
    return message


def test_episodes_take_the_seeds_in_their_order_and_then_those_of_the_caller() -> None:
    env = Scripted()
    guarded = GuardedEnv(env, 0)
    guarded.take_seeds(iter([5, 6]))
    for seed in (1, 2, 3, None):
        guarded.reset(seed=seed)
    assert env.seeds == [5, 6, 3, None]
    assert guarded.episode_seed is None


def test_seeds_can_be_shared_between_environments() -> None:
    first, second = Scripted(), Scripted()
    seeds = itertools.count(10)
    for env in (first, second):
        guarded = GuardedEnv(env, 0)
        guarded.take_seeds(seeds)
        guarded.reset()
        guarded.reset()
    assert first.seeds + second.seeds == [10, 11, 12, 13]


def test_the_last_step_tells_the_episode_and_the_first_of_the_next_one_repeats_it() -> None:
    guarded = GuardedEnv(Scripted(reward=2), 0)
    guarded.take_seeds(iter([7, 8]))
    guarded.reset()
    infos = [guarded.step(0)[4] for _ in range(3)]
    assert infos == [{}, {}, {"episode": (7, 6.0, 3)}]
    guarded.reset()
    assert guarded.step(0)[4] == {"last_episode": (7, 6.0, 3)}
    assert guarded.step(0)[4] == {}
    assert guarded.step(0)[4] == {"episode": (8, 6.0, 3)}


def test_an_episode_that_is_broken_off_counts_for_nothing() -> None:
    guarded = GuardedEnv(Scripted(), 0)
    guarded.reset(seed=1)
    guarded.step(0)
    guarded.reset(seed=2)
    infos = [guarded.step(0)[4] for _ in range(3)]
    assert infos[0] == {}
    assert infos[2]["episode"] == (2, 3.0, 3)


def test_large_finite_numbers_whose_square_overflows_are_no_misbehaviour() -> None:
    guarded = GuardedEnv(Scripted(shown=np.full(2, 3e38, np.float32)), 0)
    guarded.reset()
    with np.errstate(over="ignore"):
        assert guarded.step(0)[1] == 1.0


@pytest.mark.parametrize(
    ("shown", "message"),
    [
        (np.float32([0, np.nan]), "NaN or infinite"),
        (np.float32([-np.inf, 0]), "NaN or infinite"),
        (np.zeros(3, np.float32), r"shape (3,), its space says (2,)"),
        (np.array(["a", "b"]), "type <U1"),
        (np.array([None, 1]), "type object"),
    ],
)
def test_an_observation_that_its_space_does_not_allow_is_named(shown: Any, message: str) -> None:
    assert message in failing_step(Scripted(shown=shown))


@pytest.mark.parametrize("shown", [{"a": np.zeros(2)}, np.zeros(2), None])
def test_a_missing_key_is_named(shown: Any) -> None:
    space = gym.spaces.Dict({"a": BOX, "b": BOX})
    env = Scripted(space)
    env.shown = shown
    assert "returned an observation without " in failing_step(env)


@pytest.mark.parametrize("reward", [float("nan"), float("-inf"), None, "1", np.zeros(2), 10**400])
def test_a_reward_that_is_no_finite_number_is_named(reward: Any) -> None:
    assert "returned the reward " in failing_step(Scripted(reward=reward))


def test_errors_of_the_environment_are_told_in_one_line() -> None:
    assert failing_step(Scripted(fails="step")).endswith("raised ZeroDivisionError: broken")
    with pytest.raises(KDError, match=r"environment 0 \(seed 3, step 0\) raised RuntimeError: no start today"):
        GuardedEnv(Scripted(fails="reset"), 0).reset(seed=3)
