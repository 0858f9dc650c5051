"""Contract of every loss, on every head: finite numbers, finite gradients, and who is best."""

import pytest
import torch
from loss_answers import CONVENTIONS, DIVERGENCES, LISTED, loss_of
from samples import HEADS, rows

from kd_agent import KDError, plugins
from kd_agent.networks.distributions import ActionHead, Softening

LOSSES = plugins.names("losses")
RELATING = ("relation", "intuition")
"""Losses that compare the states of a batch with each other."""


def served(name: str, head: ActionHead) -> bool:
    """Whether a loss is for this head at all."""
    return name not in LISTED or not head.spec.is_gaussian


CASES = [
    pytest.param(name, head, id=f"{name}-{kind}")
    for name in LOSSES
    for kind, head in HEADS.items()
    if served(name, head)
]

every_case = pytest.mark.parametrize(("name", "head"), CASES)
every_head = pytest.mark.parametrize("head", HEADS.values(), ids=HEADS)
every_softening = pytest.mark.parametrize("softening", CONVENTIONS, ids=lambda s: f"{s.convention}-{s.temperature:g}")


@every_case
@every_softening
def test_a_loss_is_one_finite_number_a_state_with_a_finite_gradient(
    name: str, head: ActionHead, softening: Softening
) -> None:
    student = rows(head, seed=1).requires_grad_()
    value = loss_of(name, student, rows(head, seed=2), head, softening)
    assert value.shape == (7,)
    assert torch.isfinite(value).all()
    value.sum().backward()
    assert torch.isfinite(student.grad).all()
    assert student.grad.abs().sum() > 0


@pytest.mark.parametrize(("name", "head"), [case for case in CASES if case.values[0] not in RELATING])
def test_a_loss_does_not_depend_on_the_batch_around_a_state(name: str, head: ActionHead) -> None:
    student, teacher = rows(head, seed=1), rows(head, seed=2)
    together = loss_of(name, student, teacher, head)
    alone = torch.cat([loss_of(name, student[i : i + 1], teacher[i : i + 1], head) for i in range(7)])
    assert torch.allclose(together, alone, atol=1e-6)


@pytest.mark.parametrize("name", DIVERGENCES)
@every_head
@every_softening
def test_a_divergence_is_zero_at_the_teacher_and_positive_elsewhere(
    name: str, head: ActionHead, softening: Softening
) -> None:
    teacher = rows(head, seed=2)
    # Under rusu the student's target is the softened teacher itself; the MSE knows no temperature.
    own = head.soften(teacher, softening.temperature) if softening.convention == "rusu" and name != "mse" else teacher
    assert loss_of(name, own, teacher, head, softening).abs().max() < 1e-5
    assert (loss_of(name, own + rows(head, seed=3), teacher, head, softening) > 1e-3).all()


@every_head
def test_the_gradient_of_a_divergence_vanishes_at_the_teacher(head: ActionHead) -> None:
    teacher = rows(head, seed=2)
    for name in DIVERGENCES:
        student = teacher.clone().requires_grad_()
        loss_of(name, student, teacher, head).sum().backward()
        assert student.grad.abs().max() < 1e-5, name


@pytest.mark.parametrize("kind", ["categorical", "multi_categorical", "bernoulli"])
@pytest.mark.parametrize("name", ["kl", "reverse_kl", "js"])
def test_the_gradient_of_hintons_convention_does_not_depend_on_the_temperature(kind: str, name: str) -> None:
    head = HEADS[kind]

    def gradient(softening: Softening) -> float:
        student = rows(head, seed=1, scale=0.05).requires_grad_()
        loss_of(name, student, rows(head, seed=2, scale=0.05), head, softening).sum().backward()
        return float(student.grad.norm())

    sizes = [gradient(Softening(t)) for t in (1.0, 2.0, 4.0, 8.0)]
    assert max(sizes) / min(sizes) < 1.1
    assert gradient(Softening(8.0, "rusu")) != pytest.approx(sizes[0], rel=0.1)


@every_case
def test_huge_parameters_stay_finite(name: str, head: ActionHead) -> None:
    student = rows(head, seed=1, scale=1.0)
    student[:, : head.spec.num_acting] *= 300
    teacher = rows(head, seed=2, scale=1.0)
    teacher[:, : head.spec.num_acting] *= 300
    student.requires_grad_()
    value = loss_of(name, student, teacher, head)
    assert torch.isfinite(value).all()
    value.sum().backward()
    assert torch.isfinite(student.grad).all()


@pytest.mark.parametrize("name", [name for name in LOSSES if name not in LISTED])
@pytest.mark.parametrize("kind", ["diag_gaussian", "squashed_gaussian"])
def test_a_teacher_without_noise_does_not_make_a_loss_infinite(name: str, kind: str) -> None:
    head = HEADS[kind]
    teacher = rows(head, seed=2)
    teacher[:, 2:] = -float("inf")
    student = rows(head, seed=1).requires_grad_()
    value = loss_of(name, student, teacher, head)
    assert torch.isfinite(value).all()
    value.sum().backward()
    assert torch.isfinite(student.grad).all()


def test_a_constant_added_to_all_logits_costs_nothing() -> None:
    head, teacher = HEADS["multi_categorical"], rows(HEADS["multi_categorical"])
    shifted = teacher + torch.tensor([5.0] * 3 + [-2.0] * 4)
    for name in DIVERGENCES:
        assert loss_of(name, shifted, teacher, head).abs().max() < 1e-5, name


@pytest.mark.parametrize("kind", ["categorical", "multi_categorical", "bernoulli"])
def test_ranking_and_intuition_vanish_at_the_teacher_and_nowhere_near_it(kind: str) -> None:
    head, teacher = HEADS[kind], rows(HEADS[kind], seed=2)
    for name in LISTED:
        assert loss_of(name, teacher, teacher, head).abs().max() < 1e-6, name
        assert loss_of(name, teacher + rows(head, seed=3), teacher, head).min() > 1e-4, name


@pytest.mark.parametrize("name", LISTED)
@pytest.mark.parametrize("kind", ["diag_gaussian", "squashed_gaussian"])
def test_losses_of_listed_actions_refuse_continuous_ones_and_name_what_fits(name: str, kind: str) -> None:
    with pytest.raises(KDError, match=f"a {kind} head has none; what fits: mse"):
        loss_of(name, rows(HEADS[kind]), rows(HEADS[kind], seed=1), HEADS[kind])
