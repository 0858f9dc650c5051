"""What teachers and students share.

Letters: `B` batch, `P` head parameters, `M` flags of an action mask, `F` features of a layer.
"""

import warnings
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from kd_agent.environments import as_mapping
from kd_agent.errors import KDError, unknown
from kd_agent.networks.distributions import ActionHead
from kd_agent.policies import Array, Normalizer, ObservationSpec, Op, Policy, PolicyGraph
from kd_agent.policies import file as graph_file

Observations = Mapping[str, Array]
"""Observation arrays `[B, *O]` by key ("obs" where the space is not a Dict)."""
LAYER = "layer"
"""Key of the one layer whose features a loss compares, whatever teacher and student call it."""
State = Sequence[Any] | None
"""Memory of a recurrent policy: arrays or tensors `[B, *S]`; None without one."""
ACTIVATION_LAYERS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "silu": nn.SiLU,
    "elu": nn.ELU,
    "leaky_relu": nn.LeakyReLU,
    "softplus": nn.Softplus,
    "gelu": nn.GELU,
    "mish": nn.Mish,
    "selu": nn.SELU,
    "softsign": nn.Softsign,
    "relu6": nn.ReLU6,
    "hardtanh": nn.Hardtanh,
}
"""Layers of torch by the names that settings and programs have for activations."""


@dataclass(frozen=True)
class PolicyOutput:
    """What a policy says of a batch.

    Attributes:
        params: `[B, P]`, the action distribution.
        value: `[B]`, the critic's estimate, where there is one.
        features: Hidden layers `[B, F]` by name.
        state: Memory of a recurrent policy: tensors, or of several teachers the state of each.
        mask: Flags `[B, M]` of what is allowed, where the rows are masked; losses compare nothing else.
    """

    params: Tensor
    value: Tensor | None = None
    features: Mapping[str, Tensor] = field(default_factory=dict)
    state: tuple[Any, ...] | None = None
    mask: Tensor | None = None

    def layer(self, name: str, whose: str) -> Tensor:
        """A layer's features `[B, F]`.

        Args:
            name: The layer.
            whose: Who answered, for the message.

        Raises:
            KDError: There is no such layer; the message names the nearest that there is.
        """
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
        num_parameters: Number of parameters that act; None where nobody can count them.
        teachers: Of several that are one: source, hash, score and weight of each (JSON values).
        gate_steps: Environment steps that it took to weigh them.
    """

    source: str
    sha256: str
    algo: str
    num_parameters: int | None
    teachers: tuple[Mapping[str, Any], ...] = ()
    gate_steps: int = 0


@dataclass(frozen=True)
class Layers:
    """The shape of a multilayer perceptron.

    Attributes:
        hidden: Units of each hidden layer.
        activation: Name of the activation between them; None without hidden layers.
        bias: Whether any layer has one.
        normalizers: The frozen statistics that it applies to its observations, by key; empty where it applies none.
    """

    hidden: tuple[int, ...]
    activation: str | None
    bias: bool
    normalizers: Mapping[str, Normalizer] = field(default_factory=dict)


class Teacher(ABC):
    """Anything that labels observations: never mutated, never differentiated, always in eval mode.

    Attributes:
        head: Its action head.
        origin: Where it comes from.
        observations: What it sees, by key.
        recurrent: Whether it has a memory.
        unread: What it is where nothing can read it as a program, for a message.
    """

    head: ActionHead
    origin: Origin
    observations: Mapping[str, ObservationSpec]
    recurrent: bool = False
    unread: str = "its policy can be asked and not read"

    @property
    def expects_masks(self) -> bool:
        """Whether it was trained under action masks, and is to be asked with them."""
        return self.head.spec.expects_masks

    @property
    def widest_layer(self) -> int:
        """Units of its widest hidden layer (0 where that is not known)."""
        return 0

    @property
    def last_layer(self) -> str | None:
        """Name of the layer that its action is read from; None where that is not known."""
        return None

    @property
    def layers(self) -> Layers | None:
        """What it is where it is a plain multilayer perceptron; None where it is not, or nobody knows."""
        return None

    def to_graph(self) -> PolicyGraph:
        """The program that acts as it does, for exports.

        Raises:
            KDError: It can be asked and not read: a function, several teachers as one.
        """
        raise KDError(
            f"{self.origin.source}: {self.unread}, so that there is no program of it to write; "
            "distil it, and export the student"
        )

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

    def label(
        self,
        observations: Observations,
        state: State = None,
        episode_start: Array | None = None,
        action_masks: Any = None,
    ) -> PolicyOutput:
        """Label a batch, under action masks where there are any.

        Args:
            observations: As for a call, and so for the next two.
            state: The memory.
            episode_start: Where it begins anew.
            action_masks: `[B, M]`, what is allowed; None: everything.
        """
        output = self(observations, state, episode_start)
        if action_masks is None:
            return output
        mask = torch.from_numpy(self.head.spec.allowed(action_masks, len(output.params)))
        return replace(output, params=self.head.masked(output.params, mask), mask=mask)

    def predict(
        self,
        observation: Any,
        state: State = None,
        episode_start: Array | None = None,
        deterministic: bool = False,
        action_masks: Any = None,
    ) -> tuple[Array, State]:
        """Actions, with the signature of Stable-Baselines3 and, for masks, of sb3_contrib.

        Args:
            observation: One observation `[*O]` or a batch `[B, *O]`, or a Dict of such.
            state: What the last call returned (None: a first step, or a teacher without memory).
            episode_start: `[B]`, where the memory begins anew.
            deterministic: Greedy actions; else drawn ones, differently at each call (`reseed`).
            action_masks: `[M]` or `[B, M]`, what is allowed; None: everything.

        Returns:
            The action `[*A]` or actions `[B, *A]`, and the next state.
        """
        if self.expects_masks and action_masks is None:
            # As sb3_contrib does it, but aloud: it is another policy, which does what is forbidden.
            warnings.warn(f"{self.origin.source} plays with action masks, and is asked without", stacklevel=2)
        batch = as_mapping(observation)
        alone = all(batch[key].ndim == len(spec.shape) for key, spec in self.observations.items() if key in batch)
        if alone:
            batch = {key: array[None] for key, array in batch.items()}
        output = self.label(batch, state, episode_start, action_masks)
        params = output.params.numpy()
        spec = self.head.spec
        actions = spec.greedy(params) if deterministic else spec.sample(params, self.rng)
        if alone:
            return actions[0], output.state
        return actions, output.state

    @cached_property
    def rng(self) -> np.random.Generator:
        """Where the chance of drawn actions comes from."""
        return np.random.default_rng()

    def reseed(self, seed: int) -> None:
        """Begin the drawn actions anew."""
        self.rng = np.random.default_rng(seed)


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

    @property
    def expects_masks(self) -> bool:
        """Whether it is taught under action masks, and is to be played with them."""
        return self.head.spec.expects_masks

    @abstractmethod
    def forward(self, observations: Mapping[str, Tensor]) -> PolicyOutput:
        """Differentiable output for a batch `[B, *O]` by key."""

    def read(self, observations: Mapping[str, Tensor], starts: Tensor | None = None) -> PolicyOutput:
        """Differentiable output for states, or for windows where `starts` is given.

        Windows are for students with a memory, which begins anew at each start; their output is flat, `[L * B, ...]`.

        Args:
            observations: States `[S, *O]` by key, or windows `[L, B, *O]`.
            starts: `[L, B]`, where an episode begins in the windows.
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
        action_masks: Any = None,
    ) -> tuple[Array, tuple[Array, ...] | None]:
        """As `kd_agent.Policy.predict`, by the present weights.

        Args:
            observation: One observation or a batch `[B, *O]`, or a Dict of such.
            state: What the last call returned; None: a first step.
            episode_start: `[B]`, where the memory begins anew.
            deterministic: Greedy actions; else drawn ones.
            action_masks: `[M]` or `[B, M]`, what is allowed; None: everything.
        """
        return self.policy().predict(observation, state, episode_start, deterministic, action_masks)

    def save(self, path: Path, provenance: Mapping[str, Any] | None = None) -> Path:
        """Write the student's file.

        Args:
            path: Where to.
            provenance: What the file tells of how it came about (JSON values).
        """
        return graph_file.write(self.graph(provenance), path)

    def arrays(self) -> dict[str, Array]:
        """Weights and buffers by name, for a checkpoint."""
        return {name: tensor.detach().cpu().numpy().copy() for name, tensor in self.state_dict().items()}
