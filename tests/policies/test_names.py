"""Names of numbers and actions: as many as the environment has, and none where nothing is documented."""

import re
from itertools import chain

import gymnasium as gym
import pytest

from kd_agent.networks.distributions import head_for
from kd_agent.policies.names import ACTIONS, NAMES, action_names, known_actions, number_names


@pytest.mark.parametrize("env", NAMES)
def test_the_names_are_as_many_as_the_environment_has_numbers(env: str) -> None:
    ids = [env_id for env_id in gym.registry if env_id.startswith(f"{env}-v")]
    assert ids
    space = gym.make(ids[-1]).observation_space
    assert space.shape == (len(NAMES[env]),)
    assert len(set(NAMES[env])) == len(NAMES[env])


@pytest.mark.parametrize(
    ("env_id", "names"),
    [
        ("CartPole-v1", ["left", "right"]),
        ("kd_envs/CartPoleBlind-v1", ["left", "right"]),
        ("CartPole", ["0", "1"]),
        ("LunarLander-v3", ["0", "1"]),
        ("", ["0", "1"]),
    ],
)
def test_actions_have_the_names_of_the_environment_where_they_are_as_many(env_id: str, names: list[str]) -> None:
    assert action_names(env_id, head_for(gym.spaces.Discrete(2)).spec) == names
    assert len(ACTIONS["CartPole"]) == 2


def test_actions_without_names_are_numbered_as_the_environment_does() -> None:
    assert action_names("x-v0", head_for(gym.spaces.Discrete(3, start=-1)).spec) == ["-1", "0", "1"]


@pytest.mark.parametrize("env", ACTIONS)
def test_the_actions_are_as_many_as_the_environment_has(env: str) -> None:
    ids = [env_id for env_id in gym.registry if env_id.startswith(f"{env}-v")]
    head = head_for(gym.make(ids[-1]).action_space).spec
    assert known_actions(ids[-1], head) == ACTIONS[env]
    assert len(set(ACTIONS[env])) == len(ACTIONS[env])


def test_a_variant_has_its_own_names_or_those_of_what_it_varies() -> None:
    box = head_for(gym.spaces.Box(-1, 1, (2,))).spec
    assert known_actions("LunarLanderContinuous-v3", box) == ("main engine", "lateral engine")
    assert known_actions("LunarLander-v3", box) == ()
    assert known_actions("BipedalWalkerHardcore-v3", head_for(gym.spaces.Box(-1, 1, (4,))).spec)[0] == "hip 1"
    assert number_names("LunarLanderContinuous-v3", (8,))[2] == "x velocity"
    for env_id, shape in (("LunarLander-v3", (4,)), ("Nowhere-v0", (0,)), ("Nowhere-v0", (4,)), ("CartPole", (4,))):
        assert number_names(env_id, shape) == ()


def test_a_name_is_safe_in_a_comment_of_any_language() -> None:
    for name in chain(*NAMES.values(), *ACTIONS.values()):
        assert re.fullmatch(r"[a-z0-9][A-Za-z0-9 +-]*", name)
