"""Fit students to labelled states by gradient descent: the one loop of gradient steps.

Letters: `B` batch.
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from kd_agent.errors import KDError
from kd_agent.learners._batches import Batch, states, windows
from kd_agent.losses import BoundObjective, Objective
from kd_agent.networks import Student
from kd_agent.policies import Array
from kd_agent.rollouts import Rollout

_SHOWN_EVERY = 100
"""Gradient steps between two reports: reading a loss waits for the device."""
_LAST_PART = 0.9
"""From this share of the steps on, the losses count in what a fit returns."""
_LAST_RATE = 1 / 100
"""What the cosine leaves of the first rate."""


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
    """Adam with a cosine rate over minibatches; the student is changed in place.

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
    return fit_jointly(
        [student],
        [rollouts],
        [objective],
        steps=steps,
        batch_size=batch_size,
        learning_rate=learning_rate,
        l2=l2,
        seed=seed,
        on_step=on_step,
    )


def fit_jointly(
    students: Sequence[Student],
    rollouts: Sequence[Sequence[Rollout]],
    objectives: Sequence[Objective],
    *,
    steps: int,
    batch_size: int = 512,
    learning_rate: float = 5e-3,
    l2: float = 0.0,
    seed: int = 0,
    on_step: Callable[[int, float], None] = lambda step, loss: None,
) -> float:
    """As `fit`, of several students that share layers, on the sum of their losses (Rusu et al. 2015).

    Args:
        students: One of each task.
        rollouts: Labelled states of each.
        objectives: What to minimise for each.
        steps: Number of gradient steps, each on a minibatch of every task.
        batch_size: States of each task per step.
        learning_rate: First rate.
        l2: Decoupled weight decay.
        seed: Seed of the order and of dropout.
        on_step: Called now and then with the step and the sum of the losses.

    Returns:
        The mean loss of the last tenth of the steps.

    Raises:
        KDError: The loss became NaN or infinite.
    """
    network = nn.ModuleList(students)
    recent: list[Tensor] = []
    network.train()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        bound: list[BoundObjective] = []
        batches: list[Iterator[Batch]] = []
        for student, data, objective in zip(students, rollouts, objectives, strict=True):
            bound.append(_bound(student, data, objective))
            batches.append(_batches(student, data, batch_size, steps))
        projectors = nn.ModuleList([objective.projectors for objective in bound])
        optimizer, schedule = _optimizer(nn.ModuleList([network, projectors]), learning_rate, l2, steps)
        for step in range(steps):
            loss = _joint_loss(students, bound, batches)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            if step >= int(_LAST_PART * steps):
                recent.append(loss.detach())
            if step % _SHOWN_EVERY == 0:
                on_step(step, _finite(float(loss.detach())))
    network.eval()
    return _mean(recent)


def _joint_loss(
    students: Sequence[Student], bound: Sequence[BoundObjective], batches: Sequence[Iterator[Batch]]
) -> Tensor:
    """The sum of the students' losses, each a weighted mean over its next minibatch."""
    total = torch.zeros(())
    for student, objective, stream in zip(students, bound, batches, strict=True):
        batch = next(stream)
        output = student.read(batch.observations, batch.starts)
        losses = objective(output, batch.target)
        # By the weights' sum and not their number: the states that only warm a memory up weigh nothing.
        total = total.to(losses.device) + (batch.weight * losses).sum() / batch.weight.sum()
    return total


def _batches(student: Student, rollouts: Sequence[Rollout], size: int, steps: int) -> Iterator[Batch]:
    """Minibatches of states; of windows for a student with a memory."""
    device = next(student.parameters()).device
    # A memory is fitted to what comes one after the other; single states, well mixed, fit better without one.
    if student.states():
        return windows(rollouts, size, steps, device)
    return states(rollouts, size, steps, device)


def _bound(student: Student, rollouts: Sequence[Rollout], objective: Objective) -> BoundObjective:
    """The objective for these labels, on the student's device."""
    # The order of the minibatches must not hang on what is looked at here: torch's generator stays as it is.
    with torch.random.fork_rng(devices=[]):
        example = next(_batches(student, rollouts[:1], 2, 1))
        output = student.read(example.observations, example.starts)
        bound = BoundObjective(objective, student.head, output, example.target, _values(rollouts))
    return bound.to(next(student.parameters()).device)


def _values(rollouts: Sequence[Rollout]) -> Array | None:
    """The teacher's values of all states, `[S]`; None without a critic."""
    values = [rollout.value.ravel() for rollout in rollouts if rollout.value is not None]
    if not values:
        return None
    return np.concatenate(values)


def _optimizer(
    network: nn.Module, learning_rate: float, l2: float, steps: int
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    """AdamW, and the cosine that takes its rate down over so many steps."""
    decayed: list[nn.Parameter] = []
    free: list[nn.Parameter] = []
    for name, parameter in network.named_parameters():
        # Shrinking a bias or a log standard deviation regularises nothing.
        if name.endswith(("bias", "log_std")):
            free.append(parameter)
        else:
            decayed.append(parameter)
    groups = [{"params": decayed, "weight_decay": l2}, {"params": free, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=learning_rate, fused=True)
    # Not down to 0: the last steps would be lost.
    lowest = learning_rate * _LAST_RATE
    return optimizer, torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(steps, 1), eta_min=lowest)


def _mean(losses: Sequence[Tensor]) -> float:
    """The mean of losses `[]`; 0 where no step was made."""
    if not losses:
        return 0.0
    return _finite(float(torch.stack(list(losses)).mean()))


def _finite(loss: float) -> float:
    if not np.isfinite(loss):
        raise KDError(f"the loss became {loss}; try a smaller --learning-rate")
    return loss
