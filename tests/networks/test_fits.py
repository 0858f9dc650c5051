"""Whether a policy fits an environment."""

from dataclasses import replace
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from samples import HEADS, SPACES, make_graph

from kd_agent import KDError
from kd_agent.networks.fits import check_fits

BOX = gym.spaces.Box(-1, 1, (4,), np.float32)


@pytest.mark.parametrize("kind", HEADS)
def test_a_policy_fits_the_environment_that_it_is_for(kind: str) -> None:
    names = {"categorical": "Discrete", "multi_categorical": "MultiDiscrete", "bernoulli": "MultiBinary"}
    check_fits(make_graph(kind), (BOX, SPACES[names.get(kind, "Box")]), "it")


def test_a_policy_may_see_less_than_there_is() -> None:
    both = gym.spaces.Dict({"obs": BOX, "more": BOX})
    check_fits(make_graph(), (both, SPACES["Discrete"]), "it")


@pytest.mark.parametrize(
    ("kind", "observation", "action", "message"),
    [
        ("categorical", gym.spaces.Box(-1, 1, (5,)), SPACES["Discrete"], r"'obs' of shape \(4,\).* has \(5,\)"),
        ("categorical", gym.spaces.Dict({"all": BOX}), SPACES["Discrete"], "has no such key"),
        ("categorical", BOX, gym.spaces.Discrete(5), r"acts by categorical \(4,\), the environment has Discrete\(5\)"),
        ("categorical", BOX, SPACES["Box"], "acts by categorical"),
        ("diag_gaussian", BOX, SPACES["Discrete"], r"acts by diag_gaussian \(2,\)"),
        ("diag_gaussian", BOX, gym.spaces.Box(-9, 9, (2,)), "its action bounds are not those"),
    ],
)
def test_a_policy_that_does_not_fit_says_why(
    kind: str, observation: gym.Space[Any], action: gym.Space[Any], message: str
) -> None:
    with pytest.raises(KDError, match=f"^it: .*{message}"):
        check_fits(make_graph(kind), (observation, action), "it")


def test_a_policy_acts_from_0_as_agents_of_sb3_do_or_from_the_environments_start() -> None:
    graph = make_graph("categorical")
    from_one = gym.spaces.Discrete(4, start=1)
    for start, space in ((0, from_one), (1, from_one), (0, gym.spaces.Discrete(4))):
        shifted = replace(graph, head=replace(graph.head, start=(start,)))
        check_fits(shifted, (BOX, space), "it")
    shifted = replace(graph, head=replace(graph.head, start=(2,)))
    with pytest.raises(KDError, match=r"^it: its actions start at \(2,\)"):
        check_fits(shifted, (BOX, from_one), "it")
