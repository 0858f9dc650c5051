"""Fitting a student to labelled states."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from samples import Agent, make_student

from kd_agent import KDError, load_teacher
from kd_agent.learners.gradient import fit
from kd_agent.losses import Objective
from kd_agent.networks.base import Student, Teacher
from kd_agent.rollouts import Rollout

KL = Objective({"kl": 1.0})


@pytest.fixture
def teacher(agents: dict[str, Agent]) -> Teacher:
    return load_teacher(str(agents["Discrete"].path))


def labelled(teacher: Teacher, steps: int = 50, envs: int = 4, weight: Any = 1.0, layer: str | None = None) -> Rollout:
    """Random states with the teacher's labels."""
    obs = np.random.default_rng(0).uniform(-1, 1, (steps, envs, 4)).astype(np.float32)
    answer = teacher({"obs": obs.reshape(-1, 4)})
    params, value = answer.params.numpy().reshape(steps, envs, -1), answer.value.numpy().reshape(steps, envs)
    kept = answer.layer(layer, "the teacher").numpy().reshape(steps, envs, -1) if layer else None
    blank = np.zeros((steps, envs), np.float32)
    starts = np.zeros((steps, envs), bool)
    starts[0] = True
    driver, weights = blank.astype(np.int8), np.full_like(blank, weight)
    return Rollout({"obs": obs}, params, driver, blank, starts, weights, value, kept)


def weights_of(student: Student) -> dict[str, np.ndarray]:
    return {name: array.copy() for name, array in student.arrays().items()}


def same(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> bool:
    return all(np.array_equal(one[name], other[name]) for name in one)


def test_update_changes_student_but_not_teacher(teacher: Teacher) -> None:
    student, rollout = make_student(teacher.head), labelled(teacher)
    before, labels = weights_of(student), rollout.params.copy()
    programs = [t.copy() for op in teacher.graph.ops for t in op.tensors.values()]  # type: ignore[attr-defined]
    fit(student, [rollout], KL, steps=3)
    after = {name: array for name, array in weights_of(student).items() if array.size and "critic" not in name}
    assert not any(np.array_equal(before[name], array) for name, array in after.items())
    np.testing.assert_array_equal(rollout.params, labels)
    after = [t for op in teacher.graph.ops for t in op.tensors.values()]  # type: ignore[attr-defined]
    assert all(np.array_equal(a, b) for a, b in zip(programs, after, strict=True))
    assert not student.training


def test_fitting_lowers_the_loss(teacher: Teacher) -> None:
    student, rollout = make_student(teacher.head), [labelled(teacher)]
    first = fit(student, rollout, KL, steps=1, learning_rate=1e-9)
    assert fit(student, rollout, KL, steps=300, learning_rate=1e-2) < 0.2 * first


def test_the_same_seed_gives_the_same_weights_and_leaves_torchs_generator_alone(teacher: Teacher) -> None:
    rollout = [labelled(teacher)]

    def fitted(seed: int) -> dict[str, np.ndarray]:
        student = make_student(teacher.head, dropout=0.3)
        fit(student, rollout, KL, steps=20, batch_size=16, seed=seed)
        return weights_of(student)

    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    first = fitted(1)
    assert torch.equal(torch.rand(1), expected)
    assert same(first, fitted(1))
    assert not same(first, fitted(2))


def test_weight_decay_makes_weights_smaller(teacher: Teacher) -> None:
    norms = []
    for l2 in (0.0, 10.0):
        student = make_student(teacher.head)
        fit(student, [labelled(teacher)], KL, steps=200, l2=l2)
        norms.append(
            sum(float(p.detach().square().sum()) for name, p in student.named_parameters() if name.endswith("weight"))
        )
    assert norms[1] < 0.5 * norms[0]


def test_states_without_weight_teach_nothing(teacher: Teacher) -> None:
    rollout = labelled(teacher)
    wrong = replace(rollout, params=-rollout.params, weight=np.zeros_like(rollout.weight))
    student = make_student(teacher.head)
    assert fit(student, [rollout, wrong], KL, steps=400, learning_rate=1e-2, batch_size=64) < 0.05


def test_no_steps_change_nothing(teacher: Teacher) -> None:
    student = make_student(teacher.head)
    before = weights_of(student)
    assert fit(student, [labelled(teacher)], KL, steps=0) == 0
    assert same(before, weights_of(student))


def test_a_loss_that_becomes_nan_is_one_line(teacher: Teacher) -> None:
    student = make_student(teacher.head)
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.fill_(torch.nan)
    with pytest.raises(KDError, match="smaller --learning-rate"):
        fit(student, [labelled(teacher)], KL, steps=5)


def features_of(student: Student, rollout: Rollout) -> tuple[torch.Tensor, torch.Tensor]:
    output = student({"obs": torch.from_numpy(rollout.obs["obs"].reshape(-1, 4))})
    return output.features["hidden.1"].detach(), output.value.detach()


def linear_error(features: torch.Tensor, target: torch.Tensor) -> float:
    """Share of the variance of a layer `[S, F]` that no linear map of the features explains."""
    design = torch.cat([features, torch.ones(len(features), 1)], dim=-1)
    residual = target - design @ torch.linalg.lstsq(design, target).solution
    return float(residual.var(0).sum() / target.var(0).sum())


def test_a_hint_makes_the_teachers_layer_readable_from_the_students(teacher: Teacher) -> None:
    rollout = labelled(teacher, layer=teacher.last_layer)
    target = torch.from_numpy(rollout.layer.reshape(-1, rollout.layer.shape[-1]))
    errors = {}
    for weights in ({"kl": 1.0}, {"kl": 1.0, "hint": 10.0}):
        student = make_student(teacher.head, hidden=(8, 4))
        fit(student, [rollout], Objective(weights), steps=400, learning_rate=1e-2)
        errors[len(weights)] = linear_error(features_of(student, rollout)[0], target)
    assert errors[2] < 0.8 * errors[1]


def test_value_distillation_teaches_the_critic_in_standard_deviations(teacher: Teacher) -> None:
    rollout = labelled(teacher)
    student = make_student(teacher.head)
    fit(student, [rollout], Objective({"kl": 1.0, "value": 1.0}), steps=400, learning_rate=1e-2)
    guess = features_of(student, rollout)[1]
    value = torch.from_numpy(rollout.value.ravel())
    assert torch.corrcoef(torch.stack([guess, value]))[0, 1] > 0.9
    assert float(guess.std()) == pytest.approx(1, abs=0.2)


def test_the_value_loss_leaves_the_program_of_the_student_without_a_critic(teacher: Teacher) -> None:
    student = make_student(teacher.head)
    assert all("critic" not in op.output for op in student.graph().ops)
    assert student.graph().num_parameters == sum(p.numel() for p in student.layers.parameters())


def test_layers_that_do_not_exist_are_named(teacher: Teacher) -> None:
    rollout = labelled(teacher, layer=teacher.last_layer)
    with pytest.raises(KDError, match=r"unknown layer of the student 'hiden.1'; did you mean 'hidden.1'"):
        fit(make_student(teacher.head), [rollout], Objective({"hint": 1.0}, student_layer="hiden.1"), steps=1)
    with pytest.raises(KDError, match="no layer whose features"):
        fit(make_student(teacher.head, hidden=()), [rollout], Objective({"relation": 1.0}), steps=1)
    with pytest.raises(KDError, match="unknown layer of the teacher"):
        labelled(teacher, layer="nonsense")


def test_a_layer_that_no_loss_compares_changes_nothing(teacher: Teacher) -> None:
    losses = [
        fit(make_student(teacher.head), [labelled(teacher)], Objective({"kl": 1.0}, student_layer=layer), steps=5)
        for layer in (None, "hidden.0", "nonsense")
    ]
    assert losses[0] == losses[1] == losses[2]
