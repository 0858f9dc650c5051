"""Product: the normalised geometric mean."""

import pytest
import torch
from rule_answers import DISCRETE, GAUSSIAN, WEIGHTS, answers, combined, gaussian, part_probabilities
from samples import HEADS

from kd_agent.networks.base import PolicyOutput


@pytest.mark.parametrize("kind", DISCRETE)
def test_a_product_is_the_normalised_geometric_mean(kind: str) -> None:
    head = HEADS[kind]
    outputs = answers(head)
    parts = zip(*(part_probabilities(head, output.params) for output in outputs), strict=True)
    raw = [torch.stack([p**w for w, p in zip(WEIGHTS, part, strict=True)]).prod(0) for part in parts]
    for found, expected in zip(part_probabilities(head, combined("product", outputs, head)), raw, strict=True):
        torch.testing.assert_close(found, expected / expected.sum(-1, keepdim=True))


@pytest.mark.parametrize("kind", GAUSSIAN)
def test_a_product_of_gaussians_is_their_geometric_mean_on_a_grid(kind: str) -> None:
    head = HEADS[kind]
    outputs = answers(head)
    found = gaussian(combined("product", outputs, head))
    grid = torch.linspace(-60, 60, 200_001, dtype=torch.float64)[:, None, None]
    logs = [gaussian(output.params.double()).log_prob(grid) for output in outputs]
    density = sum(float(w) * log for w, log in zip(WEIGHTS, logs, strict=True)).softmax(0)
    mean = (density * grid).sum(0)
    torch.testing.assert_close(found.mean.double(), mean, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(found.variance.double(), (density * (grid - mean) ** 2).sum(0), atol=1e-3, rtol=1e-3)


def test_who_excludes_an_action_excludes_it_for_all() -> None:
    head = HEADS["categorical"]
    sure = torch.tensor([[0.0, -1e4, 0.0, -1e4]])
    torn = torch.tensor([[-1e4, 0.0, 0.0, -1e4]])
    found = combined("product", [PolicyOutput(sure), PolicyOutput(torn)], head, torch.tensor([0.5, 0.5]))
    torch.testing.assert_close(found.softmax(-1), torch.tensor([[0.0, 0.0, 1.0, 0.0]]))
