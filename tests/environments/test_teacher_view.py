"""Two views of one step: each is a space and an observation that whoever sees it alone would have seen."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces

from kd_agent import KDError
from kd_agent.environments.teacher_view import Beside, Remembered, view_of_student, view_of_teacher

BOX = spaces.Box(-1, 1, (2,))
DICT = spaces.Dict({"b": BOX, "a": spaces.Discrete(3)})


class Shown(gym.Env[Any, Any]):
    """Counts its steps in every number."""

    def __init__(self, space: gym.Space[Any]) -> None:
        self.observation_space, self.action_space = space, spaces.Discrete(2)
        self.steps = 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        self.steps = 0
        return self._show(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.steps += 1
        return self._show(), 0.0, False, False, {}

    def _show(self) -> Any:
        numbers = np.full(2, self.steps / 10, np.float32)
        return {"b": numbers, "a": np.int64(self.steps)} if self.observation_space == DICT else numbers


class Negative(gym.ObservationWrapper[Any, Any, Any]):
    """Every number times -1, in a plain space or in the part "b"."""

    def observation(self, observation: Any) -> Any:
        if isinstance(observation, dict):
            return {**observation, "b": -observation["b"]}
        return -observation


class OnlyB(gym.ObservationWrapper[Any, Any, Any]):
    """The part "b" alone, as a plain space."""

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        super().__init__(env)
        self.observation_space = BOX

    def observation(self, observation: Any) -> Any:
        return observation["b"]


def both(space: gym.Space[Any], *wrappers: Any) -> Beside:
    shown = Remembered(Shown(space))
    env: Any = shown
    for wrapper in wrappers:
        env = wrapper(env)
    return Beside(env, shown)


def test_two_views_of_a_plain_space() -> None:
    env = both(BOX, Negative)
    assert view_of_student(env.observation_space) == BOX
    assert view_of_teacher(env.observation_space) == (BOX, {"teacher:obs": "obs"})
    observed = env.reset()[0]
    for step in range(3):
        np.testing.assert_allclose(observed["obs"], step / 10)
        np.testing.assert_allclose(observed["teacher:obs"], -step / 10)
        observed = env.step(0)[0]


def test_two_views_of_a_dict() -> None:
    env = both(DICT, Negative)
    assert view_of_student(env.observation_space) == DICT
    space, names = view_of_teacher(env.observation_space)
    assert space == DICT
    assert names == {f"teacher:{key}": key for key in "ab"}
    observed = env.step(0)[0]
    assert set(observed) == {"a", "b", "teacher:a", "teacher:b"}
    assert (observed["b"] == -observed["teacher:b"]).all()


def test_the_views_may_be_of_different_kinds() -> None:
    env = both(DICT, OnlyB)
    assert view_of_student(env.observation_space) == DICT
    assert view_of_teacher(env.observation_space)[0] == BOX


def test_without_wrappers_of_its_own_a_teacher_sees_what_its_student_sees() -> None:
    for space in (BOX, DICT):
        assert view_of_student(space) is space
        assert view_of_teacher(space) == (space, {})


def test_wrappers_that_change_actions_are_refused() -> None:
    class Acts(gym.ActionWrapper[Any, Any, Any]):
        def __init__(self, env: gym.Env[Any, Any]) -> None:
            super().__init__(env)
            self.action_space = spaces.Discrete(5)

        def action(self, action: Any) -> Any:
            return action % 2

    with pytest.raises(KDError, match=r"makes the actions Discrete\(5\) of Discrete\(2\): .*\(--wrapper\)"):
        both(BOX, Acts)
