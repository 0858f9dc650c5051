"""Ternary weights: those of linear layers become -1, 0 or 1, times a scale a row (Li et al. 2016).

They stay float32 in the graph, so that every runtime answers as the compressed policy does; its file and `--int8` of
the C export store the whole numbers. Without a fit on their grid (`GraphStudent(graph, grid="ternary")`) few policies
survive it.
"""

from collections.abc import Mapping

from kd_agent.compress import quantize
from kd_agent.policies import Array, PolicyGraph
from kd_agent.policies.packed import ternary


def compress(graph: PolicyGraph, observations: Mapping[str, Array]) -> PolicyGraph:
    """Leave each weight its sign or nothing, after training.

    Args:
        graph: The policy.
        observations: States `[S, *O]` by key that it meets, as for `quantize`.

    Raises:
        KDError: The policy has no linear layer.
    """
    return quantize.with_weights(graph, observations, lambda weight: ternary(weight).weight)
