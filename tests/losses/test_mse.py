"""Squared error of the acting parameters: what costs nothing, and in which units."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from loss_answers import loss_of
from samples import HEADS, rows

from kd_agent.networks.distributions import Softening, head_for


def test_the_mse_of_means_leaves_the_student_free_beyond_a_bound_that_the_teacher_passes() -> None:
    head = HEADS["diag_gaussian"]
    teacher = torch.tensor([[2.0, 0.0, 0.0, 0.0]])
    beyond, inside = torch.tensor([[7.0, 0.0, 0.0, 0.0]]), torch.tensor([[0.0, 0.0, 0.0, 0.0]])
    assert float(loss_of("mse", beyond, teacher, head)) == 0
    assert float(loss_of("mse", inside, teacher, head)) == pytest.approx(0.5)


def test_means_are_compared_in_half_widths_of_the_box_and_in_plain_units_where_it_is_unbounded() -> None:
    student, teacher = torch.tensor([[0.0, 0.5, 0.0, 0.0]]), torch.tensor([[0.0, 1.5, 0.0, 0.0]])
    for high, expected in ((2.0, (1 / 2) ** 2), (4.0, (1 / 4) ** 2), (np.inf, 1.0)):
        space = gym.spaces.Box(np.float32([-1, -high]), np.float32([1, high]))
        assert float(loss_of("mse", student, teacher, head_for(space))) == pytest.approx(expected / 2)


def test_squashed_means_are_compared_behind_tanh() -> None:
    student, teacher = torch.tensor([[9.0, 0.0, 0.0, 0.0]]), torch.tensor([[-9.0, 0.0, 0.0, 0.0]])
    assert float(loss_of("mse", student, teacher, HEADS["squashed_gaussian"])) == pytest.approx(2.0**2 / 2)


def test_a_constant_added_to_bernoulli_logits_acts_and_costs() -> None:
    head, teacher = HEADS["bernoulli"], rows(HEADS["bernoulli"])
    assert torch.allclose(loss_of("mse", teacher + 2, teacher, head), torch.tensor(4.0))


def test_no_temperature_changes_it() -> None:
    head, student, teacher = HEADS["categorical"], rows(HEADS["categorical"], seed=1), rows(HEADS["categorical"])
    plain = loss_of("mse", student, teacher, head)
    for softening in (Softening(4.0), Softening(4.0, "rusu")):
        assert torch.equal(loss_of("mse", student, teacher, head, softening), plain)
