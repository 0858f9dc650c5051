"""Ranking: order and gaps of the teacher's preferences."""

import torch
from loss_answers import loss_of
from samples import HEADS, rows
from torch.nn import functional

from kd_agent.networks.distributions import Softening


def test_ranking_punishes_an_error_that_swaps_two_actions_more_than_its_opposite() -> None:
    head, teacher = HEADS["categorical"], torch.tensor([[1.0, 0.0, -1.0, -2.0]])
    swapping = torch.tensor([[-1.0, 1.0, 0.0, 0.0]])
    swapped, widened = (float(loss_of("ranking", teacher + sign * swapping, teacher, head)) for sign in (1, -1))
    assert swapped > 1.02 * widened > 0


def test_the_order_of_ranking_is_ranknets_cross_entropy_less_its_minimum() -> None:
    head = HEADS["categorical"]
    q, p = rows(head, seed=1), rows(head, seed=2)
    pairs = [(i, j) for i in range(4) for j in range(i + 1, 4)]
    dq, dp = (torch.stack([x[:, i] - x[:, j] for i, j in pairs], -1) for x in (q, p))
    entropy = functional.binary_cross_entropy_with_logits(dp, dp.sigmoid(), reduction="none")
    order = functional.binary_cross_entropy_with_logits(dq, dp.sigmoid(), reduction="none") - entropy
    expected = order.mean(-1) + functional.huber_loss(dq, dp, reduction="none").mean(-1)
    assert torch.allclose(loss_of("ranking", q, p, head), expected, atol=1e-6)


def test_both_sides_are_softened_whatever_the_convention() -> None:
    head, student, teacher = HEADS["categorical"], rows(HEADS["categorical"], seed=1), rows(HEADS["categorical"])
    expected = 9 * loss_of("ranking", student / 3, teacher / 3, head)
    for convention in ("hinton", "rusu"):
        found = loss_of("ranking", student, teacher, head, Softening(3.0, convention))
        assert torch.allclose(found, expected, rtol=1e-5)
