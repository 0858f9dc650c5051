"""The guard: episodes are counted, seeds are played, and what misbehaves is stopped at its step."""

import itertools
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from kd_agent import KDError
from kd_agent.environments.guarded import EPISODE, LAST_EPISODE, AroundWrappers, GuardedEnv

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
    assert infos == [{}, {}, {EPISODE: (7, 6.0, 3)}]
    guarded.reset()
    assert guarded.step(0)[4] == {LAST_EPISODE: (7, 6.0, 3)}
    assert guarded.step(0)[4] == {}
    assert guarded.step(0)[4] == {EPISODE: (8, 6.0, 3)}


def test_an_episode_that_is_broken_off_counts_for_nothing() -> None:
    guarded = GuardedEnv(Scripted(), 0)
    guarded.reset(seed=1)
    guarded.step(0)
    guarded.reset(seed=2)
    infos = [guarded.step(0)[4] for _ in range(3)]
    assert infos[0] == {}
    assert infos[2][EPISODE] == (2, 3.0, 3)


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


class Odd(Scripted):
    """Answers its steps by a function of what it would have answered."""

    def __init__(self, odd: Any) -> None:
        super().__init__()
        self.odd = odd

    def step(self, action: Any) -> Any:
        return self.odd(*super().step(action))


def step_of(odd: Any) -> tuple[Any, ...]:
    guarded = GuardedEnv(Odd(odd), 0)
    guarded.reset(seed=1)
    return guarded.step(0)


@pytest.mark.parametrize("reward", [np.array([2.0]), np.float32(2), np.int64(2), [2], np.array([[2]])])
def test_a_reward_in_an_array_of_one_is_a_number(reward: Any) -> None:
    found = step_of(lambda o, r, t, c, i: (o, reward, t, c, i))[1]
    assert (type(found), found) == (float, 2.0)


@pytest.mark.parametrize("over", [np.array([True]), np.True_, [True], 1])
def test_an_end_in_an_array_of_one_is_an_end(over: Any) -> None:
    _, _, terminated, truncated, info = step_of(lambda o, r, t, c, i: (o, r, over, c, i))
    assert (terminated, truncated, info[EPISODE][2]) == (True, False, 1)
    assert step_of(lambda o, r, t, c, i: (o, r, t, over, i))[3] is True


@pytest.mark.parametrize("over", [None, "no", np.array([True, False])])
def test_an_end_that_is_no_truth_value_is_named(over: Any) -> None:
    with pytest.raises(KDError, match=r"environment 0 \(seed 1, step 1\) returned the value of terminated"):
        step_of(lambda o, r, t, c, i: (o, r, over, c, i))


def test_what_an_environment_says_of_episodes_by_itself_reaches_nobody_who_would_misread_it() -> None:
    assert step_of(lambda o, r, t, c, i: (o, r, t, c, {"episode": 17, "lives": 2}))[4] == {"lives": 2}
    assert step_of(lambda o, r, t, c, i: (o, r, t, c, None))[4] == {}
    with pytest.raises(KDError, match="an info of type str, which is no mapping"):
        step_of(lambda o, r, t, c, i: (o, r, t, c, "all well"))


def test_rewards_that_overflow_only_in_sum_are_stopped_where_they_do() -> None:
    guarded = GuardedEnv(Scripted(reward=1e308), 0)
    guarded.reset(seed=1)
    guarded.step(0)
    with pytest.raises(KDError, match=r"step 2.*more in one episode than a number can hold"):
        guarded.step(0)


def test_answers_of_the_old_gym_are_named() -> None:
    with pytest.raises(KDError, match=r"returned 4 values from step\(\); Gymnasium's returns observation, reward"):
        step_of(lambda o, r, t, c, i: (o, r, t, i))
    env = Scripted()
    env.reset = lambda **_: np.zeros(2, np.float32)  # type: ignore[method-assign, assignment]
    with pytest.raises(KDError, match=r"returned a ndarray from reset\(\)"):
        GuardedEnv(env, 0).reset()


def test_an_action_space_that_changes_is_noticed_at_the_next_episode() -> None:
    env = Scripted()
    guarded = GuardedEnv(env, 0)
    guarded.reset()
    env.action_space = gym.spaces.Discrete(77)
    with pytest.raises(KDError, match=r"changed its action space to Discrete\(77\)"):
        guarded.reset()


def test_an_exception_of_a_local_class_is_told_by_its_name() -> None:
    class Mine(Exception):
        pass

    def fails(*answer: Any) -> Any:
        raise Mine("of the house")

    with pytest.raises(KDError, match="raised Mine: of the house"):
        step_of(fails)


def test_an_environment_that_cannot_be_closed_is_a_warning() -> None:
    env = Scripted()

    def close() -> None:
        raise RuntimeError("stuck")

    env.close = close  # type: ignore[method-assign]
    with pytest.warns(UserWarning, match="cannot be closed"):
        GuardedEnv(env, 0).close()


def test_an_episode_without_an_end_is_cut_and_that_is_said() -> None:
    guarded = GuardedEnv(Odd(lambda o, r, t, c, i: (o, r, False, False, i)), 0, limit=5)
    guarded.reset(seed=1)
    for _ in range(4):
        assert guarded.step(0)[2:4] == (False, False)
    with pytest.warns(UserWarning, match=r"cut after 5 steps.*--max-episode-steps"):
        _, _, terminated, truncated, info = guarded.step(0)
    assert (terminated, truncated) == (False, True)
    assert info[EPISODE] == (1, 5.0, 5)


def test_the_last_step_within_the_limit_is_no_cut() -> None:
    guarded = GuardedEnv(Scripted(), 0, limit=3)
    guarded.reset(seed=1)
    assert [guarded.step(0)[2:4] for _ in range(3)][-1] == (True, False)


class Ends(gym.Wrapper[Any, Any, Any, Any]):
    """Calls every second step an end, truly or, as a lost life, only in name."""

    def __init__(self, env: gym.Env[Any, Any], lives: bool) -> None:
        super().__init__(env)
        self.lives, self.steps, self.begun = lives, 0, False

    def reset(self, **more: Any) -> Any:
        if self.lives and self.begun:
            return self.env.step(0)[0], {}
        self.begun = True
        return self.env.reset(**more)

    def step(self, action: Any) -> Any:
        observation, reward, over, cut, info = self.env.step(action)
        self.steps += 1
        return observation, reward, over or self.steps % 2 == 0, cut, info


def told(env: gym.Env[Any, Any], steps: int) -> list[Any]:
    """What a vector environment, which resets at each end, is told of episodes."""
    found = []
    env.reset()
    for _ in range(steps):
        *_, over, cut, info = env.step(0)
        found += [info[key] for key in (EPISODE, LAST_EPISODE) if key in info]
        if over or cut:
            env.reset()
    return found


def test_an_episode_that_a_wrapper_ends_is_told_with_the_next_ones_first_step() -> None:
    guard = GuardedEnv(Scripted(reward=2), 0)
    guard.take_seeds(iter([7, 8, 9]))
    assert told(AroundWrappers(Ends(guard, lives=False), guard), 5) == [(7, 4.0, 2), (8, 4.0, 2)]


def test_a_lost_life_that_a_wrapper_calls_an_end_ends_no_episode() -> None:
    guard = GuardedEnv(Scripted(reward=2), 0)
    guard.take_seeds(iter([7, 8, 9]))
    plain = GuardedEnv(Scripted(reward=2), 0)
    plain.take_seeds(iter([7, 8, 9]))
    # Only whole episodes of the environment's own count, whatever lives are lost in them.
    lengths = {episode[2] for episode in told(plain, 40)}
    assert {episode[2] for episode in told(AroundWrappers(Ends(guard, lives=True), guard), 40)} <= lengths


class Breaks(gym.ObservationWrapper[Any, Any, Any]):
    """Raises, or shows what its space does not say."""

    def __init__(self, env: gym.Env[Any, Any], how: str) -> None:
        super().__init__(env)
        self.how = how

    def observation(self, observation: Any) -> Any:
        if self.how == "raises":
            raise KeyError("on\npurpose")
        return {"shape": np.zeros(9, np.float32), "nan": np.full_like(observation, np.nan), "none": None}[self.how]


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("raises", "is in a wrapper that raised KeyError"),
        ("shape", r"observation of shape \(9,\)"),
        ("nan", "NaN or infinite"),
        ("none", "shape"),
    ],
)
def test_a_wrapper_that_misbehaves_is_one_line(how: str, message: str) -> None:
    guard = GuardedEnv(Scripted(), 4)
    with pytest.raises(KDError, match=f"^environment 4 .*{message}") as caught:
        AroundWrappers(Breaks(guard, how), guard).reset(seed=3)
    assert "\n" not in str(caught.value)
