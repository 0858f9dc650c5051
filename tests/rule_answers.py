"""What the tests of the rules for several teachers share: three teachers' answers, and rows read by torch alone."""

import torch
import torch.distributions as td
from samples import HEADS, rows

from kd_agent import plugins
from kd_agent.networks.base import PolicyOutput
from kd_agent.networks.distributions import ActionHead

RULES = plugins.names("teachers.combine")
WEIGHTS = torch.tensor([0.2, 0.3, 0.5])
DISCRETE = [name for name, head in HEADS.items() if not head.spec.is_gaussian]
GAUSSIAN = [name for name in HEADS if name not in DISCRETE]


def answers(head: ActionHead, values: list[float] | None = None) -> list[PolicyOutput]:
    """Three teachers' answers to 7 states, no two alike."""
    own_rows = [rows(head, seed=s, scale=1 + s) for s in range(3)]
    if values is None:
        return [PolicyOutput(row) for row in own_rows]
    return [PolicyOutput(row, torch.full((7,), value)) for row, value in zip(own_rows, values, strict=True)]


def combined(rule: str, outputs: list[PolicyOutput], head: ActionHead, weights: torch.Tensor = WEIGHTS) -> torch.Tensor:
    row: torch.Tensor = plugins.load("teachers.combine", rule).combine(outputs, weights, head)
    return row


def part_probabilities(head: ActionHead, row: torch.Tensor) -> list[torch.Tensor]:
    """Probabilities `[7, n]` of each part of a discrete row, from torch alone."""
    if head.kind == "bernoulli":
        return [torch.stack([p, 1 - p], -1) for p in torch.sigmoid(row).unbind(-1)]
    return [part.softmax(-1) for part in row.split(list(head.spec.nvec), -1)]


def gaussian(row: torch.Tensor) -> td.Normal:
    mean, log_std = row.chunk(2, -1)
    return td.Normal(mean, log_std.exp())
