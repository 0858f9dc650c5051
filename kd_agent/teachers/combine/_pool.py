"""Pools of distributions, and how certain one is.

Letters: `B` batch, `K` teachers, `A` parts of an action, `P` head parameters.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from kd_agent.networks import ActionHead


def linear_pool(rows: Sequence[Tensor], weights: Tensor, head: ActionHead) -> Tensor:
    """The row `[B, P]` nearest to the weighted mean of the densities, by forward KL.

    Of a factorised or Gaussian head that is the one with the mixture's marginals, or with its means and
    variances (Gaussians through tanh: before it).

    Args:
        rows: `[B, P]` of each teacher.
        weights: `[B, K]`, 1 in sum over the teachers.
        head: Their head.
    """
    share = weights.T[..., None]
    if not head.spec.is_gaussian:
        parts = zip(*(head.log_probabilities(row) for row in rows), strict=True)
        return to_row([(torch.stack(part) + share.log()).logsumexp(0) for part in parts], head)
    means, variances = moments(rows, head)
    mean = (share * means).sum(0)
    variance = (share * (variances + (means - mean).square())).sum(0)
    return torch.cat([mean, 0.5 * variance.log()], dim=-1)


def to_row(parts: Sequence[Tensor], head: ActionHead) -> Tensor:
    """The row `[B, P]` of log-probabilities `[B, n]` a part, as `ActionHead.log_probabilities` gives them."""
    if head.kind == "bernoulli":
        return torch.stack([part[:, 0] - part[:, 1] for part in parts], dim=-1)
    return torch.cat(list(parts), dim=-1)


def moments(rows: Sequence[Tensor], head: ActionHead) -> tuple[Tensor, Tensor]:
    """Means and variances `[K, B, A]` of Gaussian rows."""
    means, log_stds = zip(*(head.mean_log_std(row) for row in rows), strict=True)
    return torch.stack(means), (2 * torch.stack(log_stds)).exp()


def entropy(row: Tensor, head: ActionHead) -> Tensor:
    """Entropy `[B]` of a row, in nats, its mean over the action's parts (Gaussians through tanh: before it)."""
    if head.spec.is_gaussian:
        return head.mean_log_std(row)[1].mean(-1) + 0.5 * math.log(2 * math.pi * math.e)
    parts = head.log_probabilities(row)
    return torch.stack([-(part.exp() * part).sum(-1) for part in parts]).mean(0)
