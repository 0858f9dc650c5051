"""Intuition: ranking and relation, most where the teacher's decision is clear."""

import torch
from loss_answers import loss_of, output
from samples import HEADS, rows

from kd_agent import plugins
from kd_agent.networks.base import LAYER, PolicyOutput
from kd_agent.networks.distributions import Softening


def test_intuition_weighs_states_by_the_teachers_decision_gap() -> None:
    head = HEADS["categorical"]
    teacher = torch.tensor([[4.0, 0.0, 0.0, 0.0], [0.1, 0.0, 0.0, 0.0]])
    student = torch.zeros(2, 4, requires_grad=True)
    layer = {LAYER: torch.ones(2, 3)}
    answer = PolicyOutput(student, features=layer)
    plugins.load("losses", "intuition").loss(
        answer, PolicyOutput(teacher, features=layer), head, Softening()
    ).sum().backward()
    ranked = torch.zeros(2, 4, requires_grad=True)
    loss_of("ranking", ranked, teacher, head).sum().backward()
    weights = (student.grad / ranked.grad)[:, 0]
    p = teacher.softmax(-1)
    gap = p[:, 0] - p[:, 1]
    assert torch.allclose(weights, gap / gap.mean(), rtol=1e-4)


def test_intuition_is_ranking_and_relation_where_all_decisions_are_as_clear() -> None:
    head = HEADS["categorical"]
    teacher = torch.stack([rows(head, 1, seed=2)[0].roll(k) for k in range(4)])
    student = rows(head, 4, seed=1)
    parts = loss_of("ranking", student, teacher, head) + loss_of("relation", student, teacher, head)
    assert torch.allclose(loss_of("intuition", student, teacher, head), parts, rtol=1e-5)


def test_a_teacher_that_prefers_nothing_teaches_nothing() -> None:
    head = HEADS["categorical"]
    undecided = PolicyOutput(torch.zeros(3, 4), features=output(rows(head, 3)).features)
    found = plugins.load("losses", "intuition").loss(output(rows(head, 3, seed=1)), undecided, head, Softening())
    assert LAYER in undecided.features
    assert (found == 0).all()
