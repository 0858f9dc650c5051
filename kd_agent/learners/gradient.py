"""Fit a student to labelled states by gradient descent."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from kd_agent import plugins
from kd_agent.actions import Softening
from kd_agent.errors import KDError
from kd_agent.head import Array
from kd_agent.policy import PolicyOutput, Student


@dataclass(frozen=True)
class Objective:
    """A weighted sum of losses.

    Attributes:
        weights: Weight of each loss by plug-in name.
        softening: Temperature and convention for the losses that use them.
    """

    weights: Mapping[str, float]
    softening: Softening = field(default_factory=Softening)

    def function(self) -> Callable[[Student, PolicyOutput, PolicyOutput], Tensor]:
        """The sum as a function of (student, its output, the teacher's output), `[B]`."""
        terms = [(weight, plugins.load("losses", name).loss) for name, weight in self.weights.items() if weight]
        if not terms:
            raise KDError("every weight of the loss is 0")

        def objective(student: Student, output: PolicyOutput, target: PolicyOutput) -> Tensor:
            total = torch.zeros(len(output.params), device=output.params.device)
            for weight, loss in terms:
                total = total + weight * loss(output, target, student.head, self.softening)
            return total

        return objective


def fit(
    student: Student,
    observations: Mapping[str, Array],
    params: Array,
    weights: Array,
    objective: Objective,
    *,
    steps: int,
    batch_size: int = 512,
    learning_rate: float = 5e-3,
    l2: float = 0.0,
    seed: int = 0,
    on_step: Callable[[int, float], None] = lambda step, loss: None,
) -> float:
    """Adam with a cosine rate over `steps` minibatches; the student is changed in place.

    Args:
        student: The network.
        observations: States `[S, *O]` by key.
        params: The teacher's rows `[S, P]`.
        weights: Weight of each state `[S]`.
        objective: What to minimise.
        steps: Number of gradient steps.
        batch_size: States per step (all of them where there are fewer).
        learning_rate: First rate.
        l2: Decoupled weight decay (Loshchilov and Hutter 2019), not applied to log standard deviations.
        seed: Seed of the order and of dropout.
        on_step: Called now and then with the step and the batch's loss.

    Returns:
        The mean loss of the last tenth of the steps.

    Raises:
        KDError: The loss became NaN or infinite.
    """
    device = next(student.parameters()).device
    states = {key: torch.from_numpy(np.ascontiguousarray(x)).to(device) for key, x in observations.items()}
    targets, weight = torch.from_numpy(params).to(device), torch.from_numpy(weights).to(device)
    loss_of = objective.function()
    optimizer = _optimizer(student, learning_rate, l2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(steps, 1), eta_min=learning_rate / 100)
    recent: list[Tensor] = []
    student.train()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for step, index in enumerate(_batches(len(targets), min(batch_size, len(targets)), steps)):
            batch = {key: x[index] for key, x in states.items()}
            losses = loss_of(student, student(batch), PolicyOutput(targets[index]))
            loss = (weight[index] * losses).sum() / weight[index].sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            if step >= 0.9 * steps:
                recent.append(loss.detach())
            if step % 100 == 0:
                on_step(step, _finite(float(loss.detach())))
    student.eval()
    return _finite(float(torch.stack(recent).mean())) if recent else 0.0


def _batches(count: int, size: int, steps: int) -> Iterator[Tensor]:
    """Indices of `steps` minibatches, in shuffled passes over `count` states."""
    order, position = torch.randperm(count), 0
    for _ in range(steps):
        if position + size > count:
            order, position = torch.randperm(count), 0
        yield order[position : position + size]
        position += size


def _optimizer(student: Student, learning_rate: float, l2: float) -> torch.optim.Optimizer:
    decayed = [p for name, p in student.named_parameters() if not name.endswith(("bias", "log_std"))]
    free = [p for name, p in student.named_parameters() if name.endswith(("bias", "log_std"))]
    groups = [{"params": decayed, "weight_decay": l2}, {"params": free, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=learning_rate, fused=True)


def _finite(loss: float) -> float:
    if not np.isfinite(loss):
        raise KDError(f"the loss became {loss}; try a smaller --learning-rate")
    return loss
