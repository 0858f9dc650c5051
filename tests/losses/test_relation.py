"""Relation: what looks alike to the teacher looks alike to the student."""

import pytest
import torch
from samples import HEADS
from torch.nn import functional

from kd_agent import plugins
from kd_agent.networks.base import LAYER, PolicyOutput
from kd_agent.networks.distributions import Softening


def test_relation_is_the_similarity_preserving_loss_and_needs_no_equal_widths() -> None:
    generator = torch.Generator().manual_seed(0)
    student, teacher = torch.randn(6, 3, generator=generator), torch.randn(6, 9, generator=generator)
    rows_of = [functional.normalize(x @ x.T, dim=-1) for x in (student, teacher)]
    answers = [PolicyOutput(torch.zeros(6, 4), features={LAYER: x}) for x in (student, teacher)]
    found = plugins.load("losses", "relation").loss(*answers, HEADS["categorical"], Softening())
    assert float(found.mean() / 6) == pytest.approx(float((rows_of[0] - rows_of[1]).square().sum() / 36), rel=1e-5)
    turned = PolicyOutput(torch.zeros(6, 4), features={LAYER: 7 * teacher.flip(-1)})
    same = plugins.load("losses", "relation").loss(turned, answers[1], HEADS["categorical"], Softening())
    assert same.abs().max() < 1e-6


def test_a_layer_that_says_nothing_has_a_finite_gradient() -> None:
    features = torch.zeros(3, 5, requires_grad=True)
    student = PolicyOutput(torch.zeros(3, 4), features={LAYER: features})
    teacher = PolicyOutput(torch.zeros(3, 4), features={LAYER: torch.eye(3)})
    value = plugins.load("losses", "relation").loss(student, teacher, HEADS["categorical"], Softening())
    value.sum().backward()
    assert torch.isfinite(value).all()
    assert torch.isfinite(features.grad).all()
