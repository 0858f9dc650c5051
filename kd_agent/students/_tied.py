"""One network for several tasks: own normalisers, own first layers and heads, shared hidden layers between them."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import nn

from kd_agent.networks import Student
from kd_agent.policies import Op
from kd_agent.policies.multitask_graph import Task, TaskGraph
from kd_agent.students._trunk import Trunk

_ENTRY = "entry"
_OWN = 3
"""Modules of a student's first hidden layer: linear, activation, dropout."""


def tie(students: Sequence[Student]) -> None:
    """Let students of several tasks share every hidden layer after the first.

    They must be MLPs of the same hidden layers, at least two; what was theirs in the shared places is dropped
    in favour of the first student's.
    """
    first, *rest = (_layers(student) for student in students)
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
    """A student's program in three: up to its first activation, the shared layers, the rest.

    Registers that cross the borders, or lie between them, are named by their place, so that every task's
    shared operations are the same.

    Args:
        ops: The program.
        shared: How many layers are shared.
    """
    start = next(index for index, op in enumerate(ops) if op.kind == "activation") + 1
    stop = start + 2 * shared  # a layer is two operations: linear and activation
    names = {ops[start - 1].output: _ENTRY}
    for index, op in enumerate(ops[start:stop]):
        names[op.output] = f"shared.{index}"
    renamed = []
    for op in ops:
        inputs = tuple(names.get(name, name) for name in op.inputs)
        renamed.append(replace(op, inputs=inputs, output=names.get(op.output, op.output)))
    return tuple(renamed[:start]), tuple(renamed[start:stop]), tuple(renamed[stop:])
