"""Whole episodes, step by step as NumPy plays them, by WebAssembly in Node and by an Arduino's chip in simavr.

What an environment shows depends on the actions alone, so who answers every observation of an episode as its player
did would have played the same episode, and got the same return.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from avr import by_avr
from exported import Answers, by_arduino, by_wasm

from kd_agent.policies.graph import ObservationSpec, Op, PolicyGraph
from kd_agent.policies.head import HeadSpec
from kd_agent.policies.normalizer import Normalizer
from kd_agent.policies.policy import Policy

# A controller of the pole by hand, through a layer of rectifiers: it pushes towards where the pole falls.
_PUSH = np.float32([0.1, 0.4, 2.0, 1.5])


def balancer() -> PolicyGraph:
    """A policy that balances CartPole's pole."""
    mean, var = np.array([0.1, 0.0, 0.02, 0.0]), np.array([1.0, 0.5, 0.04, 0.6])
    normalise = Normalizer(mean, var).op("obs", "r0")
    weight = np.float32([_PUSH * np.sqrt(var), -_PUSH * np.sqrt(var)])
    bias = np.float32([_PUSH @ mean, -_PUSH @ mean])
    hidden = Op("linear", ("r0",), "r1", {}, {"weight": weight, "bias": bias})
    act = Op("activation", ("r1",), "r2", {"function": "relu"})
    last = np.float32([[-1, 1], [1, -1]])
    row = Op("linear", ("r2",), "params", {}, {"weight": last, "bias": np.zeros(2, np.float32)})
    head = HeadSpec("categorical", (), "int64", nvec=(2,), start=(0,))
    return PolicyGraph({"obs": ObservationSpec((4,), "float32")}, (normalise, hidden, act, row), head)


def episodes(act: Callable[[Any], int], seeds: range, steps: int) -> tuple[Any, Any, list[float]]:
    """Observations `[N, 4]` and actions `[N]` of whole episodes, and their returns."""
    env = gym.make("CartPole-v1", max_episode_steps=steps)
    seen, done, returns = [], [], []
    for seed in seeds:
        observation, _ = env.reset(seed=seed)
        total, over = 0.0, False
        while not over:
            action = act(observation)
            seen.append(observation)
            done.append(action)
            observation, reward, terminated, truncated, _ = env.step(action)
            total += float(reward)
            over = terminated or truncated
        returns.append(total)
    return np.array(seen, np.float32), np.array(done), returns


def test_node_plays_numpys_episodes(tmp_path: Path) -> None:
    graph = balancer()
    seen, actions, returns = episodes(Policy(graph).act, range(4), 300)
    assert min(returns) == 300  # it balances
    assert len(np.unique(actions)) == 2
    found = by_wasm(graph, {"obs": seen}, tmp_path)
    np.testing.assert_array_equal(found.actions[:, 0], actions)


def test_an_uno_plays_numpys_episodes(tmp_path: Path) -> None:
    graph = balancer()
    seen, actions, returns = episodes(Policy(graph).act, range(3), 300)
    assert min(returns) == 300
    found = by_avr(graph, {"obs": seen}, tmp_path, "gnu11", library=True)
    np.testing.assert_array_equal(found.actions[:, 0], actions)


def test_an_uno_plays_int8s_episodes_as_this_machine_does(tmp_path: Path) -> None:
    """They are others than NumPy's as soon as one action is; the board's are this machine's."""
    graph = balancer()

    def _act(observation: Any) -> int:
        answer: Answers = by_arduino(graph, {"obs": observation[None]}, tmp_path, int8=True)
        return int(answer.actions[0, 0])

    seen, actions, returns = episodes(_act, range(1), 40)
    assert returns == [40]
    found = by_avr(graph, {"obs": seen}, tmp_path, "gnu11", library=True, int8=True)
    np.testing.assert_array_equal(found.actions[:, 0], actions)
