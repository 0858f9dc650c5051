"""Mixture: probabilities and densities are averaged."""

import pytest
import torch
import torch.distributions as td
from rule_answers import DISCRETE, GAUSSIAN, WEIGHTS, answers, combined, gaussian, part_probabilities
from samples import HEADS

from kd_agent.networks.base import PolicyOutput


@pytest.mark.parametrize("kind", DISCRETE)
def test_a_mixture_is_the_weighted_mean_of_probabilities(kind: str) -> None:
    head = HEADS[kind]
    outputs = answers(head)
    parts = zip(*(part_probabilities(head, output.params) for output in outputs), strict=True)
    wanted = [sum(w * p for w, p in zip(WEIGHTS, part, strict=True)) for part in parts]
    for found, expected in zip(part_probabilities(head, combined("mixture", outputs, head)), wanted, strict=True):
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("kind", GAUSSIAN)
def test_a_mixture_of_gaussians_has_the_mixtures_mean_and_variance(kind: str) -> None:
    head = HEADS[kind]
    outputs = answers(head)
    found = gaussian(combined("mixture", outputs, head))
    normals = gaussian(torch.stack([output.params for output in outputs], 1))
    mixture = td.MixtureSameFamily(td.Categorical(WEIGHTS.expand(7, 3)), td.Independent(normals, 1))
    torch.testing.assert_close(found.mean, mixture.mean)
    torch.testing.assert_close(found.variance, mixture.variance)


def test_who_excludes_an_action_excludes_it_for_nobody_else() -> None:
    head = HEADS["categorical"]
    sure = torch.tensor([[0.0, -1e4, -1e4, -1e4]])
    torn = torch.tensor([[-1e4, 0.0, 0.0, -1e4]])
    found = combined("mixture", [PolicyOutput(sure), PolicyOutput(torn)], head, torch.tensor([0.5, 0.5]))
    torch.testing.assert_close(found.softmax(-1), torch.tensor([[0.5, 0.25, 0.25, 0.0]]))
