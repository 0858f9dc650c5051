"""Mixture: the weighted mean of the teachers' probabilities, `p = sum_k w_k p_k`, the linear opinion pool.

A mode that one teacher has stays in it, and a teacher that excludes an action excludes it for nobody else.
"""

from collections.abc import Sequence

from torch import Tensor

from kd_agent.networks import ActionHead, PolicyOutput
from kd_agent.teachers.combine._pool import linear_pool


def combine(outputs: Sequence[PolicyOutput], weights: Tensor, head: ActionHead) -> Tensor:
    """The mixture's row `[B, P]`.

    Args:
        outputs: What each teacher says of the same states; `params [B, P]`.
        weights: `[K]`, all positive and 1 in sum.
        head: The teachers' head.
    """
    rows = [output.params for output in outputs]
    return linear_pool(rows, weights.expand(len(rows[0]), -1), head)
