"""Vector environments: guarded, wrapped and stacked as their recipe says."""

from dataclasses import replace
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from masked_agents import IDS, SPACES, MaskedEnv, Tally

from kd_agent import KDError
from kd_agent.environments.frames import StackedFrames
from kd_agent.environments.guarded import EPISODE, AroundWrappers, GuardedEnv
from kd_agent.environments.recipe import Recipe, recipe_of
from kd_agent.environments.vector import (
    DEFAULT_LIMIT,
    action_masks,
    check_masks,
    default_limit,
    episode_limit,
    has_masks,
    make_env,
    make_single,
    spaces_of,
    start,
)
from kd_agent.networks import head_for
from kd_agent.rollouts.steps import play

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
        assert isinstance(wrapped, AroundWrappers)
        assert isinstance(wrapped.env, StackedFrames)
        assert isinstance(wrapped.env.env, gym.wrappers.TimeLimit)
        assert isinstance(wrapped.env.env.env, GuardedEnv)
        assert wrapped.env.env.env._index == index


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


def lengths_of(recipe: Recipe | str, **more: Any) -> list[int]:
    """Lengths of episodes that a policy plays which never falls."""
    env = make_env(recipe, 1, **more)
    found: list[int] = []
    start(env, iter(range(100)))
    for _ in range(60):
        _, _, _, infos = env.step(np.array([0]))
        found += [info[EPISODE][2] for info in infos if EPISODE in info]
    env.close()
    return found


def test_an_episode_has_the_environments_own_limit_or_the_one_that_is_asked_for() -> None:
    assert lengths_of("kd_envs/ProbeDiscrete-v0") == [50]
    shorter = replace(recipe_of("kd_envs/ProbeDiscrete-v0"), max_episode_steps=7)
    assert lengths_of(shorter) == [7] * 8
    assert Recipe.from_json(shorter.to_json()) == shorter
    assert "step_timeout" not in shorter.to_json()


def test_an_environment_without_a_limit_gets_one_and_others_keep_theirs(register_env: Any) -> None:
    env_id = register_env("Endless-v0", gym.spec("kd_envs/ProbeDiscrete-v0").entry_point)
    assert default_limit(recipe_of(env_id)) == DEFAULT_LIMIT
    assert default_limit(replace(recipe_of(env_id), max_episode_steps=7)) is None
    assert default_limit(recipe_of("CartPole-v1")) is None


def test_the_limit_of_an_episode_is_known_where_settings_or_registry_say_it(register_env: Any) -> None:
    env_id = register_env("Endless-v0", gym.spec("kd_envs/ProbeDiscrete-v0").entry_point)
    assert episode_limit(recipe_of(env_id)) is None
    assert episode_limit(recipe_of("kd_envs/ProbeDiscrete-v0")) == 50
    assert episode_limit(replace(recipe_of("kd_envs/ProbeDiscrete-v0"), max_episode_steps=7)) == 7


def test_an_environment_that_raises_when_it_is_made_is_one_line(register_env: Any) -> None:
    def fails() -> Any:
        raise ValueError("no\nlicence")

    with pytest.raises(KDError, match=r"'Fails-v0' cannot be made \(ValueError: no licence\)"):
        make_env(register_env("Fails-v0", fails), 1)


@pytest.mark.parametrize("name", SPACES)
def test_masks_are_asked_of_each_environment_through_its_wrappers(name: str) -> None:
    env = make_env(Recipe(IDS[name], {}, (("gymnasium.wrappers.TimeLimit", {"max_episode_steps": 5}),)), 3)
    head = head_for(env.action_space).spec
    assert has_masks(env)
    start(env, iter([1, 2, 3]))
    masks = action_masks(env, head)
    assert (masks.shape, masks.dtype) == ((3, head.num_masks), bool)
    assert len(np.unique(masks, axis=0)) > 1
    np.testing.assert_array_equal(masks, env.get_attr("mask"))
    assert not has_masks(make_env("CartPole-v1", 1))


def test_an_environment_that_fails_to_say_what_is_allowed_is_named_in_one_line(register_env: Any) -> None:
    class Failing(MaskedEnv):
        def action_masks(self) -> Any:
            raise ZeroDivisionError("no\nmasks today")

    env = make_env(register_env("Failing-v0", Failing), 1)
    start(env, iter([1]))
    with pytest.raises(KDError, match=r"action_masks\(\) raised ZeroDivisionError: no masks today"):
        action_masks(env, head_for(env.action_space).spec)
    check_masks(IDS["Discrete"])
    with pytest.raises(KDError, match=r"CartPole-v1 has no method action_masks\(\)"):
        check_masks("CartPole-v1")


def test_a_mask_is_of_the_observation_that_it_comes_with() -> None:
    env = make_env(IDS["Discrete"], 2)
    head = head_for(env.action_space).spec
    seen = []

    def _act(observations: Any, starts: Any, allowed: Any) -> Any:
        seen.append(allowed)
        np.testing.assert_array_equal(allowed, env.get_attr("mask"))
        return allowed.argmax(axis=1)

    with Tally() as tally:
        for step, _ in zip(play(env, iter(range(9)), _act, head), range(25), strict=False):
            assert step.rewards.min() > -5
    assert len(seen) >= 25
    assert tally.invalid == 0
