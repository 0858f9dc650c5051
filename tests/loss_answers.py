"""Answers of students and teachers, made of rows alone, for whoever tests losses."""

import torch

from kd_agent import plugins
from kd_agent.networks.base import LAYER, PolicyOutput
from kd_agent.networks.distributions import ActionHead, Softening

CONVENTIONS = [Softening(), Softening(3.0), Softening(3.0, "rusu"), Softening(0.5)]
"""Temperatures and conventions that every loss must stand."""
DIVERGENCES = ("kl", "reverse_kl", "js", "mse")
"""Losses of action distributions that are zero where student and teacher agree."""
LISTED = ("ranking", "intuition")
"""Losses that need actions which can be listed."""


def loss_of(
    name: str, student: torch.Tensor, teacher: torch.Tensor, head: ActionHead, softening: Softening = CONVENTIONS[0]
) -> torch.Tensor:
    """A loss `[B]` of two rows `[B, P]`, and of the values and layers that follow from them."""
    return plugins.load("losses", name).loss(output(student), output(teacher), head, softening)


def output(params: torch.Tensor) -> PolicyOutput:
    """An answer whose value and layer `[B, 5]` follow from its row `[B, P]`."""
    mixing = torch.randn(params.shape[1], 6, generator=torch.Generator().manual_seed(9))
    mixed = (params.clamp(-1e3, 1e3) @ mixing).tanh()
    return PolicyOutput(params, mixed[:, 0], {LAYER: mixed[:, 1:]})
