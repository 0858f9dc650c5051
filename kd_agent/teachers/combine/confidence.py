"""Confidence: a mixture whose weights follow each state's certainty, `w_k(s) ~ w_k exp(-H_k(s))`.

`exp(-H)` is the inverse of a distribution's perplexity, the number of actions that a teacher still wavers
between. Certainty is not skill: a corrupted teacher with sharp preferences counts the most, and it is teacher
selection that must keep it out.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from kd_agent.networks import ActionHead, PolicyOutput
from kd_agent.teachers.combine._pool import entropy, linear_pool


def combine(outputs: Sequence[PolicyOutput], weights: Tensor, head: ActionHead) -> Tensor:
    """The mixture's row `[B, P]`.

    Args:
        outputs: What each teacher says of the same states; `params [B, P]`.
        weights: `[K]`, all positive and 1 in sum.
        head: The teachers' head.
    """
    rows = [output.params for output in outputs]
    entropies = torch.stack([entropy(row, head) for row in rows], dim=-1)
    # softmax(log w - H) is w exp(-H), normalised over the teachers.
    weights_of_states = (weights.log() - entropies).softmax(-1)
    return linear_pool(rows, weights_of_states, head)
