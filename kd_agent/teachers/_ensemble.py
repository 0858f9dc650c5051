"""Several teachers of one task are one Teacher.

Letters: `B` batch, `K` teachers.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kd_agent import plugins
from kd_agent.errors import KDError
from kd_agent.networks import ActionHead, Observations, Origin, PolicyOutput, State, Teacher
from kd_agent.policies import Array, ObservationSpec


class EnsembleTeacher(Teacher):
    """Several teachers whose answers a rule of `kd_agent.teachers.combine` makes one.

    Each carries its own memory. A teacher of weight 0 is not asked at all.

    Args:
        teachers: At least one, all of the same observations and head.
        combine: Name of the rule.
        records: What is known of each, its `weight` above all; default: all have the same weight.
        selection_steps: Environment steps that teacher selection took.

    Raises:
        KDError: Two teachers do not go together, there is no such rule, or every weight is 0.
    """

    unread = "several teachers answer as one"

    def __init__(
        self,
        teachers: Sequence[Teacher],
        combine: str = "mixture",
        records: Sequence[Mapping[str, Any]] = (),
        selection_steps: int = 0,
    ) -> None:
        for other in teachers[1:]:
            check_pair(teachers[0], other)
        self.teachers = tuple(teachers)
        self.combine = combine
        self._rule = plugins.load("teachers.combine", combine).combine
        records = records or _equal_records(teachers)
        self.members, weights = _positive(teachers, records)
        if not self.members:
            raise KDError("every teacher has weight 0: none is left to learn from")
        self._weights = weights / weights.sum()
        self.head = _head_of(teachers)
        self.observations = _observations_of(teachers)
        self.recurrent = any(teacher.recurrent for teacher in self.members)
        self.origin = replace(
            _joined(teachers, combine),
            num_parameters=_size(self.members),
            teachers=tuple(map(dict, records)),
            gate_steps=selection_steps,
        )

    @property
    def widest_layer(self) -> int:
        """Units of the widest hidden layer of all that are asked."""
        return max(teacher.widest_layer for teacher in self.members)

    def with_weights(self, records: Sequence[Mapping[str, Any]], selection_steps: int = 0) -> "EnsembleTeacher":
        """The same teachers under other weights.

        Args:
            records: What is known of each teacher, its `weight` above all.
            selection_steps: Environment steps that teacher selection took.

        Raises:
            KDError: Every weight is 0.
        """
        return EnsembleTeacher(self.teachers, self.combine, records, selection_steps)

    def __call__(
        self, observations: Observations, state: State = None, episode_start: Array | None = None
    ) -> PolicyOutput:
        """Label a batch `[B, *O]` by key; `state` holds the state of each teacher that is asked."""
        return self.label(observations, state, episode_start)

    def label(
        self,
        observations: Observations,
        state: State = None,
        episode_start: Array | None = None,
        action_masks: Any = None,
    ) -> PolicyOutput:
        """As `Teacher.label`: each teacher is masked by itself, for what it says of forbidden actions means nothing.

        Args:
            observations: Arrays `[B, *O]` by key.
            state: The state of each teacher that is asked.
            episode_start: `[B]`, where the memories begin anew.
            action_masks: `[B, M]`, what is allowed; None: everything.
        """
        states: Sequence[Any] = [None] * len(self.members) if state is None else state
        outputs = []
        for teacher, memory in zip(self.members, states, strict=True):
            outputs.append(teacher.label(observations, memory, episode_start, action_masks))
        params = self._rule(outputs, self._weights, self.head)
        memories = tuple(output.state for output in outputs)
        mask = outputs[0].mask
        # Once more: a rule may give a forbidden action another small probability.
        rows = self.head.masked(params.to(torch.float32), mask)
        return PolicyOutput(rows, self._mean_value(outputs), state=memories if self.recurrent else None, mask=mask)

    def _mean_value(self, outputs: Sequence[PolicyOutput]) -> Tensor | None:
        """The weighted mean of the critics' values `[B]`; None where a teacher tells none."""
        values = []
        for output in outputs:
            if output.value is None:
                return None
            values.append(output.value)
        return (self._weights[:, None] * torch.stack(values)).sum(0)


def check_pair(one: Teacher, other: Teacher) -> None:
    """Require two teachers to see the same and to act alike.

    Args:
        one: The first.
        other: The second; an observation key that only one of them reads is no obstacle.

    Raises:
        KDError: They do not; the message names both and what would fit.
    """
    pair = f"{one.origin.source} and {other.origin.source} cannot teach together"
    for key in sorted({*one.observations, *other.observations}):
        first = one.observations.get(key)
        second = other.observations.get(key)
        if first and second and first.shape != second.shape:
            raise KDError(
                f"{pair}: the observation {key!r} is {first.shape} for one and {second.shape} for the other; "
                "teachers of the same environment would fit"
            )
    a, b = one.head.spec, other.head.spec
    same_actions = (a.kind, a.shape, a.nvec) == (b.kind, b.shape, b.nvec)
    same_bounds = np.array_equal([a.low, a.high], [b.low, b.high])
    if not same_actions or not same_bounds:
        raise KDError(
            f"{pair}: one acts by {a.kind} {a.nvec or a.shape}, the other by {b.kind} {b.nvec or b.shape}; "
            "teachers of one head and the same action space would fit"
        )


def _head_of(teachers: Sequence[Teacher]) -> ActionHead:
    """The head of all; one teacher that plays with action masks makes all keep to them."""
    first = teachers[0].head
    expected = any(teacher.expects_masks for teacher in teachers)
    return ActionHead(replace(first.spec, expects_masks=expected))


def _equal_records(teachers: Sequence[Teacher]) -> list[dict[str, Any]]:
    """Records of teachers of whom nothing is known yet."""
    records = []
    for teacher in teachers:
        origin = teacher.origin
        record = {
            "source": origin.source,
            "sha256": origin.sha256,
            "algo": origin.algo,
            "parameters": origin.num_parameters,
            "mean": None,
            "weight": 1 / len(teachers),
        }
        records.append(record)
    return records


def _positive(teachers: Sequence[Teacher], records: Sequence[Mapping[str, Any]]) -> tuple[list[Teacher], Tensor]:
    """The teachers that have a weight above 0, and their weights."""
    members = []
    weights = []
    for teacher, record in zip(teachers, records, strict=True):
        if record["weight"] > 0:
            members.append(teacher)
            weights.append(float(record["weight"]))
    return members, torch.tensor(weights)


def _size(teachers: Sequence[Teacher]) -> int | None:
    """Parameters of all; None where one's are not known."""
    total = 0
    for teacher in teachers:
        if teacher.origin.num_parameters is None:
            return None
        total += teacher.origin.num_parameters
    return total


def _joined(teachers: Sequence[Teacher], combine: str) -> Origin:
    origins = [teacher.origin for teacher in teachers]
    # The weights are left out: a resumed run knows its teachers by this hash before it knows their weights.
    text = "\n".join([combine, *(origin.sha256 for origin in origins)])
    return Origin(
        " + ".join(origin.source for origin in origins),
        hashlib.sha256(text.encode()).hexdigest(),
        " + ".join(origin.algo for origin in origins),
        num_parameters=None,
    )


def _observations_of(teachers: Sequence[Teacher]) -> dict[str, ObservationSpec]:
    """All that any of the teachers observes, by key."""
    observations: dict[str, ObservationSpec] = {}
    # Where two name a key, the first teacher's description of it counts.
    for teacher in reversed(teachers):
        observations.update(teacher.observations)
    return observations
