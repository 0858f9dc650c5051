"""Quantisation to 4 bits: the weights of linear layers become whole numbers within +-7, times a scale a row.

They stay float32 in the graph, so that every runtime answers as the compressed policy does; its file and `--int8` of
the C export store the whole numbers. Without a fit on their grid (`GraphStudent(graph, grid="int4")`) few policies
survive it.
"""

from collections.abc import Mapping

from kd_agent.compress import quantize
from kd_agent.policies import Array, PolicyGraph
from kd_agent.policies.packed import int4


def compress(graph: PolicyGraph, observations: Mapping[str, Array]) -> PolicyGraph:
    """Round each row of a weight to 15 steps, after training.

    Args:
        graph: The policy.
        observations: States `[S, *O]` by key that it meets, as for `quantize`.

    Raises:
        KDError: The policy has no linear layer.
    """
    return quantize.with_weights(graph, observations, lambda weight: int4(weight).weight)
