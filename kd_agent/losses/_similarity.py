"""How alike the states of a batch look in a layer.

Letters: `B` batch, `F` features.
"""

import torch
from torch import Tensor


def unlikeness(student: Tensor, teacher: Tensor) -> Tensor:
    """Squared distance `[B]` between the rows of two similarity matrices, of layers `[B, F]` of any two widths.

    Similarity-preserving distillation (Tung and Mori 2019, equations 1 to 4): inner products of all pairs of states,
    each row brought to length 1. Theirs is the mean of this over the batch, divided by `B`.

    Args:
        student: `[B, F]`.
        teacher: `[B, F]`, of another width perhaps.
    """
    return (_similarity(student) - _similarity(teacher)).square().sum(-1)


def _similarity(features: Tensor) -> Tensor:
    return torch.nn.functional.normalize(features @ features.T, dim=-1)
