"""The objective: a weighted sum of losses, bound to one student and one teacher."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from loss_answers import output
from samples import HEADS, make_student, rows

from kd_agent import KDError
from kd_agent.losses import BoundObjective, Objective, default_loss, needs
from kd_agent.networks.base import LAYER, PolicyOutput


def bound(weights: dict[str, float], output: PolicyOutput, target: PolicyOutput) -> BoundObjective:
    return BoundObjective(Objective(weights), HEADS["categorical"], output, target, None)


def test_an_objective_is_the_weighted_sum_of_its_losses() -> None:
    head = HEADS["categorical"]
    batch = {"obs": torch.randn(6, 4, generator=torch.Generator().manual_seed(0))}
    output, target = make_student(head)(batch), make_student(head, seed=3)(batch)
    one, other = (bound({name: 1.0}, output, target)(output, target) for name in ("kl", "ce"))
    both = bound({"kl": 0.5, "ce": 2.0, "mse": 0.0}, output, target)(output, target)
    assert torch.allclose(both, 0.5 * one + 2 * other)


def test_an_objective_of_nothing_or_of_an_unknown_loss_is_refused() -> None:
    with pytest.raises(KDError, match="every weight"):
        Objective({"kl": 0.0}).plugins()
    with pytest.raises(KDError, match="did you mean 'kl'"):
        Objective({"lk": 1.0}).plugins()


@pytest.mark.parametrize(
    ("loss", "kind", "message"),
    [
        ("value", "categorical", "needs the teacher's critic"),
        ("hint", "categorical", "needs a layer of the teacher"),
        ("ranking", "diag_gaussian", "what fits: mse"),
    ],
)
def test_losses_that_a_teacher_or_its_head_cannot_serve_are_refused_before_any_fit(
    loss: str, kind: str, message: str
) -> None:
    head = HEADS[kind]
    answer = PolicyOutput(torch.zeros(1, head.num_params))
    with pytest.raises(KDError, match=message):
        Objective({loss: 1.0}).check(answer, head)
    Objective({"kl": 1.0}).check(answer, head)


def test_what_losses_need_is_known_before_any_is_computed() -> None:
    assert needs(["kl", "mse"]) == set()
    assert needs(["kl", "hint", "value"]) == {"layer", "value"}


@pytest.mark.parametrize("kind", HEADS)
def test_the_default_is_squared_error_for_gaussians_and_kl_for_the_others(kind: str) -> None:
    teacher: Any = SimpleNamespace(head=HEADS[kind])
    assert default_loss(teacher) == ({"mse": 1.0} if "gaussian" in kind else {"kl": 1.0})


def test_values_are_compared_in_standard_deviations_of_the_teachers() -> None:
    head, values = HEADS["categorical"], np.float32([10, 14, 18, 22])
    objective = BoundObjective(Objective({"value": 1.0}), head, output(rows(head, 4)), output(rows(head, 4)), values)
    target = PolicyOutput(torch.zeros(4, 4), torch.from_numpy(values))
    normal = torch.from_numpy((values - values.mean()) / values.std())
    assert objective(PolicyOutput(torch.zeros(4, 4), normal), target).abs().max() < 1e-10
    assert torch.equal(target.value, torch.from_numpy(values))


def test_a_critic_that_says_the_same_of_every_state_is_no_division_by_zero() -> None:
    head, values = HEADS["categorical"], np.full(4, 3, np.float32)
    objective = BoundObjective(Objective({"value": 1.0}), head, output(rows(head, 4)), output(rows(head, 4)), values)
    answer = PolicyOutput(torch.zeros(4, 4), torch.zeros(4))
    assert objective(answer, PolicyOutput(torch.zeros(4, 4), torch.from_numpy(values))).tolist() == [0] * 4


def test_the_students_layer_is_the_last_one_or_the_one_that_is_named() -> None:
    head = HEADS["categorical"]
    answer = PolicyOutput(torch.zeros(2, 4), features={"hidden.0": torch.zeros(2, 6), "hidden.1": torch.zeros(2, 3)})
    target = PolicyOutput(torch.zeros(2, 4), features={LAYER: torch.zeros(2, 9)})
    widths = {}
    for name in (None, "hidden.0", "hidden.1"):
        bound_to = BoundObjective(Objective({"hint": 1.0}, student_layer=name), head, answer, target, None)
        widths[name] = bound_to.projectors["hint"].in_features
    assert widths == {None: 3, "hidden.0": 6, "hidden.1": 3}


def test_a_student_without_hidden_layers_cannot_be_compared_by_one() -> None:
    head = HEADS["categorical"]
    target = output(rows(head))
    with pytest.raises(KDError, match="no layer whose features"):
        BoundObjective(Objective({"relation": 1.0}), head, PolicyOutput(rows(head)), target, None)
