"""Forward KL: the textbook's sum, and both conventions of the temperature."""

import torch
from loss_answers import loss_of
from samples import HEADS, rows
from torch.distributions import kl_divergence
from torch.nn import functional

from kd_agent.networks.distributions import Softening


def test_forward_kl_is_the_textbook_sum_with_the_square_of_the_temperature() -> None:
    head, student, teacher = HEADS["categorical"], rows(HEADS["categorical"], seed=1), rows(HEADS["categorical"])
    p, q = (teacher / 2).softmax(-1), (student / 2).softmax(-1)
    expected = 4 * (p * (p.log() - q.log())).sum(-1)
    assert torch.allclose(loss_of("kl", student, teacher, head, Softening(2.0)), expected, atol=1e-6)
    torchs = 4 * functional.kl_div((student / 2).log_softmax(-1), p, reduction="none").sum(-1)
    assert torch.allclose(loss_of("kl", student, teacher, head, Softening(2.0)), torchs, atol=1e-6)


def test_rusu_softens_the_teacher_alone_and_has_no_factor() -> None:
    head, student, teacher = HEADS["categorical"], rows(HEADS["categorical"], seed=1), rows(HEADS["categorical"])
    expected = kl_divergence(head.distribution(teacher / 0.01), head.distribution(student))
    assert torch.allclose(loss_of("kl", student, teacher, head, Softening(0.01, "rusu")), expected)
