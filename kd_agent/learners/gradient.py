"""Fit a student to labelled states by gradient descent."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from kd_agent.errors import KDError
from kd_agent.learners._batches import states, windows
from kd_agent.losses import BoundObjective, Objective
from kd_agent.networks import Student
from kd_agent.rollouts import Rollout


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
    recent: list[Tensor] = []
    student.train()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        bound = _bound(objective, student, rollouts)
        optimizer = _optimizer(nn.ModuleList([student, bound.projectors]), learning_rate, l2)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(steps, 1), eta_min=learning_rate / 100)
        batches = (windows if student.states() else states)(rollouts, batch_size, steps, device)
        for step, batch in enumerate(batches):
            losses = bound(student.read(batch.observations, batch.starts), batch.target)
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


def _bound(objective: Objective, student: Student, rollouts: Sequence[Rollout]) -> BoundObjective:
    """The objective for these labels, on the student's device; torch's global generator stays as it is."""
    device = next(student.parameters()).device
    values = [rollout.value for rollout in rollouts if rollout.value is not None]
    with torch.random.fork_rng(devices=[]):
        example = next((windows if student.states() else states)(rollouts[:1], 2, 1, device))
        output = student.read(example.observations, example.starts)
        known = np.concatenate([value.ravel() for value in values]) if values else None
        return BoundObjective(objective, student.head, output, example.target, known).to(device)


def _optimizer(student: nn.Module, learning_rate: float, l2: float) -> torch.optim.Optimizer:
    decayed = [p for name, p in student.named_parameters() if not name.endswith(("bias", "log_std"))]
    free = [p for name, p in student.named_parameters() if name.endswith(("bias", "log_std"))]
    groups = [{"params": decayed, "weight_decay": l2}, {"params": free, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=learning_rate, fused=True)


def _finite(loss: float) -> float:
    if not np.isfinite(loss):
        raise KDError(f"the loss became {loss}; try a smaller --learning-rate")
    return loss
