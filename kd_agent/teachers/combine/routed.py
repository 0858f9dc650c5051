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
    """The chosen teachers' rows `[B, P]`.

    Args:
        outputs: What each teacher says of the same states; `params [B, P]`, and `value [B]` where it has a critic.
        weights: `[K]`, all positive and 1 in sum; they say nothing where one teacher is asked.
        head: The teachers' head.
    """
    chosen = choose(outputs, head)
    rows = torch.stack([output.params for output in outputs])
    return rows[chosen, torch.arange(len(chosen))]


def choose(outputs: Sequence[PolicyOutput], head: ActionHead) -> Tensor:
    """Index `[B]` of the teacher that is asked in each state.

    Args:
        outputs: What each teacher says of the same states.
        head: The teachers' head.
    """
    values = [output.value for output in outputs if output.value is not None]
    # Values and certainties have no common unit: one teacher without a critic, and none is compared by values.
    if len(values) < len(outputs):
        values = [-entropy(output.params, head) for output in outputs]
    return torch.stack(values).argmax(0)
