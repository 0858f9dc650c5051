"""One network for several tasks: own normalisers, own first layers and heads, shared hidden layers between them.

Letters: `B` batch.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import nn

from kd_agent.errors import KDError
from kd_agent.learners._batches import states
from kd_agent.losses import BoundObjective, Objective
from kd_agent.networks import PolicyOutput, Student
from kd_agent.policies import Op, Task, TaskGraph
from kd_agent.rollouts import Rollout
from kd_agent.students import Trunk

_ENTRY = "entry"
_OWN = 3
"""Modules of a student's first hidden layer: linear, activation, dropout."""


def tie(students: Mapping[str, Student]) -> None:
    """Let students of several tasks share every hidden layer after the first.

    They must be MLPs of the same hidden layers, at least two; what was theirs in the shared places is dropped
    in favour of the first student's.
    """
    first, *rest = (_layers(student) for student in students.values())
    for layers in rest:
        for place in range(_OWN, len(first) - 1):
            layers[place] = first[place]


def _layers(student: Student) -> nn.Sequential:
    assert isinstance(student, Trunk), "tasks share the layers of MLPs"
    return student.layers


def to_graph(
    students: Mapping[str, Student], provenances: Mapping[str, Mapping[str, Any]], provenance: Mapping[str, Any]
) -> TaskGraph:
    """The deployable programs of tied students, their shared operations once.

    Args:
        students: Tied students, by task.
        provenances: Where each task's policy comes from.
        provenance: Where the whole comes from.
    """
    shared: tuple[Op, ...] = ()
    tasks = {}
    for name, student in students.items():
        before, shared, after = split(student.ops(), shared=len(_layers(student)) // _OWN - 1)
        tasks[name] = Task(student.observations, before, after, student.head.spec, provenances[name])
    return TaskGraph(shared, tasks, provenance)


def split(ops: Sequence[Op], shared: int) -> tuple[tuple[Op, ...], tuple[Op, ...], tuple[Op, ...]]:
    """A student's program in three: up to its first activation, `shared` layers, the rest.

    Registers that cross the borders, or lie between them, are named by their place, so that every task's
    shared operations are the same.
    """
    start = next(index for index, op in enumerate(ops) if op.kind == "activation") + 1
    stop = start + 2 * shared
    names = {ops[start - 1].output: _ENTRY}
    names |= {op.output: f"shared.{index}" for index, op in enumerate(ops[start:stop])}
    renamed = [
        replace(op, inputs=tuple(names.get(i, i) for i in op.inputs), output=names.get(op.output, op.output))
        for op in ops
    ]
    return tuple(renamed[:start]), tuple(renamed[start:stop]), tuple(renamed[stop:])


def fit_together(
    students: Mapping[str, Student],
    rollouts: Mapping[str, Sequence[Rollout]],
    objectives: Mapping[str, Objective],
    *,
    steps: int,
    batch_size: int,
    learning_rate: float,
    seed: int,
    on_step: Callable[[int, float], None] = lambda step, loss: None,
) -> float:
    """Adam with a cosine rate on the sum of all tasks' losses (Rusu et al. 2015); the students are changed in place.

    Args:
        students: Tied students, by task.
        rollouts: Labelled states of each task.
        objectives: What to minimise for each; of action distributions alone.
        steps: Number of gradient steps, each on a minibatch of every task.
        batch_size: States of each task per step.
        learning_rate: First rate.
        seed: Seed of the order and of dropout.
        on_step: Called now and then with the step and the sum of the losses.

    Returns:
        The loss, summed over the tasks, of the last step.

    Raises:
        KDError: The loss became NaN or infinite.
    """
    network, last = nn.ModuleDict({_key(index): s for index, s in enumerate(students.values())}), 0.0
    device = next(network.parameters()).device
    network.train()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        optimizer = torch.optim.Adam(network.parameters(), lr=learning_rate, fused=True)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(steps, 1), eta_min=learning_rate / 100)
        batches = {task: states(rollouts[task], batch_size, steps, device) for task in students}
        bound = {task: _bound(objectives[task], student).to(device) for task, student in students.items()}
        for step in range(steps):
            loss = torch.zeros((), device=device)
            for task, student in students.items():
                batch = next(batches[task])
                losses = bound[task](student.read(batch.observations), batch.target)
                loss = loss + (batch.weight * losses).sum() / batch.weight.sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            if step % 100 == 0 or step == steps - 1:
                last = _finite(float(loss.detach()))
                on_step(step, last)
    network.eval()
    return last


def _bound(objective: Objective, student: Student) -> BoundObjective:
    """An objective of action distributions alone, which nothing need be fitted beside."""
    nothing = PolicyOutput(torch.empty(0, student.head.num_params))
    return BoundObjective(objective, student.head, nothing, nothing, None)


def _key(index: int) -> str:
    """A task's name in a module: its number, because a name may have a dot."""
    return str(index)


def _finite(loss: float) -> float:
    if not np.isfinite(loss):
        raise KDError(f"the loss became {loss}; try a smaller --learning-rate")
    return loss
