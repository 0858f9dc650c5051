"""What a discrete row says about pairs of actions, and how two rows differ in that.

Letters: `B` batch, `M` flags of an action mask, `n` actions of a part.
"""

import torch
from torch import Tensor
from torch.nn.functional import huber_loss, logsigmoid

from kd_agent.errors import KDError
from kd_agent.networks import ActionHead


def disorder(
    student: Tensor, teacher: Tensor, head: ActionHead, temperature: float, mask: Tensor | None = None
) -> Tensor:
    """How order and gaps of two rows' preferences differ, `[B]`, each as the mean over pairs of actions.

    Order: cross-entropy of RankNet (Burges et al. 2005), whose targets are the teacher's probabilities that one action
    is better than the other (Bradley and Terry 1952), less its own minimum. Gaps: Huber's loss of the differences of
    logits. Both sides are softened, and the sum is scaled by the square of the temperature.

    Args:
        student: `[B, P]`.
        teacher: `[B, P]`.
        head: The action head of both.
        temperature: `T`.
        mask: Flags `[B, M]`; pairs of which one action is forbidden count as agreed on.

    Raises:
        KDError: The head's actions cannot be listed.
    """
    q = _pairs(student, head, mask) / temperature
    p = _pairs(teacher, head, mask) / temperature
    gaps = huber_loss(q, p, reduction="none").mean(-1)
    return temperature**2 * (_order(q, p) + gaps)


def decision_gap(params: Tensor, head: ActionHead, mask: Tensor | None = None) -> Tensor:
    """How clear a decision is, `[B]`: probability of the best action less that of the second, the mean over parts.

    Args:
        params: `[B, P]`.
        head: Its action head, a discrete one.
        mask: Flags `[B, M]`; where a single action of a part is allowed there is no decision, and no gap.
    """
    gaps: list[Tensor] = []
    for part, flags in zip(head.log_probabilities(params), _flags(head, mask), strict=True):
        # A part of one action decides nothing, and has no second best.
        if part.shape[-1] > 1:
            best = part.exp().topk(2, dim=-1).values
            gap = best[:, 0] - best[:, 1]
            gaps.append(gap if flags is None else torch.where(flags.sum(-1) > 1, gap, 0.0))
    return torch.stack(gaps).mean(0)


def _flags(head: ActionHead, mask: Tensor | None) -> list[Tensor] | list[None]:
    """The mask `[B, n]` of each part, or as many times None."""
    nvec = list(head.spec.nvec)
    if mask is None:
        return [None] * len(nvec)
    return list(mask.split(nvec, dim=-1))


def _order(q: Tensor, p: Tensor) -> Tensor:
    """Divergence `[B]` of Bernoulli distributions with logits `[B, pairs]`, from teacher to student."""
    # log-probabilities by logsigmoid stay finite where the probabilities themselves are 0 or 1.
    yes, no = logsigmoid(p), logsigmoid(-p)
    return (yes.exp() * (yes - logsigmoid(q)) + no.exp() * (no - logsigmoid(-q))).mean(-1)


def _pairs(params: Tensor, head: ActionHead, mask: Tensor | None) -> Tensor:
    """By how much each action is preferred to each other one of its part, as differences of logits `[B, pairs]`."""
    if head.spec.is_gaussian:
        fitting = "mse, kl, reverse_kl, js, ce, relation, hint, value"
        raise KDError(
            f"ranking and intuition compare actions that can be listed, and a {head.kind} head has none; "
            f"what fits: {fitting}"
        )
    parts = zip(head.log_probabilities(params), _flags(head, mask), strict=True)
    return torch.cat([_differences(part, flags) for part, flags in parts], dim=-1)


def _differences(log_p: Tensor, flags: Tensor | None) -> Tensor:
    first, second = torch.triu_indices(log_p.shape[-1], log_p.shape[-1], offset=1, device=log_p.device)
    differences = log_p[:, first] - log_p[:, second]
    if flags is None:
        return differences
    return torch.where(flags[:, first] & flags[:, second], differences, 0.0)
