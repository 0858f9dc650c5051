"""Minibatches of labelled states, and windows of them for students with a memory.

Letters: `S` states, `L` steps of a window, `B` windows, `P` head parameters, `F` features of a layer, `*O` shape
of an observation.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from kd_agent.networks import LAYER, PolicyOutput
from kd_agent.rollouts import Rollout, aggregate

WINDOW = 64
"""Steps of a window: the memory is trained across as many."""
BURN_IN = 16
"""Steps at the head of a window that only warm the memory up (Kapturowski et al. 2019, R2D2)."""


@dataclass(frozen=True)
class Batch:
    """What one gradient step sees.

    Attributes:
        observations: `[S, *O]` by key, or `[L, B, *O]` where `starts` is given.
        target: What the teacher said, of `[S]` or `[L * B]` states; its layer, if one was kept, is `LAYER`.
        weight: `[S]` or `[L * B]`.
        starts: `[L, B]`, where an episode begins; None for single states.
    """

    observations: Mapping[str, Tensor]
    target: PolicyOutput
    weight: Tensor
    starts: Tensor | None = None


def states(rollouts: Sequence[Rollout], size: int, steps: int, device: torch.device) -> Iterator[Batch]:
    """Minibatches of single states, in shuffled passes; torch's global generator decides the order.

    Args:
        rollouts: Labelled states.
        size: States of a minibatch (all of them where there are fewer).
        steps: How many minibatches.
        device: Where they go.
    """
    # To the device once: minibatches are drawn there, and nothing is copied in the loop.
    tensors: dict[str, Tensor] = {}
    for name, array in aggregate(rollouts).items():
        tensors[name] = torch.from_numpy(array).to(device)
    count = len(tensors["weight"])
    for index in _passes(count, min(size, count), steps):
        batch = {name: tensor[index] for name, tensor in tensors.items()}
        yield Batch(_observations(batch), _target(batch), batch["weight"])


def windows(rollouts: Sequence[Rollout], size: int, steps: int, device: torch.device) -> Iterator[Batch]:
    """Minibatches of windows, drawn uniformly.

    Args:
        rollouts: Labelled states.
        size: About how many states the windows of a minibatch have together.
        steps: How many minibatches.
        device: Where they go.
    """
    shortest = min(len(rollout.driver) for rollout in rollouts)
    length = min(WINDOW, shortest)
    count = max(1, size // length)
    sizes = np.array([rollout.driver.size for rollout in rollouts])
    # From torch's generator, which the fit has seeded: one seed decides all that is random in a fit.
    rng = np.random.default_rng(int(torch.randint(2**62, ()).item()))
    for _ in range(steps):
        # Longer rollouts are drawn from more often, so that every window is as likely.
        chosen = rng.choice(len(sizes), count, p=sizes / sizes.sum())
        drawn = [_window(rollouts[which], length, rng) for which in chosen]
        yield _joined(drawn, device)


def _window(rollout: Rollout, length: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    step = int(rng.integers(rollout.driver.shape[0] - length + 1))
    env = int(rng.integers(rollout.driver.shape[1]))
    window: dict[str, np.ndarray] = {}
    for name, array in rollout.arrays().items():
        window[name] = array[step : step + length, env]
    # At the head of an episode the memory is rightly empty; elsewhere it must first warm up.
    if not window["episode_start"][0] and length > BURN_IN:
        # A copy: the window is a view of the rollout, whose own weights stay.
        window["weight"] = window["weight"].copy()
        window["weight"][:BURN_IN] = 0
    return window


def _joined(drawn: Sequence[Mapping[str, np.ndarray]], device: torch.device) -> Batch:
    joined: dict[str, Tensor] = {}
    flat: dict[str, Tensor] = {}
    for name in drawn[0]:
        windows_of_name = [window[name] for window in drawn]
        joined[name] = torch.from_numpy(np.stack(windows_of_name, axis=1)).to(device)
        if not name.startswith("obs."):
            flat[name] = joined[name].flatten(0, 1)
    return Batch(_observations(joined), _target(flat), flat["weight"], joined["episode_start"])


def _observations(arrays: Mapping[str, Tensor]) -> dict[str, Tensor]:
    observations: dict[str, Tensor] = {}
    for name, tensor in arrays.items():
        if name.startswith("obs."):
            observations[name.removeprefix("obs.")] = tensor
    return observations


def _target(arrays: Mapping[str, Tensor]) -> PolicyOutput:
    layer: dict[str, Tensor] = {}
    if "layer" in arrays:
        layer = {LAYER: arrays["layer"]}
    return PolicyOutput(arrays["params"], arrays.get("value"), layer, mask=arrays.get("mask"))


def _passes(count: int, size: int, steps: int) -> Iterator[Tensor]:
    """Indices `[size]` of so many minibatches: in each pass, every state at most once."""
    order = torch.randperm(count)
    position = 0
    for _ in range(steps):
        # What is left of a pass, less than a minibatch, is left out: it comes in another place of the next.
        if position + size > count:
            order = torch.randperm(count)
            position = 0
        yield order[position : position + size]
        position += size
