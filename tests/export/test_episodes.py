"""Whole episodes of every kind of action, each chosen by the exported file in its own runtime, and by NumPy."""

import functools
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import kd_envs
import numpy as np
import pytest
from episodes import PROGRAMS, RUNTIMES, InNumPy, outcomes, player
from samples import ROOT, make_student

from kd_agent.deployment.agents import Reading, read_agent
from kd_agent.networks.distributions import head_for
from kd_agent.policies.graph import ObservationSpec, Op, PolicyGraph

assert kd_envs  # the probes are registered
STUDENTS = {
    "Discrete": ("LunarLander-v3", "mlp", {}),
    "a memory": ("CartPole-v1", "gru", {}),
    "a tree": ("CartPole-v1", "tree", {}),
    "Box": ("Pendulum-v1", "mlp", {}),
    "squashed Box": ("Pendulum-v1", "mlp", {"squashed": True}),
    "MultiDiscrete": ("kd_envs/ProbeMultiDiscrete-v0", "mlp", {}),
    "MultiBinary": ("kd_envs/ProbeMultiBinary-v0", "mlp", {}),
}


def student(env: gym.Env[Any, Any], name: str, **settings: Any) -> PolicyGraph:
    """One that knows nothing, but does not do the same always."""
    head = head_for(env.action_space, **settings)
    shape = env.observation_space.shape
    assert shape is not None
    graph = make_student(head, name, {"obs": ObservationSpec(shape, "float32")}, hidden=(16, 16)).graph()
    return replace(graph, ops=tuple(map(_decided, graph.ops)), provenance={"env": "nowhere-v0"})


def _decided(op: Op) -> Op:
    """One that says more of its input than of itself."""
    tensors = dict(op.tensors)
    for role, tensor in op.tensors.items():
        if role.startswith("weight"):
            tensors[role] = 5 * tensor
        if role.startswith(("bias", "mean")):
            tensors[role] = 0 * tensor
    return replace(op, tensors=tensors)


@pytest.mark.parametrize("kind", STUDENTS)
@pytest.mark.parametrize("runtime", PROGRAMS)
def test_an_exported_policy_plays_the_episodes_that_numpy_plays(runtime: str, kind: str, tmp_path: Path) -> None:
    name, network, settings = STUDENTS[kind]
    env = gym.make(name)
    graph = student(env, network, **settings)
    expected, count = outcomes(env, InNumPy(graph), range(3))
    assert count > 1
    with player(runtime, graph, tmp_path) as who:
        found, _ = outcomes(env, who, range(3))
    # Whole actions are equal or not; those of a Box differ in their last bit, here and there.
    np.testing.assert_allclose(found, expected, rtol=1e-4 if graph.head.is_gaussian else 0)


@functools.cache
def lander(episodes: int) -> tuple[PolicyGraph, Any]:
    """A public agent's program, and what NumPy's episodes of it come to."""
    with warnings.catch_warnings():
        # Its environment is not to be had any more; the next version is played.
        warnings.simplefilter("ignore")
        graph = read_agent(str(ROOT.parent / "shared" / "teachers" / "ppo-LunarLander-v2"), Reading()).graph
    return graph, outcomes(gym.make("LunarLander-v3"), InNumPy(graph), range(episodes), limit=1000)[0]


def check_lander(runtime: str, folder: Path, episodes: int) -> None:
    graph, expected = lander(episodes)
    with player(runtime, graph, folder) as who:
        found, _ = outcomes(gym.make("LunarLander-v3"), who, range(episodes), limit=1000)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_public_agent_returns_what_it_does_in_numpy(public_teachers: Path, runtime: str, tmp_path: Path) -> None:
    check_lander(runtime, tmp_path, 2)


@pytest.mark.slow
@pytest.mark.parametrize("runtime", RUNTIMES)
def test_it_does_so_on_100_seeds(public_teachers: Path, runtime: str, tmp_path: Path) -> None:
    check_lander(runtime, tmp_path, 100)
