"""Contract of every loss, on every head, and the mathematics that is easy to get wrong."""

import numpy as np
import pytest
import torch
from samples import HEADS, rows
from torch.distributions import kl_divergence
from torch.nn import functional

from kd_agent import KDError, plugins
from kd_agent.networks.base import LAYER, PolicyOutput
from kd_agent.networks.distributions import ActionHead, Softening

LOSSES = plugins.names("losses")
DIVERGENCES = ("kl", "reverse_kl", "js", "mse")
"""Losses of action distributions that are zero where student and teacher agree."""
RELATING = ("relation", "intuition")
"""Losses that compare the states of a batch with each other."""
LISTED = ("ranking", "intuition")
"""Losses that need actions which can be listed."""
CASES = [
    pytest.param(name, head, id=f"{name}-{kind}")
    for name in LOSSES for kind, head in HEADS.items() if not (name in LISTED and head.spec.is_gaussian)
]  # fmt: skip
CONVENTIONS = [Softening(), Softening(3.0), Softening(3.0, "rusu"), Softening(0.5)]

every_case = pytest.mark.parametrize(("name", "head"), CASES)
every_head = pytest.mark.parametrize("head", HEADS.values(), ids=HEADS)
every_softening = pytest.mark.parametrize("softening", CONVENTIONS, ids=lambda s: f"{s.convention}-{s.temperature:g}")


def loss_of(
    name: str, student: torch.Tensor, teacher: torch.Tensor, head: ActionHead, softening: Softening = CONVENTIONS[0]
) -> torch.Tensor:
    return plugins.load("losses", name).loss(output(student), output(teacher), head, softening)


def output(params: torch.Tensor) -> PolicyOutput:
    """An answer whose value and layer `[B, 5]` follow from its row `[B, P]`."""
    mixing = torch.randn(params.shape[1], 6, generator=torch.Generator().manual_seed(9))
    mixed = (params.clamp(-1e3, 1e3) @ mixing).tanh()
    return PolicyOutput(params, mixed[:, 0], {LAYER: mixed[:, 1:]})


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


@every_head
def test_cross_entropy_prefers_the_greedy_action_of_the_teacher(head: ActionHead) -> None:
    teacher = rows(head, seed=2)
    sure = teacher.clone()
    sure[:, : head.spec.num_acting] *= 1 if head.spec.is_gaussian else 20
    assert (loss_of("ce", sure, teacher, head) < loss_of("ce", rows(head, seed=3), teacher, head)).all()


def test_cross_entropy_is_that_of_torch_at_temperature_one() -> None:
    head, student, teacher = HEADS["categorical"], rows(HEADS["categorical"], seed=1), rows(HEADS["categorical"])
    expected = functional.cross_entropy(student, teacher.argmax(-1), reduction="none")
    assert torch.allclose(loss_of("ce", student, teacher, head, Softening(5.0)), expected)


def test_forward_kl_is_the_textbook_sum_with_the_square_of_the_temperature() -> None:
    head, student, teacher = HEADS["categorical"], rows(HEADS["categorical"], seed=1), rows(HEADS["categorical"])
    p, q = (teacher / 2).softmax(-1), (student / 2).softmax(-1)
    expected = 4 * (p * (p.log() - q.log())).sum(-1)
    assert torch.allclose(loss_of("kl", student, teacher, head, Softening(2.0)), expected, atol=1e-6)
    torchs = 4 * functional.kl_div((student / 2).log_softmax(-1), p, reduction="none").sum(-1)
    assert torch.allclose(loss_of("kl", student, teacher, head, Softening(2.0)), torchs, atol=1e-6)


def test_rusu_softens_the_teacher_alone_and_has_no_factor() -> None:
    head, student, teacher = HEADS["categorical"], rows(HEADS["categorical"], seed=1), rows(HEADS["categorical"])
    expected = kl_divergence(head.distribution(teacher / 0.01), head.distribution(student))
    assert torch.allclose(loss_of("kl", student, teacher, head, Softening(0.01, "rusu")), expected)


def test_reverse_kl_swaps_the_sides() -> None:
    head, student, teacher = HEADS["bernoulli"], rows(HEADS["bernoulli"], seed=1), rows(HEADS["bernoulli"])
    assert torch.allclose(loss_of("reverse_kl", student, teacher, head), loss_of("kl", teacher, student, head))
    assert not torch.allclose(loss_of("reverse_kl", student, teacher, head), loss_of("kl", student, teacher, head))


@every_head
def test_jensen_shannon_is_symmetric(head: ActionHead) -> None:
    a, b = rows(head, seed=1), rows(head, seed=2)
    assert torch.allclose(loss_of("js", a, b, head), loss_of("js", b, a, head), atol=1e-5)


@pytest.mark.parametrize(
    ("kind", "parts"), [("categorical", 1), ("multi_categorical", 2), ("bernoulli", 3)]
)  # fmt: skip
def test_jensen_shannon_of_discrete_actions_is_bounded_by_log_two_a_part(kind: str, parts: int) -> None:
    head = HEADS[kind]
    value = loss_of("js", rows(head, seed=1, scale=1e3), rows(head, seed=2, scale=1e3), head)
    assert value.max() <= parts * np.log(2) + 1e-5
    assert value.max() > 0.5 * np.log(2)


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


def test_the_mse_of_means_leaves_the_student_free_beyond_a_bound_that_the_teacher_passes() -> None:
    head = HEADS["diag_gaussian"]
    teacher = torch.tensor([[2.0, 0.0, 0.0, 0.0]])
    beyond, inside = torch.tensor([[7.0, 0.0, 0.0, 0.0]]), torch.tensor([[0.0, 0.0, 0.0, 0.0]])
    assert float(loss_of("mse", beyond, teacher, head)) == 0
    assert float(loss_of("mse", inside, teacher, head)) == pytest.approx(0.5)


@pytest.mark.parametrize("kind", ["categorical", "multi_categorical", "bernoulli"])
def test_ranking_and_intuition_vanish_at_the_teacher_and_nowhere_near_it(kind: str) -> None:
    head, teacher = HEADS[kind], rows(HEADS[kind], seed=2)
    for name in LISTED:
        assert loss_of(name, teacher, teacher, head).abs().max() < 1e-6, name
        assert loss_of(name, teacher + rows(head, seed=3), teacher, head).min() > 1e-4, name


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


def test_intuition_weighs_states_by_the_teachers_decision_gap() -> None:
    head = HEADS["categorical"]
    teacher = torch.tensor([[4.0, 0.0, 0.0, 0.0], [0.1, 0.0, 0.0, 0.0]])
    student = torch.zeros(2, 4, requires_grad=True)
    layer = {LAYER: torch.ones(2, 3)}
    answer = PolicyOutput(student, features=layer)
    plugins.load("losses", "intuition").loss(
        answer, PolicyOutput(teacher, features=layer), head, Softening()
    ).sum().backward()
    ranked = torch.zeros(2, 4, requires_grad=True)
    loss_of("ranking", ranked, teacher, head).sum().backward()
    weights = (student.grad / ranked.grad)[:, 0]
    p = teacher.softmax(-1)
    gap = p[:, 0] - p[:, 1]
    assert torch.allclose(weights, gap / gap.mean(), rtol=1e-4)


def test_relation_is_the_similarity_preserving_loss_and_needs_no_equal_widths() -> None:
    generator = torch.Generator().manual_seed(0)
    student, teacher = torch.randn(6, 3, generator=generator), torch.randn(6, 9, generator=generator)
    rows_of = [functional.normalize(x @ x.T, dim=-1) for x in (student, teacher)]
    answers = [PolicyOutput(torch.zeros(6, 4), features={LAYER: x}) for x in (student, teacher)]
    found = plugins.load("losses", "relation").loss(*answers, HEADS["categorical"], Softening())
    assert float(found.mean() / 6) == pytest.approx(float((rows_of[0] - rows_of[1]).square().sum() / 36), rel=1e-5)
    turned = PolicyOutput(torch.zeros(6, 4), features={LAYER: 7 * teacher.flip(-1)})
    same = plugins.load("losses", "relation").loss(turned, answers[1], HEADS["categorical"], Softening())
    assert same.abs().max() < 1e-6


@pytest.mark.parametrize("name", LISTED)
@pytest.mark.parametrize("kind", ["diag_gaussian", "squashed_gaussian"])
def test_losses_of_listed_actions_refuse_continuous_ones_and_name_what_fits(name: str, kind: str) -> None:
    with pytest.raises(KDError, match=f"a {kind} head has none; what fits: mse"):
        loss_of(name, rows(HEADS[kind]), rows(HEADS[kind], seed=1), HEADS[kind])
