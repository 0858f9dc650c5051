"""Quantisation: the weights of linear layers become numbers that int8 can say.

They stay float32 in the graph, so that every runtime answers as the quantised policy does; `--int8` of the
C export stores them as the whole numbers that they are.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from kd_agent.errors import KDError
from kd_agent.policies import Array, ObservationSpec, Op, PolicyGraph
from kd_agent.policies.int8 import rounded

_MARGIN = 2.0
"""What an observation may still grow by, over the largest of the states: one bit of int16."""


def compress(graph: PolicyGraph, observations: Mapping[str, Array]) -> PolicyGraph:
    """Round each row of a weight to 255 steps, after training.

    Args:
        graph: The policy.
        observations: States `[S, *O]` by key that it meets. Where it has no normaliser, a clip at twice
            their largest number tells whole-number arithmetic what to expect.

    Raises:
        KDError: The policy has no linear layer.
    """
    return with_weights(graph, observations, rounded)


def with_weights(
    graph: PolicyGraph, observations: Mapping[str, Array], nearest: Callable[[Array], Array]
) -> PolicyGraph:
    """The graph with other weights in its linear layers, and with bounds on what they read.

    Args:
        graph: The policy.
        observations: As for `compress`.
        nearest: From a weight `[m, n]` to that in its place.

    Raises:
        KDError: The policy has no linear layer.
    """
    if not any(op.kind == "linear" for op in graph.ops):
        raise KDError("quantisation rounds the weights of linear layers, and this policy has none")
    ops: list[Op] = []
    for op in graph.ops:
        if op.kind == "linear":
            op = replace(op, tensors={**op.tensors, "weight": nearest(op.tensors["weight"])})  # noqa: PLW2901
        ops.append(op)
    for key, spec in graph.observations.items():
        # A whole type has bounds of its own, and a normaliser clips: only other floats can be of any size.
        readers = {op.kind for op in ops if key in op.inputs}
        if np.dtype(spec.dtype).kind == "f" and readers - {"normalise"}:
            limit = _MARGIN * float(np.abs(observations[key]).max())
            ops = _bounded(ops, key, spec, limit)
    return replace(graph, ops=tuple(ops))


def _bounded(ops: list[Op], key: str, spec: ObservationSpec, limit: float) -> list[Op]:
    """The program, reading an observation clipped to `+-limit`."""
    name = f"{key}.bounded"
    # A normaliser that changes nothing but what is too large: the kind of bound that int8 code looks for.
    tensors = {"mean": np.zeros(spec.shape, np.float32), "scale": np.ones(spec.shape, np.float32)}
    bounded = [Op("normalise", (key,), name, {"clip": max(limit, 1e-6)}, tensors)]
    for op in ops:
        inputs = [name if register == key else register for register in op.inputs]
        bounded.append(replace(op, inputs=tuple(inputs)))
    return bounded
