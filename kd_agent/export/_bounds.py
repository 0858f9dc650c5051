"""What no number of a register can exceed, proven by interval arithmetic (infinity where nothing is known).

It holds for the int8 code too: its weights are the rounded ones, its tanh and sigmoid rough ones.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from kd_agent.policies import Array, Op, PolicyGraph
from kd_agent.policies.activations import SELU_FLOOR, SELU_SCALE, SLOPED
from kd_agent.policies.int8 import rounded
from kd_agent.policies.normalizer import UNBOUNDED

_SLACK = 1.01
"""For rounding, and for functions that are only nearly bounded by 1."""


def bounds(graph: PolicyGraph) -> dict[str, float]:
    """Largest absolute value that each register can reach, whatever is observed."""
    largest = {key: _of_type(spec.dtype) for key, spec in graph.observations.items()}
    largest |= dict.fromkeys(graph.states, np.inf)
    for op in graph.ops:
        rule = _RULES.get(op.kind, _unknown)
        inputs = [largest[name] for name in op.inputs]
        largest[op.output] = _SLACK * rule(op, inputs)
    return largest


def _of_type(dtype: str) -> float:
    kind = np.dtype(dtype)
    if kind.kind == "b":
        return 1.0
    if kind.kind == "f":
        return np.inf
    limits = np.iinfo(kind)
    return float(max(-limits.min, limits.max))


def _unknown(op: Op, inputs: Sequence[float]) -> float:
    return np.inf


def _largest(array: Array) -> float:
    return float(np.abs(array).max())


def _weighted(op: Op, inputs: Sequence[float]) -> float:
    [largest] = inputs
    if not np.isfinite(largest):  # a row of zeros times infinity would be not a number
        return np.inf
    weight = np.abs(rounded(op.tensors["weight"]))
    # The worst input has every number at its largest, with the sign of its weight.
    rows = weight.reshape(len(weight), -1).sum(axis=1)
    return float((rows * largest + np.abs(op.tensors["bias"])).max())


def _activated(op: Op, inputs: Sequence[float]) -> float:
    """None but SELU and one of a steep slope is farther from 0 than its input and 1 more."""
    function = op.attributes["function"]
    if function in ("tanh", "sigmoid", "softsign", "hardtanh"):
        return 1.0
    if function == "relu6":
        return min(inputs[0], 6.0)
    if function == "selu":
        return SELU_SCALE * inputs[0] + SELU_FLOOR
    if function == SLOPED:
        return max(abs(float(op.attributes["slope"])), 1.0) * inputs[0]
    return inputs[0] + 1


def _normalised(op: Op, inputs: Sequence[float]) -> float:
    clip = float(op.attributes["clip"])
    return clip if clip < UNBOUNDED else np.inf


def _clipped(op: Op, inputs: Sequence[float]) -> float:
    return max(abs(float(op.attributes["low"])), abs(float(op.attributes["high"])))


# What is not here (gru, lstm, trees, sums of squares) is bounded by nothing, which only costs int8 a better scale.
_RULES: Mapping[str, Callable[[Op, Sequence[float]], float]] = {
    "flatten": lambda op, xs: xs[0],
    "transpose": lambda op, xs: xs[0],
    "slice": lambda op, xs: xs[0],
    "concatenate": lambda op, xs: max(xs),
    "append": lambda op, xs: max(xs[0], _largest(op.tensors["value"])),
    "one_hot": lambda op, xs: 1.0,
    "normalise": _normalised,
    "clip": _clipped,
    "scale": lambda op, xs: _largest(op.tensors["scale"]) * xs[0] + _largest(op.tensors["shift"]),
    "linear": _weighted,
    "conv2d": _weighted,
    "activation": _activated,
}
