"""Jensen-Shannon divergence: symmetric, and bounded for discrete actions."""

import numpy as np
import pytest
import torch
from loss_answers import loss_of
from samples import HEADS, rows

from kd_agent.networks.distributions import ActionHead

every_head = pytest.mark.parametrize("head", HEADS.values(), ids=HEADS)


@every_head
def test_jensen_shannon_is_symmetric(head: ActionHead) -> None:
    a, b = rows(head, seed=1), rows(head, seed=2)
    assert torch.allclose(loss_of("js", a, b, head), loss_of("js", b, a, head), atol=1e-5)


@pytest.mark.parametrize(("kind", "parts"), [("categorical", 1), ("multi_categorical", 2), ("bernoulli", 3)])
def test_jensen_shannon_of_discrete_actions_is_bounded_by_log_two_a_part(kind: str, parts: int) -> None:
    head = HEADS[kind]
    value = loss_of("js", rows(head, seed=1, scale=1e3), rows(head, seed=2, scale=1e3), head)
    assert value.max() <= parts * np.log(2) + 1e-5
    assert value.max() > 0.5 * np.log(2)


def test_jensen_shannon_of_two_coins_is_the_textbooks_sum() -> None:
    head = HEADS["bernoulli"]
    student, teacher = rows(head, seed=1), rows(head, seed=2)
    q, p = student.sigmoid(), teacher.sigmoid()

    def entropy(x: torch.Tensor) -> torch.Tensor:
        return -(x * x.log() + (1 - x) * (1 - x).log()).sum(-1)

    expected = entropy((p + q) / 2) - (entropy(p) + entropy(q)) / 2
    assert torch.allclose(loss_of("js", student, teacher, head), expected, atol=1e-6)


def test_the_geometric_divergence_of_equal_noises_is_an_eighth_of_the_squared_distance() -> None:
    head = HEADS["diag_gaussian"]
    student, teacher = torch.tensor([[1.0, 0.0, 0.0, 0.0]]), torch.tensor([[-1.0, 0.0, 0.0, 0.0]])
    assert float(loss_of("js", student, teacher, head)) == pytest.approx(2.0**2 / 8)
