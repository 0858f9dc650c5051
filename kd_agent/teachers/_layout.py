"""Where a file of weights keeps its policy, and what its library assumes."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from kd_agent.policies import Array, Normalizer

ASSUMED = ("teacher_activation", "teacher_squash")
"""What a file of weights does not say, and a request may."""

SQUASHES = ("tanh", "clip", "none")
"""How a continuous action is bounded."""


@dataclass(frozen=True)
class LogStd:
    """Log standard deviations of a Gaussian.

    Attributes:
        value: `[A]`, where no observation changes them.
        layer: Name of the linear layer that writes them, beside the means.
        bounds: Where that layer's output goes through tanh: to these bounds.
        softplus: Least standard deviation, where the layer's output is one before softplus; None: it is the logarithm.
    """

    value: Array | None = None
    layer: str | None = None
    bounds: tuple[float, float] | None = None
    softplus: float | None = None


@dataclass(frozen=True)
class Layout:
    """Where a file keeps its policy.

    Attributes:
        library: The library, as messages call it.
        algo: The algorithm, for the teacher's origin.
        hidden: Names of the linear layers before the last, each with an activation behind it.
        answer: Names of the last linear layers: one, or one a part of the action.
        normalizer: What the observations go through first.
        memory: Name of an LSTM or GRU.
        memory_first: Whether it comes before the hidden layers.
        log_std: Of a Gaussian; None: it states none.
        activation: The library's default.
        squash: How the library bounds a continuous action: "tanh" or "clip" to [-1, 1], before it is scaled to the Box,
            or "none".
        bystanders: Pattern of tensors that do not act.
        normalized_elsewhere: Whether it normalises its observations and leaves the statistics out of the file.
        continuous: Whether it acts in a Box, or chooses; None: the file does not tell.
        half_range: `[A]`, what the file says that a squashed action is multiplied by; None: it does not say.
        centre: `[A]`, what is then added.
    """

    library: str
    algo: str
    hidden: tuple[str, ...]
    answer: tuple[str, ...]
    normalizer: Normalizer | None = None
    memory: str | None = None
    memory_first: bool = True
    log_std: LogStd | None = None
    activation: str = "relu"
    squash: str = "none"
    bystanders: str = ""
    normalized_elsewhere: bool = False
    continuous: bool | None = None
    half_range: Array | None = None
    centre: Array | None = None


def scaled_by(mean: Array, deviation: Array, clip: float) -> Normalizer:
    """`clip((x - mean) / deviation, -clip, clip)` as a `Normalizer`.

    Args:
        mean: `[O]`.
        deviation: `[O]`, all above 0.
        clip: Largest absolute value let through.
    """
    return Normalizer(np.asarray(mean, np.float64), np.asarray(deviation, np.float64) ** 2, clip, epsilon=0.0)


def ordered(tensors: Mapping[str, Array], pattern: str) -> tuple[str, ...]:
    """Names of the linear layers that match, in the order of the file.

    Args:
        tensors: The tensors by name.
        pattern: Of the layer's name.
    """
    names = []
    for name, tensor in tensors.items():
        layer = name.removesuffix(".weight")
        if layer != name and tensor.ndim == 2 and re.fullmatch(pattern, layer):
            names.append(layer)
    return tuple(names)
