"""Jensen-Shannon divergence: symmetric, and bounded for discrete actions."""

import torch
from torch import Tensor
from torch.distributions import Independent, Normal, kl_divergence

from kd_agent.networks import ActionHead, PolicyOutput, Softening


def loss(student: PolicyOutput, teacher: PolicyOutput, head: ActionHead, softening: Softening) -> Tensor:
    """Jensen-Shannon divergence `[B]`, in nats.

    Discrete heads: Lin 1991, summed over independent parts. Gaussians, whose mixture has no closed
    form: the geometric divergence, through the normalised geometric mean (Nielsen 2019).

    Args:
        student: Its `params [B, P]`.
        teacher: Its `params [B, P]`.
        head: The action head of both.
        softening: Temperature and convention.
    """
    q, p, scale = softening.apply(head, student.params, teacher.params)
    if head.spec.is_gaussian:
        return scale * _gaussian(q, p, head)
    return scale * _discrete(q, p, head)


def _discrete(q: Tensor, p: Tensor, head: ActionHead) -> Tensor:
    total = torch.zeros(len(q), dtype=q.dtype, device=q.device)
    for log_q, log_p in zip(head.log_probabilities(q), head.log_probabilities(p), strict=True):
        # log of (q + p) / 2, from logarithms: no probability underflows.
        log_m = torch.logaddexp(log_q, log_p) - float(torch.log(torch.tensor(2.0)))
        both = log_p.exp() * (log_p - log_m) + log_q.exp() * (log_q - log_m)
        total = total + 0.5 * both.sum(-1)
    return total


def _gaussian(q: Tensor, p: Tensor, head: ActionHead) -> Tensor:
    mean_q, log_q = head.mean_log_std(q)
    mean_p, log_p = head.mean_log_std(p)
    precision_q = (-2 * log_q).exp()
    precision_p = (-2 * log_p).exp()
    # The normalised geometric mean of two Gaussians is a Gaussian of mean precision.
    precision = 0.5 * (precision_q + precision_p)
    mean = 0.5 * (precision_q * mean_q + precision_p * mean_p) / precision
    middle = Independent(Normal(mean, precision.rsqrt(), validate_args=False), 1)
    return 0.5 * (kl_divergence(head.gaussian(p), middle) + kl_divergence(head.gaussian(q), middle))
