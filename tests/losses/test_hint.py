"""Hint: the distance of two layers, one of them behind a learnt projector."""

import torch
from samples import HEADS

from kd_agent import plugins
from kd_agent.losses import BoundObjective, Objective
from kd_agent.networks.base import LAYER, PolicyOutput
from kd_agent.networks.distributions import Softening


def answer(width: int, seed: int, name: str = LAYER) -> PolicyOutput:
    features = torch.randn(6, width, generator=torch.Generator().manual_seed(seed))
    return PolicyOutput(torch.zeros(6, 4), features={name: features})


def test_it_is_the_mean_squared_error_over_the_features_of_each_state() -> None:
    student, teacher = answer(3, 0), answer(3, 1)
    found = plugins.load("losses", "hint").loss(student, teacher, HEADS["categorical"], Softening())
    difference = student.features[LAYER] - teacher.features[LAYER]
    assert torch.allclose(found, (difference**2).sum(-1) / 3)


def test_its_projector_is_as_wide_as_the_teachers_layer_and_learns() -> None:
    student, teacher = answer(3, 0, "hidden.0"), answer(7, 1)
    objective = BoundObjective(Objective({"hint": 1.0}), HEADS["categorical"], student, teacher, None)
    assert objective.projectors["hint"].weight.shape == (7, 3)
    objective(student, teacher).sum().backward()
    assert objective.projectors["hint"].weight.grad.abs().sum() > 0
