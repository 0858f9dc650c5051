"""Cross-entropy on the teacher's greedy action."""

import gymnasium as gym
import pytest
import torch
from loss_answers import loss_of
from samples import HEADS, rows
from torch.nn import functional

from kd_agent.networks.distributions import ActionHead, Softening, head_for

every_head = pytest.mark.parametrize("head", HEADS.values(), ids=HEADS)


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


@pytest.mark.parametrize(
    ("space", "plain"),
    [
        (gym.spaces.Discrete(4, start=5), "categorical"),
        (gym.spaces.MultiDiscrete([3, 4], start=[2, -1]), "multi_categorical"),
    ],
)
def test_labels_that_do_not_start_at_zero_cost_the_same(space: gym.Space, plain: str) -> None:
    student, teacher = rows(HEADS[plain], seed=1), rows(HEADS[plain], seed=2)
    assert torch.equal(loss_of("ce", student, teacher, head_for(space)), loss_of("ce", student, teacher, HEADS[plain]))


@pytest.mark.parametrize("kind", ["diag_gaussian", "squashed_gaussian"])
def test_the_cost_of_a_gaussian_is_bounded_below_at_the_mean_and_grows_with_the_distance(kind: str) -> None:
    teacher = torch.tensor([[0.3, -0.2, 0.0, 0.0]]).expand(3, -1)
    student = torch.tensor([[0.3, -0.2, -1.0, -1.0], [0.8, -0.2, -1.0, -1.0], [0.3, -0.2, -99.0, -99.0]])
    exact, off, certain = loss_of("ce", student, teacher, HEADS[kind]).tolist()
    assert exact < off
    assert exact - off == pytest.approx(-0.5 * 0.5**2 * float(torch.tensor(2.0).exp()), rel=1e-5)
    assert -100 < certain < exact
