"""Several teachers of one task are one Teacher.

Letters: `B` batch, `K` teachers.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from kd_agent import plugins
from kd_agent.errors import KDError
from kd_agent.networks import Observations, Origin, PolicyOutput, State, Teacher
from kd_agent.policies import Array


class EnsembleTeacher(Teacher):
    """Several teachers whose answers a rule of `kd_agent.teachers.combine` makes one.

    Each carries its own memory. A teacher of weight 0 is not asked at all.

    Args:
        teachers: At least one, all of the same observations and head.
        combine: Name of the rule.
        records: What is known of each, its `weight` above all; default: all weigh alike.
        gate_steps: Environment steps that it took to know that.

    Raises:
        KDError: Two teachers do not go together, there is no such rule, or every weight is 0.
    """

    def __init__(
        self,
        teachers: Sequence[Teacher],
        combine: str = "mixture",
        records: Sequence[Mapping[str, Any]] = (),
        gate_steps: int = 0,
    ) -> None:
        for other in teachers[1:]:
            check_pair(teachers[0], other)
        self.teachers, self.combine = tuple(teachers), combine
        self._rule = plugins.load("teachers.combine", combine).combine
        records = records or [_record(teacher, 1 / len(teachers)) for teacher in teachers]
        self.members = [t for t, record in zip(teachers, records, strict=True) if record["weight"] > 0]
        weights = torch.tensor([float(record["weight"]) for record in records if record["weight"] > 0])
        if not self.members:
            raise KDError("every teacher has weight 0: none is left to learn from")
        self._weights = weights / weights.sum()
        self.head, self.observations = teachers[0].head, _seen_by(teachers)
        self.recurrent = any(teacher.recurrent for teacher in self.members)
        self.origin = replace(_joined(teachers, combine), num_parameters=_parameters(self.members),
                              teachers=tuple(dict(record) for record in records), gate_steps=gate_steps)  # fmt: skip

    @property
    def widest_layer(self) -> int:
        """Units of the widest hidden layer of all that are asked."""
        return max(teacher.widest_layer for teacher in self.members)

    def weighed(self, records: Sequence[Mapping[str, Any]], gate_steps: int = 0) -> "EnsembleTeacher":
        """The same teachers under other weights."""
        return EnsembleTeacher(self.teachers, self.combine, records, gate_steps)

    def __call__(
        self, observations: Observations, state: State = None, episode_start: Array | None = None
    ) -> PolicyOutput:
        """Label a batch `[B, *O]` by key; `state` holds the state of each teacher that is asked."""
        states = [None] * len(self.members) if state is None else state
        outputs = [ask(observations, s, episode_start) for ask, s in zip(self.members, states, strict=True)]
        params = self._rule(outputs, self._weights, self.head)
        values = [output.value for output in outputs if output.value is not None]
        value = (self._weights[:, None] * torch.stack(values)).sum(0) if len(values) == len(outputs) else None
        memory = tuple(output.state for output in outputs) if self.recurrent else None
        return PolicyOutput(params.to(torch.float32), value, state=memory)


def check_pair(one: Teacher, other: Teacher) -> None:
    """Require two teachers to see the same and to act alike.

    Raises:
        KDError: They do not; the message names both and what would fit.
    """
    pair = f"{one.origin.source} and {other.origin.source} cannot teach together"
    for key in sorted({*one.observations, *other.observations}):
        first, second = (teacher.observations.get(key) for teacher in (one, other))
        if first and second and first.shape != second.shape:
            raise KDError(f"{pair}: the observation {key!r} is {first.shape} for one and {second.shape} for the other; "
                          "teachers of the same environment would fit")  # fmt: skip
    a, b = one.head.spec, other.head.spec
    if (a.kind, a.shape, a.nvec) != (b.kind, b.shape, b.nvec) or not np.array_equal([a.low, a.high], [b.low, b.high]):
        raise KDError(f"{pair}: one acts by {a.kind} {a.nvec or a.shape}, the other by {b.kind} {b.nvec or b.shape}; "
                      "teachers of one head and the same action space would fit")  # fmt: skip


def _record(teacher: Teacher, weight: float) -> dict[str, Any]:
    """A teacher of whom nothing is known yet."""
    origin = teacher.origin
    return {"source": origin.source, "sha256": origin.sha256, "algo": origin.algo,
            "parameters": origin.num_parameters, "iqm": None, "weight": weight}  # fmt: skip


def _joined(teachers: Sequence[Teacher], combine: str) -> Origin:
    origins = [teacher.origin for teacher in teachers]
    digest = hashlib.sha256("\n".join([combine, *(origin.sha256 for origin in origins)]).encode()).hexdigest()
    return Origin(" + ".join(o.source for o in origins), digest, " + ".join(o.algo for o in origins), 0)


def _parameters(teachers: Sequence[Teacher]) -> int:
    return sum(teacher.origin.num_parameters for teacher in teachers)


def _seen_by(teachers: Sequence[Teacher]) -> dict[str, Any]:
    """All that any of the teachers sees, by key."""
    return {key: spec for teacher in reversed(teachers) for key, spec in teacher.observations.items()}
