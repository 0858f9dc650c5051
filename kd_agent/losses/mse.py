"""Squared error of the acting parameters: logits, or the actions that means stand for."""

import torch
from torch import Tensor

from kd_agent.networks import ActionHead, PolicyOutput, Softening


def loss(student: PolicyOutput, teacher: PolicyOutput, head: ActionHead, softening: Softening) -> Tensor:
    """Mean squared error `[B]` over a row's columns.

    Discrete heads: logits, centred in each part because a constant does not act (Bernoulli logits do).
    Gaussians: means as they act, in half-widths of the Box, plus log standard deviations. A diagonal
    Gaussian's means are clipped: beyond the bound that the teacher passes, the student is free.

    Args:
        student: Its `params [B, P]`.
        teacher: Its `params [B, P]`, and its mask if any.
        head: The action head of both.
        softening: Not used: squared errors have no temperature.
    """
    q, p = student.params, teacher.params
    if not head.spec.is_gaussian:
        return (_centred(q, head, teacher.mask) - _centred(p, head, teacher.mask)).square().mean(-1)
    mean_q, log_q = head.mean_log_std(q)
    mean_p, log_p = head.mean_log_std(p)
    error = _action_error(mean_q, mean_p, head)
    return (error.square() + (log_q - log_p).square()).mean(-1)


def _centred(logits: Tensor, head: ActionHead, mask: Tensor | None) -> Tensor:
    """Logits less the mean of their part; of what a mask `[B, M]` forbids, 0."""
    if mask is not None:
        return _centred_open(logits, head, head.spec.open_columns(mask))
    if head.kind == "bernoulli":
        return logits
    parts = logits.split(list(head.spec.nvec), dim=-1)
    return torch.cat([part - part.mean(-1, keepdim=True) for part in parts], dim=-1)


def _centred_open(logits: Tensor, head: ActionHead, is_open: Tensor) -> Tensor:
    free = torch.where(is_open, logits, 0.0)
    if head.kind == "bernoulli":
        return free
    nvec = list(head.spec.nvec)
    centred: list[Tensor] = []
    for part, flags in zip(free.split(nvec, dim=-1), is_open.split(nvec, dim=-1), strict=True):
        mean = part.sum(-1, keepdim=True) / flags.sum(-1, keepdim=True).clamp_min(1)
        centred.append(torch.where(flags, part - mean, 0.0))
    return torch.cat(centred, dim=-1)


def _action_error(mean_q: Tensor, mean_p: Tensor, head: ActionHead) -> Tensor:
    if head.kind == "squashed_gaussian":
        # Behind tanh, a half-width of the Box is 1.
        return mean_q.tanh() - mean_p.tanh()
    low = mean_q.new_tensor(head.spec.low)
    high = mean_q.new_tensor(head.spec.high)
    half = (high - low) / 2
    unit = torch.where(half.isfinite(), half, torch.ones_like(half))
    target = mean_p.clamp(low, high)
    beyond = ((mean_p >= high) & (mean_q >= high)) | ((mean_p <= low) & (mean_q <= low))
    return torch.where(beyond, torch.zeros_like(mean_q), (mean_q - target) / unit)
