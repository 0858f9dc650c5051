"""Reverse KL: the sides of the forward one, swapped."""

import torch
from loss_answers import loss_of
from samples import HEADS, rows


def test_reverse_kl_swaps_the_sides() -> None:
    head, student, teacher = HEADS["bernoulli"], rows(HEADS["bernoulli"], seed=1), rows(HEADS["bernoulli"])
    assert torch.allclose(loss_of("reverse_kl", student, teacher, head), loss_of("kl", teacher, student, head))
    assert not torch.allclose(loss_of("reverse_kl", student, teacher, head), loss_of("kl", student, teacher, head))
