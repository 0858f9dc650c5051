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
from torch import Tensor, nn

from kd_agent.environments import as_mapping, observation_specs
from kd_agent.errors import KDError, unknown
from kd_agent.networks.distributions import ActionHead, head_for
from kd_agent.policies import Array, ObservationSpec, Op, Policy, PolicyGraph
from kd_agent.policies import file as graph_file

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
