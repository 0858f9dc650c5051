"""Minibatches of labelled states, and windows of them for students with a memory.

Letters: `S` states, `L` steps of a window, `B` windows, `P` head parameters, `*O` shape of an observation.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from kd_agent.rollouts import Rollout, aggregate

WINDOW = 64
BURN_IN = 16
"""Steps at the head of a window that only warm the memory up (Kapturowski et al. 2019, R2D2)."""


@dataclass(frozen=True)
class Batch:
    """What one gradient step sees.

    Attributes:
        observations: `[S, *O]` by key, or `[L, B, *O]` where `starts` is given.
        params: The teacher's rows, `[S, P]` or `[L * B, P]`.
        weight: `[S]` or `[L * B]`.
        starts: `[L, B]`, where an episode begins; None for single states.
    """

    observations: Mapping[str, Tensor]
    params: Tensor
    weight: Tensor
    starts: Tensor | None = None


def states(rollouts: Sequence[Rollout], size: int, steps: int, device: torch.device) -> Iterator[Batch]:
    """`steps` minibatches of `size` states, in shuffled passes; torch's global generator decides the order."""
    observations, params, weight = aggregate(rollouts)
    tensors = {key: torch.from_numpy(array).to(device) for key, array in observations.items()}
    targets, weights = torch.from_numpy(params).to(device), torch.from_numpy(weight).to(device)
    for index in _passes(len(params), min(size, len(params)), steps):
        yield Batch({key: x[index] for key, x in tensors.items()}, targets[index], weights[index])


def windows(rollouts: Sequence[Rollout], size: int, steps: int, device: torch.device) -> Iterator[Batch]:
    """`steps` minibatches of windows, together about `size` states, drawn uniformly."""
    length = min(WINDOW, *(rollout.driver.shape[0] for rollout in rollouts))
    count = max(1, size // length)
    sizes = np.array([rollout.driver.size for rollout in rollouts])
    rng = np.random.default_rng(int(torch.randint(2**62, ()).item()))
    for _ in range(steps):
        drawn = [
            _window(rollouts[which], length, rng) for which in rng.choice(len(sizes), count, p=sizes / sizes.sum())
        ]
        yield _joined(drawn, device)


def _window(rollout: Rollout, length: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    step = int(rng.integers(rollout.driver.shape[0] - length + 1))
    env = int(rng.integers(rollout.driver.shape[1]))
    cut = (slice(step, step + length), env)
    weight = rollout.weight[cut].copy()
    if step and length > BURN_IN:
        weight[:BURN_IN] = 0
    arrays = {f"obs.{key}": array[cut] for key, array in rollout.obs.items()}
    return {**arrays, "params": rollout.params[cut], "weight": weight, "starts": rollout.episode_start[cut]}


def _joined(drawn: Sequence[Mapping[str, np.ndarray]], device: torch.device) -> Batch:
    joined = {name: torch.from_numpy(np.stack([w[name] for w in drawn], axis=1)).to(device) for name in drawn[0]}
    observations = {name.removeprefix("obs."): x for name, x in joined.items() if name.startswith("obs.")}
    return Batch(observations, joined["params"].flatten(0, 1), joined["weight"].flatten(), joined["starts"])


def _passes(count: int, size: int, steps: int) -> Iterator[Tensor]:
    order, position = torch.randperm(count), 0
    for _ in range(steps):
        if position + size > count:
            order, position = torch.randperm(count), 0
        yield order[position : position + size]
        position += size
