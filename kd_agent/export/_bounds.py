"""What no number of a register can exceed, proven by interval arithmetic (infinity where nothing is known).

It holds for the int8 code too: its weights are the rounded ones, its tanh and sigmoid rough ones.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from kd_agent.policies import Array, Op, PolicyGraph
from kd_agent.policies.int8 import rounded

_SLACK = 1.01
"""For rounding, and for functions that are only nearly bounded by 1."""


def bounds(graph: PolicyGraph) -> dict[str, float]:
    """Largest absolute value that each register can reach, whatever is observed."""
    found = {key: _of_type(spec.dtype) for key, spec in graph.observations.items()}
    found |= dict.fromkeys(graph.states, np.inf)
    for op in graph.ops:
        found[op.output] = _SLACK * _RULES.get(op.kind, _unknown)(op, [found[name] for name in op.inputs])
    return found


def _of_type(dtype: str) -> float:
    kind = np.dtype(dtype)
    if kind.kind == "b":
        return 1.0
    return np.inf if kind.kind == "f" else float(max(-np.iinfo(kind).min, np.iinfo(kind).max))


def _unknown(op: Op, inputs: Sequence[float]) -> float:
    return np.inf


def _largest(array: Array) -> float:
    return float(np.abs(array).max())


def _weighted(op: Op, inputs: Sequence[float]) -> float:
    rows = np.abs(rounded(op.tensors["weight"])).reshape(len(op.tensors["weight"]), -1).sum(axis=1)
    return float((rows * inputs[0] + np.abs(op.tensors["bias"])).max()) if np.isfinite(inputs[0]) else np.inf


def _activated(op: Op, inputs: Sequence[float]) -> float:
    """No activation is farther from 0 than its input and 1 more."""
    return 1.0 if op.attributes["function"] in ("tanh", "sigmoid") else inputs[0] + 1


_RULES: Mapping[str, Callable[[Op, Sequence[float]], float]] = {
    "flatten": lambda op, xs: xs[0],
    "transpose": lambda op, xs: xs[0],
    "slice": lambda op, xs: xs[0],
    "concatenate": lambda op, xs: max(xs),
    "append": lambda op, xs: max(xs[0], _largest(op.tensors["value"])),
    "one_hot": lambda op, xs: 1.0,
    "normalise": lambda op, xs: float(op.attributes["clip"]),
    "clip": lambda op, xs: max(abs(float(op.attributes[side])) for side in ("low", "high")),
    "scale": lambda op, xs: _largest(op.tensors["scale"]) * xs[0] + _largest(op.tensors["shift"]),
    "linear": _weighted,
    "conv2d": _weighted,
    "activation": _activated,
}
