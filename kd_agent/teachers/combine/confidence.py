"""Confidence: a mixture whose weights follow each state's certainty, `w_k(s) ~ w_k exp(-H_k(s))`.

`exp(-H)` is the inverse of a distribution's perplexity, the number of actions that a teacher still wavers
between. Certainty is not skill: a corrupted teacher with sharp preferences is heard the most, and it is the
gate that must keep it out.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from kd_agent.networks import ActionHead, PolicyOutput
from kd_agent.teachers.combine._pool import entropy, linear_pool


def combine(outputs: Sequence[PolicyOutput], weights: Tensor, head: ActionHead) -> Tensor:
    """The mixture's row `[B, P]`."""
    rows = [output.params for output in outputs]
    certainty = -torch.stack([entropy(row, head) for row in rows], dim=-1)
    return linear_pool(rows, (weights.log() + certainty).softmax(-1), head)
