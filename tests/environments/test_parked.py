"""An environment that is out of use is never stepped again, and shows what it last showed."""

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces

from kd_agent import evaluate
from kd_agent.environments.parked import ParkedEnv, park_those_without_seed
from kd_agent.environments.recipe import Recipe, recipe_of
from kd_agent.environments.vector import make_env
from kd_agent.rollouts.evaluate import Evaluation

SEEDS = list(range(40, 75))
"""More than twice as many as environments, so that some end early and some late."""


class Timer(gym.Env[Any, Any]):
    """Pays what was acted; how long an episode takes its seed says, from 1 to 23 steps. Counts all its steps."""

    action_space = spaces.Discrete(3)
    steps = 0

    def __init__(self, shape: str = "box", render_mode: str | None = None) -> None:
        self.shape, self.render_mode = shape, render_mode
        box = spaces.Box(-1000, 1000, (2,), np.float32)
        self.observation_space = box if shape == "box" else spaces.Dict({"a": box, "b": spaces.Discrete(50)})

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.length, self.time = int(self.np_random.integers(1, 24)), 0
        self.mark = float(self.np_random.uniform(-100, 100))
        return self.shown(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        type(self).steps += 1
        assert self.time < self.length, "stepped after its end"
        self.time += 1
        return self.shown(), self.mark * float(action), self.time == self.length, False, {}

    def shown(self) -> Any:
        row = np.array([self.mark, self.time], np.float32)
        return row if self.shape == "box" else {"a": row, "b": self.time}

    def action_masks(self) -> np.ndarray:
        return np.array([True, self.time % 2 == 0, self.time % 2 == 1])


class EndsOutside(gym.Wrapper[Any, Any, Any, Any]):
    """Ends every episode at its seventh step at the latest, which the guard inside does not see."""

    def reset(self, **more: Any) -> Any:
        self.age = 0
        return self.env.reset(**more)

    def step(self, action: Any) -> Any:
        self.age += 1
        observation, reward, over, cut, info = self.env.step(action)
        return observation, reward, over, cut or self.age == 7, info


class ByState:
    """Acts by what it sees, as anybody with `predict`."""

    def predict(
        self, observation: Any, state: Any = None, episode_start: Any = None, deterministic: bool = False
    ) -> Any:
        rows = observation["a"] if isinstance(observation, dict) else observation
        time = np.asarray(rows)[:, -1]
        return (time + np.abs(np.asarray(rows)[:, 0]).astype(int)).astype(int) % 3, state


class ByMask(ByState):
    """The last action that is allowed."""

    expects_masks = True

    def predict(
        self,
        observation: Any,
        state: Any = None,
        episode_start: Any = None,
        deterministic: bool = False,
        action_masks: Any = None,
    ) -> Any:
        assert action_masks.any(axis=-1).all()
        return np.array([np.flatnonzero(row)[-1] for row in action_masks]), state


@pytest.fixture
def timer(register_env: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(Timer, "steps", 0)
    return register_env("test/Timer-v0", Timer)


def alone(player: Any, recipe: Recipe, wrapper: tuple[str, ...]) -> Evaluation:
    """Each seed in an environment without neighbours."""
    one = [evaluate(player, recipe, seeds=[seed], wrapper=wrapper) for seed in SEEDS]
    return Evaluation(np.concatenate([x.returns for x in one]), np.concatenate([x.lengths for x in one]))


ENDS = {"a wrapper that ends episodes": (f"{__name__}:EndsOutside",)}
CASES: dict[str, tuple[Any, dict[str, Any]]] = {
    "plain": (ByState(), {}),
    "the random policy": (None, {}),
    "a mapping": (ByState(), {"env_kwargs": {"shape": "dict"}}),
    "frame stack": (ByState(), {"frame_stack": 3}),
    "action masks": (ByMask(), {}),
    "a wrapper that ends episodes": (ByState(), {}),
}


@pytest.mark.parametrize("case", CASES)
def test_no_environment_is_stepped_for_nothing(case: str, timer: str) -> None:
    player, more = CASES[case]
    wrapper = ENDS.get(case, ())
    played = evaluate(player, Recipe(timer, **more), seeds=SEEDS, wrapper=wrapper)
    assert Timer.steps == played.lengths.sum()
    assert len(set(played.lengths.tolist())) > 3
    assert max(played.lengths) <= (7 if wrapper else 23)


@pytest.mark.parametrize("case", sorted(set(CASES) - {"the random policy"}))
def test_returns_are_those_of_one_environment_alone(case: str, timer: str) -> None:
    player, more = CASES[case]
    recipe, wrapper = Recipe(timer, **more), ENDS.get(case, ())
    together, expected = evaluate(player, recipe, seeds=SEEDS, wrapper=wrapper), alone(player, recipe, wrapper)
    np.testing.assert_array_equal(together.returns, expected.returns)
    np.testing.assert_array_equal(together.lengths, expected.lengths)
    assert len(set(expected.returns.tolist())) > 20


def test_who_has_a_seed_left_plays_on_and_the_others_stand_still(timer: str) -> None:
    env = make_env(recipe_of(timer), 2)
    inner = env.unwrapped.envs  # type: ignore[attr-defined]
    for one in inner:
        one.get_wrapper_attr("take_seeds")(iter([3]))
    env.reset()
    park_those_without_seed(env, np.array([True, False]))
    assert not any(isinstance(one, ParkedEnv) for one in inner), "their seed's episode goes on"
    inner[1].reset()
    assert inner[1].get_wrapper_attr("episode_seed") is None
    park_those_without_seed(env, np.array([True, False]))
    assert not isinstance(inner[1], ParkedEnv), "it has ended no episode"
    park_those_without_seed(env, np.array([True, True]))
    assert [isinstance(one, ParkedEnv) for one in inner] == [False, True]
    before = Timer.steps
    shown = env.step(np.array([0, 0]))[0]
    again = env.step(np.array([0, 2]))[0]
    assert Timer.steps == before + 2, "one of two"
    np.testing.assert_array_equal(shown[1], again[1])
    env.close()
