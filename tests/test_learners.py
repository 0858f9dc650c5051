"""Fitting a student to labelled states."""

from typing import Any

import numpy as np
import pytest
import torch
from samples import HEADS, Agent, make_student

from kd_agent import KDError, load_teacher
from kd_agent.learners.gradient import Objective, fit
from kd_agent.policy import Student, Teacher
from kd_agent.rollouts import Rollout

KL = Objective({"kl": 1.0})


@pytest.fixture
def teacher(agents: dict[str, Agent]) -> Teacher:
    return load_teacher(str(agents["Discrete"].path))


def labelled(teacher: Teacher, steps: int = 50, envs: int = 4, weight: Any = 1.0) -> Rollout:
    """Random states with the teacher's labels."""
    obs = np.random.default_rng(0).uniform(-1, 1, (steps, envs, 4)).astype(np.float32)
    params = teacher({"obs": obs.reshape(-1, 4)}).params.numpy().reshape(steps, envs, -1)
    blank = np.zeros((steps, envs), np.float32)
    starts = np.zeros((steps, envs), bool)
    starts[0] = True
    return Rollout({"obs": obs}, params, blank.astype(np.int8), blank, starts, np.full_like(blank, weight))


def weights_of(student: Student) -> dict[str, np.ndarray]:
    return {name: array.copy() for name, array in student.arrays().items()}


def same(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> bool:
    return all(np.array_equal(one[name], other[name]) for name in one)


def test_update_changes_student_but_not_teacher(teacher: Teacher) -> None:
    student, rollout = make_student(teacher.head), labelled(teacher)
    before, labels = weights_of(student), rollout.params.copy()
    programs = [t.copy() for op in teacher.graph.ops for t in op.tensors.values()]  # type: ignore[attr-defined]
    fit(student, [rollout], KL, steps=3)
    assert not any(np.array_equal(before[name], array) for name, array in weights_of(student).items() if array.size)
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
        norms.append(sum(float(p.square().sum()) for name, p in student.named_parameters() if name.endswith("weight")))
    assert norms[1] < 0.5 * norms[0]


def test_states_without_weight_teach_nothing(teacher: Teacher) -> None:
    rollout = labelled(teacher)
    wrong = Rollout(rollout.obs, -rollout.params, rollout.driver, rollout.reward, rollout.episode_start,
                    np.zeros_like(rollout.weight))  # fmt: skip
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


def test_an_objective_is_the_weighted_sum_of_its_losses() -> None:
    head = HEADS["categorical"]
    student = make_student(head)
    batch = {"obs": torch.randn(6, 4, generator=torch.Generator().manual_seed(0))}
    output, target = student(batch), make_student(head, seed=3)(batch)
    one, other = (Objective({name: 1.0}).function()(student, output, target) for name in ("kl", "ce"))
    both = Objective({"kl": 0.5, "ce": 2.0, "mse": 0.0}).function()(student, output, target)
    assert torch.allclose(both, 0.5 * one + 2 * other)


def test_an_objective_of_nothing_or_of_an_unknown_loss_is_refused() -> None:
    with pytest.raises(KDError, match="every weight"):
        Objective({"kl": 0.0}).function()
    with pytest.raises(KDError, match="did you mean 'kl'"):
        Objective({"lk": 1.0}).function()
