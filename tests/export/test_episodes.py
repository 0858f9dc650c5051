"""Whole episodes of every kind of action, each chosen by the exported file in its own runtime, and by NumPy."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import kd_envs
import numpy as np
import played
import pytest
from samples import make_student

from kd_agent.networks.distributions import head_for
from kd_agent.policies.graph import ObservationSpec, Op, PolicyGraph
from kd_agent.policies.policy import Policy

assert kd_envs  # the probes are registered
SEEDS = range(3)
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


def outcomes(env: gym.Env[Any, Any], begin: Callable[[], Any], act: Callable[[Any], Any]) -> Any:
    """Return and length of an episode a seed, and how many actions there were."""
    found = []
    chosen = set()
    for seed in SEEDS:
        observation, _ = env.reset(seed=seed)
        begin()
        total, steps, done = 0.0, 0, False
        while not done and steps < 200:
            action = act(observation)
            observation, reward, terminated, truncated, _ = env.step(action)
            chosen.add(str(action))
            total += float(reward)
            steps += 1
            done = terminated or truncated
        found.append((total, steps))
    return np.array(found), len(chosen)


class InNumPy:
    def __init__(self, graph: PolicyGraph) -> None:
        self._policy = Policy(graph)

    def begin(self) -> None:
        self._state: Any = None

    def act(self, observation: Any) -> Any:
        action, self._state = self._policy.predict(observation, self._state, deterministic=True)
        return action


@pytest.mark.parametrize("kind", STUDENTS)
@pytest.mark.parametrize("runtime", played.RUNTIMES)
def test_an_exported_policy_plays_the_episodes_that_numpy_plays(runtime: str, kind: str, tmp_path: Path) -> None:
    name, network, settings = STUDENTS[kind]
    env = gym.make(name)
    graph = student(env, network, **settings)
    ours = InNumPy(graph)
    expected, count = outcomes(env, ours.begin, ours.act)
    assert count > 1
    with played.Process(played.RUNTIMES[runtime](graph, tmp_path)) as process:

        def act(observation: Any) -> Any:
            numbers = process.ask(played.asked("act", observation))
            if graph.head.kind == "categorical":
                return int(numbers[0])
            return numbers.astype(graph.head.dtype).reshape(graph.head.shape)

        found, _ = outcomes(env, lambda: process.ask("begin"), act)
    # Whole actions are equal or not; those of a Box differ in their last bit, here and there.
    np.testing.assert_allclose(found, expected, rtol=1e-4 if graph.head.is_gaussian else 0)
