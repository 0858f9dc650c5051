"""What differs between Stable-Baselines3's PPO and sb3_contrib's MaskablePPO, for the zip of a policy.

Letters: `n` outputs of a layer, `F` features.
"""

from typing import Any

import numpy as np

from kd_agent.policies import Array, PolicyGraph


def algorithm(graph: PolicyGraph) -> Any:
    """The class whose zip a policy becomes: MaskablePPO where it plays with action masks."""
    if graph.head.expects_masks:
        from sb3_contrib import MaskablePPO

        return MaskablePPO
    from stable_baselines3 import PPO

    return PPO


def outputs(graph: PolicyGraph, weight: Array, bias: Array) -> tuple[Array, Array]:
    """The last layer `[n, F]`, `[n]` as the zip has it.

    Args:
        graph: The policy.
        weight: The policy's own.
        bias: The policy's own.
    """
    if graph.head.expects_masks and graph.head.kind == "bernoulli":
        # There a bit is a choice between 0 and 1 with a logit each; what counts is their difference.
        return _pairs(weight), _pairs(bias)
    return weight, bias


def _pairs(rows: Array) -> Array:
    """Each row behind a row of zeros, `[2 n, ...]`."""
    pairs = np.zeros((2 * len(rows), *rows.shape[1:]), np.float32)
    pairs[1::2] = rows
    return pairs
