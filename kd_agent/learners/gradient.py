"""Fit a student to labelled states by gradient descent."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from kd_agent import plugins
from kd_agent.actions import Softening
from kd_agent.errors import KDError
from kd_agent.learners._batches import states, windows
from kd_agent.policy import PolicyOutput, Student
from kd_agent.rollouts import Rollout


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
    rollouts: Sequence[Rollout],
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
        student: The network; one with a memory is fitted to windows of consecutive states.
        rollouts: Labelled states.
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
    loss_of = objective.function()
    optimizer = _optimizer(student, learning_rate, l2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(steps, 1), eta_min=learning_rate / 100)
    recent: list[Tensor] = []
    student.train()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        batches = (windows if student.states() else states)(rollouts, batch_size, steps, device)
        for step, batch in enumerate(batches):
            losses = loss_of(student, student.read(batch.observations, batch.starts), PolicyOutput(batch.params))
            loss = (batch.weight * losses).sum() / batch.weight.sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            if step >= int(0.9 * steps):
                recent.append(loss.detach())
            if step % 100 == 0:
                on_step(step, _finite(float(loss.detach())))
    student.eval()
    return _finite(float(torch.stack(recent).mean())) if recent else 0.0


def _optimizer(student: Student, learning_rate: float, l2: float) -> torch.optim.Optimizer:
    decayed = [p for name, p in student.named_parameters() if not name.endswith(("bias", "log_std"))]
    free = [p for name, p in student.named_parameters() if name.endswith(("bias", "log_std"))]
    groups = [{"params": decayed, "weight_decay": l2}, {"params": free, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=learning_rate, fused=True)


def _finite(loss: float) -> float:
    if not np.isfinite(loss):
        raise KDError(f"the loss became {loss}; try a smaller --learning-rate")
    return loss
