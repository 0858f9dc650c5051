"""TaskGraph: the policies of several tasks that share the middle of their programs."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from kd_agent.errors import KDError, unknown
from kd_agent.policies.graph import ObservationSpec, Op, PolicyGraph, count_fitted
from kd_agent.policies.head import HeadSpec

MAX_TASKS = 64
"""Tasks of one file: each costs a run of its program when the file is read."""


@dataclass(frozen=True)
class Task:
    """What one task has of its own.

    Attributes:
        observations: What it sees, by register name.
        before: Operations from its observations to what the shared ones read.
        after: Operations from what the shared ones wrote to `params`.
        head: How its `params` become an action.
        provenance: Where its policy comes from (JSON values).
    """

    observations: Mapping[str, ObservationSpec]
    before: tuple[Op, ...]
    after: tuple[Op, ...]
    head: HeadSpec
    provenance: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class TaskGraph:
    """Several policies without memory; a task's program is its `before`, then `shared`, then its `after`.

    Attributes:
        shared: Operations that all tasks go through.
        tasks: Each task's own part, by name.
        provenance: Where the whole comes from (JSON values).
    """

    shared: tuple[Op, ...]
    tasks: Mapping[str, Task]
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not 1 <= len(self.tasks) <= MAX_TASKS:
            raise KDError(f"{len(self.tasks)} tasks in one policy; 1 to {MAX_TASKS} are possible")
        # A task's own program is where its checks are; nothing of it is kept.
        for name in self.tasks:
            try:
                self.task(name)
            except KDError as error:
                raise KDError(f"task {name!r}: {error}") from None

    @property
    def num_parameters(self) -> int:
        """Number of fitted numbers that decide the greedy action of any task, the shared ones counted once."""
        # By identity: two tasks share an operation only where both hold the very same object.
        acting: dict[int, Op] = {}
        for name in self.tasks:
            for op in self.task(name).acting_ops():
                acting[id(op)] = op
        return count_fitted(acting.values())

    def task(self, name: str | None) -> PolicyGraph:
        """The policy of one task.

        Raises:
            KDError: None is named, or one that there is not; the message lists them or names the nearest.
        """
        if name is None:
            raise KDError(f"holds the tasks {', '.join(sorted(self.tasks))}; say which (task=..., --task)")
        if name not in self.tasks:
            raise unknown("task", name, self.tasks)
        own = self.tasks[name]
        ops = (*own.before, *self.shared, *own.after)
        return PolicyGraph(own.observations, ops, own.head, own.provenance)
