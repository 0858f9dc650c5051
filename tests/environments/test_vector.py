"""Vector environments: guarded, wrapped and stacked as their recipe says."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from kd_agent import KDError
from kd_agent.environments.guarded import GuardedEnv
from kd_agent.environments.recipe import Recipe
from kd_agent.environments.vector import make_env, make_single, spaces_of, start

SHORT = Recipe("CartPole-v1", {}, (("gymnasium.wrappers.TimeLimit", {"max_episode_steps": 5}),), frame_stack=3)


def test_each_environment_begins_with_a_seed_of_its_own_and_goes_on_with_the_next() -> None:
    env = make_env("CartPole-v1", 2)
    first = start(env, iter([3, 4, 5, 6]))["obs"]
    for row, seed in zip(first, (3, 4), strict=True):
        np.testing.assert_array_equal(row, gym.make("CartPole-v1").reset(seed=seed)[0])
    np.testing.assert_array_equal(start(env, iter([4, 3]))["obs"], first[::-1])
    assert env.get_attr("episode_seed") == [4, 3]


def test_the_guard_lies_inside_the_wrappers_and_knows_its_index() -> None:
    env = make_env(SHORT, 3)
    for index, wrapped in enumerate(env.unwrapped.envs):  # type: ignore[attr-defined]
        assert isinstance(wrapped, gym.wrappers.TimeLimit)
        assert isinstance(wrapped.env, GuardedEnv)
        assert wrapped.env._index == index


def test_frames_are_stacked_as_the_recipe_says() -> None:
    env = make_env(SHORT, 2)
    observations = start(env, iter([0, 1]))["obs"]
    assert observations.shape == (2, 12)
    assert (observations[:, :8] == 0).all()
    done = [env.step(np.zeros(2, np.int64))[2] for _ in range(5)]
    assert not np.any(done[:4])
    assert np.all(done[4])


def test_spaces_are_those_behind_the_wrappers() -> None:
    observation_space, action_space = spaces_of(SHORT)
    assert observation_space.shape == (12,)
    assert action_space == gym.spaces.Discrete(2)
    assert spaces_of("kd_envs/ProbeBox-v0")[1].shape == (2,)


@pytest.mark.parametrize(
    ("env_id", "kwargs", "message"),
    [
        ("CartPole-v1", {"gravity_of_mars": 3.7}, "refuses its arguments: .*gravity_of_mars"),
        ("NoSuchThing-v0", {}, "cannot be made"),
    ],
)
def test_an_environment_that_cannot_be_made_is_one_line(env_id: str, kwargs: dict[str, Any], message: str) -> None:
    with pytest.raises(KDError, match=f"environment '{env_id}' {message}") as caught:
        make_single(env_id, kwargs)
    assert "\n" not in str(caught.value)


class Plain(gym.Env[Any, Any]):
    """An environment that knows no rendering, not even the word."""

    def __init__(self) -> None:
        self.observation_space = gym.spaces.Box(-1, 1, (2,))
        self.action_space = gym.spaces.Discrete(2)


def test_an_environment_that_knows_no_rendering_can_be_made_without_it(register_env: Any) -> None:
    env_id = register_env("Plain-v0", Plain)
    assert isinstance(make_single(env_id, {}).unwrapped, Plain)
    assert make_single("CartPole-v1", {}, "rgb_array").render_mode == "rgb_array"
