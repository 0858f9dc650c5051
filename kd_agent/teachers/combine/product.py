"""Product: the normalised geometric mean, `p ~ prod_k p_k^w_k`, the logarithmic opinion pool (Hinton 2002).

Natural parameters are averaged: logits, and the means by their precision. What one teacher excludes stays
excluded, so every teacher has a veto: for teachers that all deserve one.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from kd_agent.networks import ActionHead, PolicyOutput
from kd_agent.teachers.combine._pool import moments, to_row


def combine(outputs: Sequence[PolicyOutput], weights: Tensor, head: ActionHead) -> Tensor:
    """The product's row `[B, P]`."""
    rows, share = [output.params for output in outputs], weights[:, None, None]
    if not head.spec.is_gaussian:
        parts = zip(*(head.log_probabilities(row) for row in rows), strict=True)
        return to_row([(share * torch.stack(part)).sum(0).log_softmax(-1) for part in parts], head)
    means, variances = moments(rows, head)
    precision = (share / variances).sum(0)
    mean = (share * means / variances).sum(0) / precision
    return torch.cat([mean, -0.5 * precision.log()], dim=-1)
