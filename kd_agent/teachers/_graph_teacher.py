"""A teacher that is a program: someone else's network read as data, or a saved student.

Letters: `B` batch.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch

from kd_agent.networks import ActionHead, Layers, Observations, Origin, PolicyOutput, State, Teacher
from kd_agent.policies import PARAMS, Array, Op, PolicyGraph, compile_ops
from kd_agent.teachers._perceptron import read_layers


class GraphTeacher(Teacher):
    """A teacher that is a PolicyGraph: someone else's network read as data, or a saved student.

    Args:
        graph: Its program; every register is offered as a feature.
        origin: Where it comes from.
        critic: Operations that go on from the graph's registers and write `value [B, 1]`.
        look: Is shown every batch of observations, `[B, *O]` by key.
    """

    def __init__(
        self,
        graph: PolicyGraph,
        origin: Origin,
        critic: Sequence[Op] = (),
        look: Callable[[Observations], None] | None = None,
    ) -> None:
        self.graph = graph
        self.origin = origin
        self.head = ActionHead(graph.head)
        self.observations = graph.observations
        self.recurrent = bool(graph.states)
        self._look = look
        self._run = compile_ops([*graph.ops, *critic])

    def to_graph(self) -> PolicyGraph:
        """Its program."""
        return self.graph

    @property
    def sampled(self) -> bool:
        """Whether it is a student that is meant to be played by samples."""
        return self.graph.sampled

    @property
    def widest_layer(self) -> int:
        """Units of the widest linear layer before the last."""
        widths = [len(op.tensors["bias"]) for op in self.graph.ops if op.kind == "linear"]
        hidden = widths[:-1]  # the last one writes the action
        return max(hidden, default=0)

    @property
    def last_layer(self) -> str | None:
        """What the last linear layer that acts reads; None where it reads the observation."""
        register = None
        for op in self.graph.acting_ops():
            if op.kind == "linear":
                register = op.inputs[0]
        hidden = {op.output for op in self.graph.ops if op.kind in ("activation", "lstm", "gru", "slice")}
        return register if register in hidden else None

    @property
    def layers(self) -> Layers | None:
        """What the program is, where it is a plain multilayer perceptron."""
        return read_layers(self.graph)

    def __call__(
        self, observations: Observations, state: State = None, episode_start: Array | None = None
    ) -> PolicyOutput:
        """Label a batch `[B, *O]` by key."""
        if self._look is not None:
            self._look(observations)
        batch = len(next(iter(observations.values())))
        registers = self._run({**observations, **self.graph.memory(batch, state, episode_start)})
        memory = self.graph.next_state(registers)
        features = {}
        for name, array in registers.items():
            if array.ndim == 2 and array.dtype == np.float32:
                features[name] = torch.from_numpy(array)
        params = features.pop(PARAMS)
        value = features.pop("value", None)
        if value is not None:
            value = value[:, 0]
        states = tuple(map(torch.from_numpy, memory)) if memory else None
        return PolicyOutput(params, value, features, states)
