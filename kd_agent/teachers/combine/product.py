"""Product: the normalised geometric mean, `p ~ prod_k p_k^w_k`, the logarithmic opinion pool (Hinton 2002).

Natural parameters are averaged: logits, and the means by their precision. What one teacher excludes stays
excluded, so every teacher has a veto: for teachers that all deserve one.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from kd_agent.networks import ActionHead, PolicyOutput
from kd_agent.teachers.combine._pool import log_parts, moments, to_row


def combine(outputs: Sequence[PolicyOutput], weights: Tensor, head: ActionHead) -> Tensor:
    """The product's row `[B, P]`.

    Args:
        outputs: What each teacher says of the same states; `params [B, P]`.
        weights: `[K]`, all positive and 1 in sum.
        head: The teachers' head.
    """
    rows = [output.params for output in outputs]
    share = weights[:, None, None]
    if not head.spec.is_gaussian:
        products = []
        for log_probabilities in log_parts(rows, head):
            products.append((share * log_probabilities).sum(0).log_softmax(-1))
        return to_row(products, head)
    # A power of a Gaussian is one of another precision, and in a product precisions add up.
    means, variances = moments(rows, head)
    precision = (share / variances).sum(0)
    mean = (share * means / variances).sum(0) / precision
    return torch.cat([mean, -0.5 * precision.log()], dim=-1)
