"""Routed: each state asks one teacher alone, the one whose critic promises the most return from there.

Where critics are right, following the highest value earns at least as much as the best teacher of each
state: with `V = max_k V_k` and the chosen teacher's action, `r + g V(s') >= r + g V_k(s') = V(s)` in
expectation (Cheng, Kolobov and Agarwal 2020). That holds for values in the same unit, and so they are
compared as they are: standardising each would erase who is better. Where a teacher has no critic, the most
certain teacher is asked; nothing but experience says that it is right.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from kd_agent.networks import ActionHead, PolicyOutput
from kd_agent.teachers.combine._pool import entropy


def combine(outputs: Sequence[PolicyOutput], weights: Tensor, head: ActionHead) -> Tensor:
    """The chosen teachers' rows `[B, P]`; the weights say nothing where one is asked."""
    chosen = choose(outputs, head)
    return torch.stack([output.params for output in outputs])[chosen, torch.arange(len(chosen))]


def choose(outputs: Sequence[PolicyOutput], head: ActionHead) -> Tensor:
    """Index `[B]` of the teacher that is asked in each state."""
    values = [output.value for output in outputs if output.value is not None]
    if len(values) < len(outputs):
        values = [-entropy(output.params, head) for output in outputs]
    return torch.stack(values).argmax(0)
