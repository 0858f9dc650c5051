"""What teachers and students share.

Letters: `B` batch, `P` head parameters, `F` features of a layer.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor, nn

from kd_agent import graph_file
from kd_agent.actions import ActionHead, head_for
from kd_agent.errors import KDError, unknown
from kd_agent.graph import OBSERVATION, PARAMS, ObservationSpec, Op, PolicyGraph, compile_ops
from kd_agent.head import Array
from kd_agent.runtime import Policy
from kd_agent.spaces import as_mapping, observation_specs

Observations = Mapping[str, Array]
"""Observation arrays `[B, *O]` by key ("obs" where the space is not a Dict)."""
LAYER = "layer"
"""Key of the one layer whose features a loss compares, whatever teacher and student call it."""
State = Sequence[Any] | None
"""Memory of a recurrent policy: arrays or tensors `[B, *S]`; None without one."""


@dataclass(frozen=True)
class PolicyOutput:
    """What a policy says of a batch.

    Attributes:
        params: `[B, P]`, the action distribution.
        value: `[B]`, the critic's estimate, where there is one.
        features: Hidden layers `[B, F]` by name.
        state: Memory of a recurrent policy: tensors, or of several teachers the state of each.
    """

    params: Tensor
    value: Tensor | None = None
    features: Mapping[str, Tensor] = field(default_factory=dict)
    state: tuple[Any, ...] | None = None

    def layer(self, name: str, whose: str) -> Tensor:
        """A layer's features `[B, F]`; KDError names those that there are."""
        if name not in self.features:
            raise unknown(f"layer of {whose}", name, self.features)
        return self.features[name]


@dataclass(frozen=True)
class Origin:
    """Where a teacher comes from.

    Attributes:
        source: Path or name.
        sha256: Hash of its file.
        algo: The algorithm that trained it.
        num_parameters: Number of parameters that act.
        teachers: Of several that are one: source, hash, score and weight of each (JSON values).
        gate_steps: Environment steps that it took to weigh them.
    """

    source: str
    sha256: str
    algo: str
    num_parameters: int
    teachers: tuple[Mapping[str, Any], ...] = ()
    gate_steps: int = 0


class Teacher(ABC):
    """Anything that labels observations: never mutated, never differentiated, always in eval mode.

    Attributes:
        head: Its action head.
        origin: Where it comes from.
        observations: What it sees, by key.
        recurrent: Whether it has a memory.
    """

    head: ActionHead
    origin: Origin
    observations: Mapping[str, ObservationSpec]
    recurrent: bool = False

    @property
    def widest_layer(self) -> int:
        """Units of its widest hidden layer (0 where that is not known)."""
        return 0

    @property
    def last_layer(self) -> str | None:
        """Name of the layer that its action is read from; None where that is not known."""
        return None

    @abstractmethod
    def __call__(
        self, observations: Observations, state: State = None, episode_start: Array | None = None
    ) -> PolicyOutput:
        """Label a batch.

        Args:
            observations: Arrays `[B, *O]` by key.
            state: The `state` of the last output (None: a first step, or a teacher without memory).
            episode_start: `[B]`, where the memory begins anew.
        """

    def predict(
        self,
        observation: Any,
        state: State = None,
        episode_start: Array | None = None,
        deterministic: bool = False,
    ) -> tuple[Array, State]:
        """Actions `[B, *A]` of a batch, with Stable-Baselines3's signature."""
        output = self(as_mapping(observation), state, episode_start)
        params, spec = output.params.numpy(), self.head.spec
        actions = spec.greedy(params) if deterministic else spec.sample(params, np.random.default_rng())
        return actions, output.state


class GraphTeacher(Teacher):
    """A teacher that is a PolicyGraph: someone else's network read as data, or a saved student.

    Args:
        graph: Its program; every register is offered as a feature.
        origin: Where it comes from.
        critic: Operations that go on from the graph's registers and write `value [B, 1]`.
    """

    def __init__(self, graph: PolicyGraph, origin: Origin, critic: Sequence[Op] = ()) -> None:
        self.graph, self.origin = graph, origin
        self.head = ActionHead(graph.head)
        self.observations, self.recurrent = graph.observations, bool(graph.states)
        self._run = compile_ops([*graph.ops, *critic])

    @property
    def widest_layer(self) -> int:
        """Units of the widest linear layer before the last."""
        return max([len(op.tensors["bias"]) for op in self.graph.ops if op.kind == "linear"][:-1], default=0)

    @property
    def last_layer(self) -> str | None:
        """What the last linear layer that acts reads; None where it reads the observation."""
        read = [op.inputs[0] for op in self.graph.acting_ops() if op.kind == "linear"]
        hidden = {op.output for op in self.graph.ops if op.kind in ("activation", "lstm", "gru", "slice")}
        return read[-1] if read and read[-1] in hidden else None

    def __call__(
        self, observations: Observations, state: State = None, episode_start: Array | None = None
    ) -> PolicyOutput:
        """Label a batch `[B, *O]` by key."""
        batch = len(next(iter(observations.values())))
        registers = self._run({**observations, **self.graph.memory(batch, state, episode_start)})
        memory = self.graph.next_state(registers)
        features = {k: torch.from_numpy(v) for k, v in registers.items() if v.ndim == 2 and v.dtype == np.float32}
        value = features.pop("value", None)
        states = tuple(torch.from_numpy(array) for array in memory) if memory else None
        return PolicyOutput(features.pop(PARAMS), None if value is None else value[:, 0], features, states)


class KeyedTeacher(Teacher):
    """A teacher that sees only some keys of a Dict observation (a privileged teacher, say).

    Args:
        teacher: The teacher; it was loaded for the space of its keys alone.
        keys: Which; a single one is what the teacher calls its observation.
    """

    def __init__(self, teacher: Teacher, keys: Sequence[str]) -> None:
        self._teacher, self._keys = teacher, tuple(keys)
        self.head, self.origin, self.recurrent = teacher.head, teacher.origin, teacher.recurrent
        self.observations = {key: teacher.observations[self._name(key)] for key in keys}

    @property
    def widest_layer(self) -> int:
        """The teacher's."""
        return self._teacher.widest_layer

    @property
    def last_layer(self) -> str | None:
        """The teacher's."""
        return self._teacher.last_layer

    def __call__(
        self, observations: Observations, state: State = None, episode_start: Array | None = None
    ) -> PolicyOutput:
        """Label a batch `[B, *O]` by key."""
        return self._teacher({self._name(key): observations[key] for key in self._keys}, state, episode_start)

    def _name(self, key: str) -> str:
        return OBSERVATION if len(self._keys) == 1 else key


class Student(nn.Module, ABC):
    """A network that learns and knows how to become a PolicyGraph.

    Attributes:
        head: Its action head.
        observations: What it sees.
        learner: Name of the learner that fits it.
    """

    head: ActionHead
    observations: Mapping[str, ObservationSpec]
    learner: ClassVar[str] = "gradient"

    @abstractmethod
    def forward(self, observations: Mapping[str, Tensor]) -> PolicyOutput:
        """Differentiable output for a batch `[B, *O]` by key."""

    def read(self, observations: Mapping[str, Tensor], starts: Tensor | None = None) -> PolicyOutput:
        """Differentiable output for states `[S, *O]`, or for windows where `starts [L, B]` is given.

        Windows `[L, B, *O]` are for students with a memory, which begins anew at each start; the output
        is flat, `[L * B, ...]`.
        """
        assert starts is None, "a student with a memory reads windows itself"
        return self(observations)  # type: ignore[no-any-return]

    @abstractmethod
    def ops(self) -> list[Op]:
        """The network, as it stands, as operations that write `params`."""

    def graph(self, provenance: Mapping[str, Any] | None = None) -> PolicyGraph:
        """The deployable program of the present weights."""
        return PolicyGraph(self.observations, tuple(self.ops()), self.head.spec, provenance or {}, self.states())

    def states(self) -> dict[str, tuple[int, ...]]:
        """Shape of each state that a recurrent student carries, by register name."""
        return {}

    def policy(self) -> Policy:
        """The present weights, ready to act without torch."""
        return Policy(self.graph())

    def predict(
        self,
        observation: Any,
        state: tuple[Array, ...] | None = None,
        episode_start: Array | None = None,
        deterministic: bool = False,
    ) -> tuple[Array, tuple[Array, ...] | None]:
        """As `kd_agent.Policy.predict`."""
        return self.policy().predict(observation, state, episode_start, deterministic)

    def save(self, path: Path, provenance: Mapping[str, Any] | None = None) -> Path:
        """Write the student's file."""
        return graph_file.write(self.graph(provenance), path)

    def arrays(self) -> dict[str, Array]:
        """Weights and buffers by name, for a checkpoint."""
        return {name: tensor.detach().cpu().numpy().copy() for name, tensor in self.state_dict().items()}


def check_fits(graph: PolicyGraph, env: tuple[gym.Space[Any], gym.Space[Any]], what: str) -> None:
    """Require a policy to fit an environment's observation and action space.

    Raises:
        KDError: A shape or the kind of action differs; the message says which and what was expected.
    """
    wanted = observation_specs(env[0])
    for key, spec in graph.observations.items():
        if key not in wanted or wanted[key].shape != spec.shape:
            has = wanted[key].shape if key in wanted else "no such key"
            raise KDError(f"{what}: expects observation {key!r} of shape {spec.shape}, the environment has {has}")
    head = head_for(env[1], squashed=graph.head.kind == "squashed_gaussian").spec
    if (head.kind, head.shape, head.nvec) != (graph.head.kind, graph.head.shape, graph.head.nvec):
        raise KDError(f"{what}: acts by {graph.head.kind} {graph.head.nvec or graph.head.shape}, "
                      f"the environment has {env[1]}")  # fmt: skip
    if not np.allclose([head.low, head.high], [graph.head.low, graph.head.high]):
        raise KDError(f"{what}: its action bounds are not those of the environment's {env[1]}")
