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
        pooled = []
        for log_probabilities in log_parts(rows, head):
            # In logarithms, so that a probability too small for a float stays one.
            pooled.append((log_probabilities + share.log()).logsumexp(0))
        return to_row(pooled, head)
    means, variances = moments(rows, head)
    mean = (share * means).sum(0)
    # The law of total variance: the mean of the variances and the variance of the means.
    variance = (share * (variances + (means - mean).square())).sum(0)
    return torch.cat([mean, 0.5 * variance.log()], dim=-1)


def log_parts(rows: Sequence[Tensor], head: ActionHead) -> list[Tensor]:
    """Log-probabilities `[K, B, n]` of each part of a discrete action.

    Args:
        rows: `[B, P]` of each teacher.
        head: Their head, not a Gaussian one.
    """
    by_teacher = [head.log_probabilities(row) for row in rows]
    return list(map(torch.stack, zip(*by_teacher, strict=True)))


def to_row(parts: Sequence[Tensor], head: ActionHead) -> Tensor:
    """The row `[B, P]` of log-probabilities, which `ActionHead.log_probabilities` would give.

    Args:
        parts: `[B, n]` of each part of the action, normalised.
        head: The head of the row, not a Gaussian one.
    """
    # A bit has one logit, the difference of its two log-probabilities; of a choice, they are logits themselves.
    if head.kind == "bernoulli":
        return torch.stack([part[:, 0] - part[:, 1] for part in parts], dim=-1)
    return torch.cat(list(parts), dim=-1)


def moments(rows: Sequence[Tensor], head: ActionHead) -> tuple[Tensor, Tensor]:
    """Means and variances `[K, B, A]` of Gaussian rows.

    Args:
        rows: `[B, P]` of each teacher.
        head: Their head.
    """
    means, log_stds = zip(*map(head.mean_log_std, rows), strict=True)
    return torch.stack(means), (2 * torch.stack(log_stds)).exp()


def entropy(row: Tensor, head: ActionHead) -> Tensor:
    """Entropy `[B]` of a row, in nats, its mean over the action's parts (Gaussians through tanh: before it).

    Args:
        row: `[B, P]`.
        head: Its head.
    """
    if head.spec.is_gaussian:
        _, log_std = head.mean_log_std(row)
        return log_std.mean(-1) + 0.5 * math.log(2 * math.pi * math.e)
    parts = [-(part.exp() * part).sum(-1) for part in head.log_probabilities(row)]
    return torch.stack(parts).mean(0)
