"""A policy's program in the parts that PPO has: features, hidden layers of one activation, a last layer."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
from stable_baselines3.common.preprocessing import is_image_space

from kd_agent.errors import KDError
from kd_agent.networks import ACTIVATION_LAYERS
from kd_agent.policies import OBSERVATION, PARAMS, Array, Op, PolicyGraph

CATEGORIES = (gym.spaces.Discrete, gym.spaces.MultiDiscrete)
"""Spaces whose observations Stable-Baselines3 shows to a policy one-hot."""


@dataclass(frozen=True)
class Parts:
    """A program as PPO sees it.

    Attributes:
        before: Operations that come before the first hidden layer, in order.
        features: The register that they end in, which the first layer reads.
        linears: Linear operations of the hidden layers and, last, of logits or means.
        activation: Name of the activation of the hidden layers.
        log_std: `[A]` for a Gaussian head.
    """

    before: tuple[Op, ...]
    features: str
    linears: list[Op]
    activation: str
    log_std: Array | None


@dataclass(frozen=True)
class Flat:
    """Features that Stable-Baselines3's own extractors compute: each observation flat or one-hot, side by side.

    Attributes:
        keys: Observation keys in the order of the first layer's columns.
        statistics: The normalise operation of a key, where it has one.
    """

    keys: list[str]
    statistics: Mapping[str, Op]


def require(condition: bool, reason: str) -> None:
    """Refuse a policy that PPO cannot be.

    Args:
        condition: What has to hold.
        reason: What the policy is where it does not.
    """
    if not condition:
        raise KDError(f"PPO has no policy like this: {reason}; formats that can: onnx, c, javascript, torch")


def parts_of_program(graph: PolicyGraph) -> Parts:
    """Read the parts off a program, backwards from the row.

    The order in which a program is written says nothing of who reads whom. As many layers as have one and the same
    activation are hidden layers; what lies before them is features.

    Raises:
        KDError: The row is not that of a linear layer.
    """
    require(graph.head.kind != "squashed_gaussian", "its actions go through tanh")
    by_output = {op.output: op for op in graph.ops}
    last, log_std = by_output[PARAMS], None
    if last.kind == "append":
        log_std = last.tensors["value"]
        last = by_output.get(last.inputs[0], last)
    require(last.kind == "linear", f"it ends in the operation {last.kind!r}")
    linears, activation = [last], ""
    while True:
        function = by_output.get(linears[0].inputs[0])
        if function is None or function.kind != "activation":
            break
        name = str(function.attributes["function"])
        layer = by_output.get(function.inputs[0])
        # One with a slope of its own is not among these.
        is_hidden = name in ACTIVATION_LAYERS and activation in ("", name)
        if not is_hidden or layer is None or layer.kind != "linear":
            break
        activation = name
        linears.insert(0, layer)
    features = linears[0].inputs[0]
    # Without hidden layers, any activation will do.
    return Parts(_leading_to(graph, features), features, linears, activation or "tanh", log_std)


def flat_features(parts: Parts, space: gym.Space[Any]) -> Flat | None:
    """The features as Stable-Baselines3's own; None where none of its extractors computes them.

    Args:
        parts: The program.
        space: The observation space, as the environment has it.
    """
    by_output = {op.output: op for op in parts.before}
    last = by_output.get(parts.features)
    columns = last.inputs if last is not None and last.kind == "concatenate" else (parts.features,)
    spaces = spaces_by_key(space)
    keys: list[str] = []
    statistics: dict[str, Op] = {}
    for register in columns:
        key, ops = _encoding(by_output, register)
        kinds = sorted(op.kind for op in ops)
        if key not in spaces or kinds not in _encodings(spaces[key]):
            return None
        keys.append(key)
        for op in ops:
            if op.kind == "normalise":
                statistics[key] = op
    # In the space's order PPO joins the keys, and so it must read the columns of the first layer.
    return Flat(keys, statistics) if keys == list(spaces) else None


def spaces_by_key(space: gym.Space[Any]) -> dict[str, gym.Space[Any]]:
    """The spaces of each observation register, in order."""
    return dict(space.spaces) if isinstance(space, gym.spaces.Dict) else {OBSERVATION: space}


def check_shown(parts: Parts, space: gym.Space[Any]) -> None:
    """Require that the program reads categories as Stable-Baselines3 shows them, which is one-hot.

    Args:
        parts: The program.
        space: The observation space.
    """
    spaces = spaces_by_key(space)
    for op in [*parts.before, parts.linears[0]]:
        for key in set(op.inputs) & set(spaces):
            part = spaces[key]
            is_shown = isinstance(part, CATEGORIES)
            require((op.kind == "one_hot") == is_shown, f"it reads {key!r} by {op.kind!r}, PPO shows {part}")
            if isinstance(part, CATEGORIES):
                require(len(part.shape or ()) < 2, f"{key!r} is {part}, and PPO shows categories of one axis alone")
                require(list(op.attributes["sizes"]) == sizes_of(part), f"its categories of {key!r} are not {part}'s")


def sizes_of(part: Any) -> list[int]:
    """Numbers of categories of a Discrete or MultiDiscrete space."""
    return [int(size) for size in np.ravel(getattr(part, "nvec", getattr(part, "n", 0)))]


def _leading_to(graph: PolicyGraph, register: str) -> tuple[Op, ...]:
    """The operations that a register depends on, in order."""
    needed = {register}
    ops: list[Op] = []
    for op in reversed(graph.ops):
        if op.output in needed:
            ops.insert(0, op)
            needed |= set(op.inputs)
    return tuple(ops)


def _encoding(by_output: Mapping[str, Op], register: str) -> tuple[str, list[Op]]:
    """The register that a chain of operations begins from, and these."""
    ops: list[Op] = []
    while register in by_output and len(by_output[register].inputs) == 1:
        op = by_output[register]
        ops.append(op)
        register = op.inputs[0]
    return register, ops


def _encodings(part: gym.Space[Any]) -> list[list[str]]:
    """Kinds of operations, sorted, by which Stable-Baselines3's own extractors read a space."""
    if isinstance(part, CATEGORIES):
        return [["one_hot"]]
    # It scales images and turns them.
    if is_image_space(part):
        return []
    return [[], ["normalise"], ["flatten"], ["flatten", "normalise"]]
