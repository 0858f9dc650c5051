"""From head parameters to actions in torch: `kd_agent.policies.head`, for modules that are trained and exported.

Letters: `B` batch, `P` head parameters, `M` flags of an action mask, `A` parts of an action.
"""

import torch
from torch import Tensor

from kd_agent.policies.head import HeadSpec


def greedy(head: HeadSpec, params: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """The distribution's mode `[B]` or `[B, A]`, in the environment's units: `HeadSpec.greedy`, before its dtype.

    Args:
        head: The head.
        params: `[B, P]`.
        low: Bounds of a Box, `[A]`.
        high: Its other bounds.
    """
    if head.kind == "categorical":
        return params.argmax(-1) + head.start[0]
    if head.kind == "multi_categorical":
        parts = params.split(list(head.nvec), dim=-1)
        categories = []
        for part, start in zip(parts, head.start, strict=True):
            categories.append(part.argmax(-1) + start)
        return torch.stack(categories, dim=-1)
    if head.kind == "bernoulli":
        return params > 0
    latent = params[:, : head.num_acting]
    if head.kind == "squashed_gaussian":
        return low + (torch.tanh(latent) + 1) * (0.5 * (high - low))
    return torch.minimum(torch.maximum(latent, low), high)


def noisy(head: HeadSpec, params: Tensor) -> Tensor:
    """Rows whose greedy action is a sample of the given ones: `HeadSpec.sample`, in torch.

    Args:
        head: The head.
        params: `[B, P]`.
    """
    if head.is_gaussian:
        mean, log_std = params.chunk(2, dim=-1)
        return mean + log_std.exp() * torch.randn_like(mean)
    uniform = torch.rand_like(params).clamp_min(torch.finfo(params.dtype).tiny)
    if head.kind == "bernoulli":
        return params + torch.logit(uniform)
    return params - torch.log(-torch.log(uniform))


def masked(head: HeadSpec, params: Tensor, action_masks: Tensor) -> Tensor:
    """`HeadSpec.masked` for tensors, differentiable: what is forbidden has no gradient.

    Args:
        head: The head.
        params: `[B, P]`.
        action_masks: `[B, M]`, what is allowed.
    """
    allowed = action_masks.to(params.device, torch.bool)
    rows: Tensor = head.where_allowed(params, allowed, torch.where)
    return rows.to(params.dtype)
