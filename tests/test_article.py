"""Where the article's text errs: what it prints, what is right, and that ours is the right one (docs/article.md)."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from samples import HEADS, ROOT, make_student
from torch.nn import functional

from kd_agent import plugins
from kd_agent.learners.gradient import fit
from kd_agent.losses import Objective
from kd_agent.networks.base import PolicyOutput
from kd_agent.networks.distributions import Softening
from kd_agent.rollouts import Rollout

HEAD = HEADS["categorical"]
LOGITS = torch.tensor([3.0, 1.0, 0.0, -1.0])


def entropy(p: torch.Tensor) -> float:
    return float(-(p * p.log()).sum())


def test_section_3_2_powers_of_probabilities_are_no_distribution_and_sharpen() -> None:
    printed = LOGITS.softmax(-1) ** 2.0
    assert float(printed.sum()) == pytest.approx(0.705, abs=5e-4)
    assert entropy(printed / printed.sum()) == pytest.approx(0.110, abs=5e-4)
    ours = HEAD.soften(LOGITS[None], 2.0)[0].softmax(-1)
    assert float(ours.sum()) == pytest.approx(1)
    assert entropy(ours) == pytest.approx(1.110, abs=5e-4)
    right = LOGITS.softmax(-1) ** (1 / 2.0)
    torch.testing.assert_close(ours, right / right.sum())


def gradient_size(temperature: float, factor: float) -> float:
    teacher = 2 * torch.randn(512, 4, generator=torch.Generator().manual_seed(0))
    student = torch.zeros(512, 4, requires_grad=True)
    p, log_q = (teacher / temperature).softmax(-1), (student / temperature).log_softmax(-1)
    (factor * functional.kl_div(log_q, p, reduction="none").sum()).backward()
    return float(student.grad.abs().sum(-1).mean())


def test_section_4_2_without_the_square_of_the_temperature_the_soft_gradient_dies() -> None:
    printed = [gradient_size(t, 1.0) for t in (1.0, 2.0, 4.0, 8.0)]
    assert all(later < 0.4 * earlier for earlier, later in itertools.pairwise(printed))

    def ours(temperature: float) -> float:
        teacher = 2 * torch.randn(512, 4, generator=torch.Generator().manual_seed(0))
        student = torch.zeros(512, 4, requires_grad=True)
        answer = PolicyOutput(student), PolicyOutput(teacher)
        plugins.load("losses", "kl").loss(*answer, HEAD, Softening(temperature)).sum().backward()
        return float(student.grad.abs().sum(-1).mean())

    for t in (1.0, 2.0, 4.0, 8.0):
        assert ours(t) == pytest.approx(gradient_size(t, t * t), rel=1e-4)
    assert 0.5 < ours(8.0) / ours(2.0) < 2


def test_section_6_2_a_kl_that_is_fed_probabilities_prefers_a_wrong_student_to_the_teacher() -> None:
    p, certain = LOGITS.softmax(-1), torch.tensor([1.0, 0.0, 0.0, 0.0])
    printed = [float(functional.kl_div(q, p, reduction="sum")) for q in (p, certain)]
    assert printed == pytest.approx([-1.300, -1.426], abs=5e-4)
    rows = LOGITS[None], torch.tensor([[40.0, 0.0, 0.0, 0.0]])
    ours = [
        float(plugins.load("losses", "kl").loss(PolicyOutput(q), PolicyOutput(LOGITS[None]), HEAD, Softening()))
        for q in rows
    ]
    assert ours[0] == pytest.approx(0, abs=1e-6)
    assert ours[1] > 1


def test_section_6_2_cross_entropy_on_probabilities_has_a_floor_and_ours_has_none() -> None:
    label = torch.tensor([0])
    printed = functional.cross_entropy(torch.tensor([[1.0, 0.0, 0.0, 0.0]]), label)
    assert float(printed) == pytest.approx(0.744, abs=5e-4)
    student, teacher = torch.tensor([[40.0, 0.0, 0.0, 0.0]]), torch.tensor([[1.0, 0.0, 0.0, 0.0]])
    ours = plugins.load("losses", "ce").loss(PolicyOutput(student), PolicyOutput(teacher), HEAD, Softening())
    assert float(ours) < 1e-6


def test_section_6_2_linear_layers_without_an_activation_are_one_linear_map_and_a_student_is_not() -> None:
    x = {"obs": torch.randn(64, 4, generator=torch.Generator().manual_seed(0))}
    design = torch.cat([x["obs"], torch.ones(64, 1)], dim=-1)

    def unexplained(outputs: torch.Tensor) -> float:
        return float((outputs - design @ torch.linalg.lstsq(design, outputs).solution).abs().max())

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        printed = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Linear(8, 4))(x["obs"]).detach()
    assert unexplained(printed) < 1e-4
    assert unexplained(make_student(HEAD, hidden=(8,))(x).params.detach()) > 1e-2


def test_section_3_3_l2_makes_weights_smaller_and_not_fewer() -> None:
    obs = np.random.default_rng(0).uniform(-1, 1, (50, 4, 4)).astype(np.float32)
    one = np.ones((50, 4), np.float32)
    rollout = Rollout({"obs": obs}, obs, one.astype(np.int8), one, one > 0, one)
    students = []
    for l2 in (0.0, 1.0):
        students.append(make_student(HEAD))
        fit(students[-1], [rollout], Objective({"kl": 1.0}), steps=400, learning_rate=1e-2, l2=l2)
    plain, decayed = students
    assert plain.graph().num_parameters == decayed.graph().num_parameters
    sizes = [float(student.layers[0].weight.detach().norm()) for student in (plain, decayed)]
    assert sizes[1] < 0.7 * sizes[0]


def test_the_page_names_modules_commands_and_tests_that_exist() -> None:
    text = (ROOT / "docs" / "article.md").read_text()
    named = {word.strip("`,;.()|") for word in text.split() if "/" in word and word.strip("`,;.()|").endswith(".py")}
    assert len(named) > 20
    missing = [name for name in named if not Path(ROOT, name).is_file()]
    assert missing == []
