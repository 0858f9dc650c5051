"""The teacher that a file of weights is, by the layout of its layers and what its library assumes."""

import hashlib
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

from kd_agent.environments import observation_specs
from kd_agent.errors import KDError
from kd_agent.networks import ActionHead, Origin, head_for
from kd_agent.policies import OBSERVATION, PARAMS, Array, Normalizer, Op, PolicyGraph
from kd_agent.teachers._activation import Function
from kd_agent.teachers._archive import Archive, NotUnderstoodError
from kd_agent.teachers._graph_teacher import GraphTeacher
from kd_agent.teachers._layers import DETERMINISTIC_LOG_STD, Program
from kd_agent.teachers._layout import ASSUMED, Layout, LogStd
from kd_agent.teachers._layout_checks import check_chain, check_kind
from kd_agent.teachers._request import Request, Spaces
from kd_agent.teachers._statistics import read_statistics
from kd_agent.teachers._statistics_search import check_fit


def teacher_of(
    layout: Layout, tensors: Mapping[str, Array], source: str, sha256: str, request: Request
) -> GraphTeacher:
    """The teacher that a file of weights is.

    Args:
        layout: Where it keeps its layers.
        tensors: The policy's tensors by name.
        source: The file.
        sha256: Its hash.
        request: How it is asked for.

    Raises:
        KDError: It does not fit the environment, or a tensor is not understood.
    """
    try:
        return _Reading(layout, tensors, source, sha256, request).teacher()
    except NotUnderstoodError as error:
        # To trust it would not help: there is no code of its own to run.
        raise KDError(error.reason) from None


class _Reading:
    """One file's translation.

    Args:
        layout: Where it keeps its layers.
        tensors: The policy's tensors by name.
        source: The file.
        sha256: Its hash.
        request: How it is asked for.
    """

    def __init__(
        self, layout: Layout, tensors: Mapping[str, Array], source: str, sha256: str, request: Request
    ) -> None:
        self.layout = layout
        self.source = source
        self.sha256 = sha256
        self.request = request
        self.observation_space, self.action_space = spaces_named(request, source, layout.library)
        self.program = Program(Archive(source, sha256, {}, tensors), OBSERVATION)
        squash = request.teacher_squash or layout.squash
        self.squash = squash if isinstance(self.action_space, gym.spaces.Box) else "none"
        self.head = self._head()

    def teacher(self) -> GraphTeacher:
        """The whole translation."""
        layout = self.layout
        self._check_sizes()
        check_chain(layout, self._weight, self.source)
        check_kind(layout, self.head.spec, self.action_space, self.source)
        self._check_bounds()
        self._assume()
        self._observe()
        self._layers()
        self._answer()
        self._check_all_used()
        observations = observation_specs(self.observation_space)
        graph = PolicyGraph(observations, tuple(self.program.ops), self.head.spec, states=self.program.states)
        origin = Origin(self.source, self._hash(), layout.algo, graph.num_parameters)
        return GraphTeacher(graph, origin)

    def _head(self) -> ActionHead:
        head = head_for(self.action_space, squashed=self.squash == "tanh")
        is_bounded = np.isfinite([head.spec.low, head.spec.high]).all()
        if self.squash == "clip" and not is_bounded:
            raise KDError(
                f"{self.source}: its actions are scaled to a bounded Box, and the environment has {self.action_space} "
                "(--teacher-squash none)"
            )
        if not head.spec.is_gaussian and self.request.teacher_squash:
            raise KDError(
                f"{self.source}: --teacher-squash is of continuous actions, the environment has {self.action_space}"
            )
        return head

    def _weight(self, name: str) -> Array:
        return self.program.tensor(f"{name}.weight", 2)

    def _check_sizes(self) -> None:
        """Hold the first and the last layer against the environment's spaces."""
        layout = self.layout
        if not layout.answer:
            raise KDError(
                f"{self.source}: has no linear layers; of {layout.library}, policies without convolutions are read"
            )
        first = f"{layout.memory}.weight_ih_l0" if layout.memory and layout.memory_first else None
        weight = self.program.tensor(first, 2) if first else self._weight([*layout.hidden, *layout.answer][0])
        taken = weight.shape[1]
        offered = int(np.prod(self.observation_space.shape or (), dtype=np.int64))
        if taken != offered:
            raise KDError(
                f"{self.source}: its network takes observations of shape ({taken},), "
                f"the environment's are of {self.observation_space.shape}"
            )
        rows = sum(len(self._weight(name)) for name in layout.answer)
        expected = self.head.spec.num_acting
        is_split = layout.log_std is not None and layout.log_std.layer == layout.answer[0]
        if rows != (2 * expected if is_split else expected):
            wanted = f"{expected} numbers for {self.action_space}"
            raise KDError(f"{self.source}: its network answers with {rows} numbers, the environment takes {wanted}")

    def _check_bounds(self) -> None:
        """Hold what the file says of the Box that it acts in against the environment's."""
        half, centre = self.layout.half_range, self.layout.centre
        if half is None or centre is None or self.squash != "tanh":
            return
        own = (half.ravel(), centre.ravel())
        for said, found in zip(own, self._box(), strict=True):
            if said.size not in (1, found.size) or not np.allclose(said, found, rtol=1e-4):
                low, high = own[1] - own[0], own[1] + own[0]
                own_box = f"between {low.tolist()} and {high.tolist()}"
                raise KDError(f"{self.source}: acts {own_box}, the environment in {self.action_space}")

    def _assume(self) -> None:
        """Say what is taken from the library's defaults, and refuse what would do nothing."""
        layout, request = self.layout, self.request
        if request.teacher_activation and not layout.hidden:
            raise KDError(f"{self.source}: has no hidden layer for --teacher-activation {request.teacher_activation}")
        taken = []
        if layout.hidden and not request.teacher_activation:
            taken.append(f"activation {layout.activation} (--teacher-activation)")
        if self.head.spec.is_gaussian and not request.teacher_squash:
            taken.append(f"squash {layout.squash} (--teacher-squash)")
        if taken:
            warnings.warn(
                f"{self.source}: does not say all of its network; taken as {layout.library} does: {', '.join(taken)}",
                stacklevel=2,
            )

    def _observe(self) -> None:
        if self.observation_space.shape != self._flat_shape() or self.observation_space.dtype != np.float32:
            self.program.add(Op("flatten", (OBSERVATION,), "flat"))
        normalizer = self._normalizer()
        if normalizer is None:
            return
        if normalizer.mean.shape != self._flat_shape():
            raise KDError(
                f"{self.source}: statistics of shape {normalizer.mean.shape} for observations of {self._flat_shape()}"
            )
        self.program.add(normalizer.op(self.program.last, "normal"))

    def _normalizer(self) -> Normalizer | None:
        """The file's own statistics, or those that are named."""
        layout, request = self.layout, self.request
        if request.statistics is None:
            if layout.normalized_elsewhere and not request.allow_missing_statistics:
                raise KDError(
                    f"{self.source}: {layout.library} normalises these observations and keeps the statistics out of "
                    "the file (--statistics FILE, or --allow-missing-statistics)"
                )
            return layout.normalizer
        if layout.normalizer is not None:
            raise KDError(f"{self.source}: carries its statistics inside; --statistics is for a file without")
        statistics = read_statistics(Path(request.statistics))
        check_fit(statistics, {OBSERVATION: self.observation_space.shape or ()}, request.statistics)
        [normalizer] = statistics.values() or [None]
        if normalizer is None:
            return None
        return Normalizer(normalizer.mean.ravel(), normalizer.var.ravel(), normalizer.clip, normalizer.epsilon)

    def _flat_shape(self) -> tuple[int, ...]:
        return (int(np.prod(self.observation_space.shape or (), dtype=np.int64)),)

    def _layers(self) -> None:
        layout = self.layout
        function = Function(self.request.teacher_activation or layout.activation)
        if layout.memory and layout.memory_first:
            self.program.memory(layout.memory)
        for name in layout.hidden:
            self.program.linear(name, name)
            self.program.activation(function, f"{name}.active")
        if layout.memory and not layout.memory_first:
            self.program.memory(layout.memory)

    def _answer(self) -> None:
        """The last layer: logits, or means beside log standard deviations."""
        if not self.head.spec.is_gaussian:
            self._logits()
            return
        latent = self.program.last
        size = self.head.spec.num_acting
        [name] = self.layout.answer
        # Of a layer that writes both, the first half are the means.
        self.program.linear(name, "mean", lambda tensor: self._in_units(tensor[:size]))
        log_std = self.layout.log_std or LogStd()
        if log_std.layer is None:
            value = DETERMINISTIC_LOG_STD if log_std.value is None else log_std.value
            if np.size(value) not in (1, size):
                raise KDError(f"{self.source}: deviations of shape {np.shape(value)} for actions of ({size},)")
            self.program.append_log_std(value + self._log_scale(), size)
            return
        self.program.last = latent
        self.program.linear(log_std.layer, "log_std.free", lambda tensor: np.ascontiguousarray(tensor[-size:]))
        self._log_std(log_std)
        self.program.add(Op("concatenate", ("mean", self.program.last), PARAMS))

    def _logits(self) -> None:
        if len(self.layout.answer) == 1:
            self.program.linear(self.layout.answer[0], PARAMS)
            return
        latent = self.program.last
        for name in self.layout.answer:
            self.program.last = latent
            self.program.linear(name, name)
        self.program.add(Op("concatenate", self.layout.answer, PARAMS))

    def _log_std(self, log_std: LogStd) -> None:
        """From what a layer writes to log standard deviations."""
        size = self.head.spec.num_acting
        if log_std.bounds is not None:
            low, high = log_std.bounds
            self.program.activation(Function("tanh"), "log_std.tanh")
            self._scale((high - low) / 2, (high + low) / 2)
        elif log_std.softplus is not None:
            self.program.activation(Function("softplus"), "log_std.softplus")
            self._scale(1.0, log_std.softplus)
            # Half the logarithm of the square and a millionth: the operation of gSDE, asked of each action alone.
            variance = np.eye(size, dtype=np.float32)
            self.program.add(Op("sde_log_std", (self.program.last,), "log_std", {}, {"variance": variance}))
        if self.squash == "clip":
            tensors = {"scale": np.ones(1, np.float32), "shift": np.asarray(self._log_scale(), np.float32)}
            self.program.add(Op("scale", (self.program.last,), "log_std.units", {}, tensors))

    def _scale(self, scale: float, shift: float) -> None:
        tensors = {"scale": np.array([scale], np.float32), "shift": np.array([shift], np.float32)}
        self.program.add(Op("scale", (self.program.last,), f"{self.program.last}.scaled", {}, tensors))

    def _in_units(self, tensor: Array) -> Array:
        """Weight or bias of the means, in the environment's units where actions are clipped first and then scaled."""
        if self.squash != "clip":
            return np.ascontiguousarray(tensor)
        half, centre = self._box()
        scaled = tensor * (half if tensor.ndim == 1 else half[:, None])
        # The clip to [-1, 1] is then the one to the Box, which the head does.
        return np.asarray(scaled + centre if tensor.ndim == 1 else scaled, np.float32)

    def _log_scale(self) -> Array | float:
        return np.log(self._box()[0]) if self.squash == "clip" else 0.0

    def _box(self) -> tuple[Array, Array]:
        """Half the range and the centre of each action."""
        low, high = np.asarray(self.head.spec.low), np.asarray(self.head.spec.high)
        return (high - low) / 2, (high + low) / 2

    def _check_all_used(self) -> None:
        """A tensor left over means a network of another make, which would act differently."""
        for name in self.program.archive.tensors:
            if name not in self.program.used and not re.fullmatch(self.layout.bystanders, name):
                raise KDError(f"{self.source}: its tensor {name!r} is not understood as one of {self.layout.library}")

    def _hash(self) -> str:
        """The file's; under other assumptions it is another teacher."""
        chosen = [f"{name}={getattr(self.request, name)}" for name in ASSUMED if getattr(self.request, name)]
        if not chosen:
            return self.sha256
        return hashlib.sha256(" ".join([self.sha256, *chosen]).encode()).hexdigest()


def spaces_named(request: Request, source: str, library: str) -> tuple[gym.spaces.Box, gym.Space[Any]]:
    """The environment's spaces, of which a file of weights says nothing.

    Args:
        request: How it is asked for.
        source: The file.
        library: What wrote it, for messages.

    Raises:
        KDError: No environment is named, or its observations are no plain numbers.
    """
    if request.env is None:
        raise KDError(f"{source}: a file of {library} does not say what it acts on; name the environment (--env)")
    spaces: Spaces = request.env
    if not isinstance(spaces[0], gym.spaces.Box):
        raise KDError(f"{source}: a policy of {library} reads a Box, the environment has {spaces[0]}")
    return spaces[0], spaces[1]
