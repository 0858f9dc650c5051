"""Losses of masked rows: what is forbidden counts nowhere, whoever says what of it."""

import masked_agents
import numpy as np
import pytest
import torch
from samples import HEADS, rows

from kd_agent import plugins
from kd_agent.losses import BoundObjective, Objective
from kd_agent.losses._preferences import decision_gap
from kd_agent.networks import LAYER, ActionHead, PolicyOutput, Softening

PARTS = {"categorical": [4], "multi_categorical": [3, 4], "bernoulli": [2, 2, 2]}
BATCH = 24
WITHOUT_ROWS = ("value", "hint", "relation")
"""Losses that compare something else than action distributions."""
LOSSES = [name for name in plugins.names("losses") if name not in WITHOUT_ROWS]
every_head = pytest.mark.parametrize("kind", PARTS)
every_loss = pytest.mark.parametrize("name", LOSSES)
softened = pytest.mark.parametrize("softening", [Softening(), Softening(4.0), Softening(0.25, "rusu")], ids=str)


def masks_of(kind: str) -> torch.Tensor:
    return torch.from_numpy(masked_agents.random_masks(PARTS[kind], BATCH, np.random.default_rng(0)))


def answer(params: torch.Tensor, mask: torch.Tensor | None = None) -> PolicyOutput:
    layer = torch.randn(BATCH, 3, generator=torch.Generator().manual_seed(9))
    return PolicyOutput(params, None, {LAYER: layer}, mask=mask)


def losses(
    name: str, head: ActionHead, student: torch.Tensor, target: PolicyOutput, softening: Softening
) -> torch.Tensor:
    torch.manual_seed(0)
    objective = Objective({name: 1.0}, softening, LAYER)
    found: torch.Tensor = BoundObjective(objective, head, answer(student), target, None)(answer(student), target)
    return found


@every_head
@every_loss
@softened
def test_what_the_student_says_of_forbidden_actions_changes_nothing(name: str, kind: str, softening: Softening) -> None:
    head = HEADS[kind]
    mask = masks_of(kind)
    target = answer(head.masked(rows(head, BATCH, 1), mask), mask)
    student = rows(head, BATCH, 2).requires_grad_()
    loss = losses(name, head, student, target, softening)
    assert torch.isfinite(loss).all()
    loss.sum().backward()
    is_open = head.spec.open_columns(mask)
    assert student.grad is not None
    assert torch.isfinite(student.grad).all()
    assert (student.grad[~is_open] == 0).all()
    other = torch.where(is_open, student.detach(), 1000.0)
    torch.testing.assert_close(losses(name, head, other, target, softening), loss.detach())


@every_head
@pytest.mark.parametrize("name", ["kl", "reverse_kl", "js", "mse", "ranking"])
def test_a_student_that_does_as_the_teacher_where_it_may_has_no_loss(name: str, kind: str) -> None:
    head = HEADS[kind]
    mask = masks_of(kind)
    row = rows(head, BATCH, 1)
    target = answer(head.masked(row, mask), mask)
    equal = losses(name, head, row, target, Softening())
    torch.testing.assert_close(equal, torch.zeros(BATCH), atol=1e-6, rtol=0)
    assert losses(name, head, rows(head, BATCH, 2), target, Softening()).mean() > 1e-3


@every_head
@pytest.mark.parametrize("name", ["kl", "mse", "ranking", "js"])
def test_a_mask_that_allows_everything_is_as_none(name: str, kind: str) -> None:
    head = HEADS[kind]
    everything = torch.ones(BATCH, head.spec.num_masks, dtype=torch.bool)
    teacher, student = rows(head, BATCH, 1), rows(head, BATCH, 2)
    with_mask = losses(name, head, student, answer(teacher, everything), Softening())
    torch.testing.assert_close(with_mask, losses(name, head, student, answer(teacher), Softening()))


def test_the_loss_of_a_masked_row_is_that_of_the_smaller_head() -> None:
    # Without its third action, a choice of four is one of three.
    four = HEADS["categorical"]
    keep = [0, 1, 3]
    mask = torch.tensor([[True, True, False, True]]).expand(BATCH, -1)
    teacher, student = rows(four, BATCH, 1), rows(four, BATCH, 2)
    target = answer(four.masked(teacher, mask), mask)
    kl = losses("kl", four, student, target, Softening(2.0))
    p, q = (row[:, keep].div(2).log_softmax(-1) for row in (teacher, student))
    torch.testing.assert_close(kl, 4 * (p.exp() * (p - q)).sum(-1))
    centred = [row[:, keep] - row[:, keep].mean(-1, keepdim=True) for row in (teacher, student)]
    expected = (centred[0] - centred[1]).square().sum(-1) / four.num_params
    torch.testing.assert_close(losses("mse", four, student, target, Softening()), expected)


def test_where_one_action_is_allowed_there_is_no_decision() -> None:
    head = HEADS["categorical"]
    mask = torch.tensor([[False, True, False, False], [True, True, False, False]])
    row = head.masked(rows(head, 2, 1), mask)
    gap = decision_gap(row, head, mask)
    assert gap[0] == 0
    p = row[1, :2].softmax(-1)
    torch.testing.assert_close(gap[1], (p[0] - p[1]).abs())
