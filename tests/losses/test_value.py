"""Value: half the squared error of two critics."""

import pytest
import torch
from samples import HEADS

from kd_agent import KDError, plugins
from kd_agent.networks.base import PolicyOutput
from kd_agent.networks.distributions import Softening


def value_loss(student: list[float] | None, teacher: list[float] | None) -> torch.Tensor:
    answers = []
    for values in (student, teacher):
        answers.append(PolicyOutput(torch.zeros(2, 4), None if values is None else torch.tensor(values)))
    return plugins.load("losses", "value").loss(*answers, HEADS["categorical"], Softening())


def test_it_is_half_the_squared_error_of_each_state() -> None:
    assert value_loss([1.0, -1.0], [4.0, -1.0]).tolist() == [4.5, 0.0]


@pytest.mark.parametrize(("student", "teacher"), [(None, [0.0, 0.0]), ([0.0, 0.0], None)])
def test_a_missing_critic_is_named(student: list[float] | None, teacher: list[float] | None) -> None:
    with pytest.raises(KDError, match="needs a critic"):
        value_loss(student, teacher)
