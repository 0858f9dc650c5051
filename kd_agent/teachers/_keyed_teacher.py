"""A teacher that observes a part of a Dict observation."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from kd_agent.networks import Layers, Observations, PolicyOutput, State, Teacher
from kd_agent.policies import OBSERVATION, Array, PolicyGraph


class KeyedTeacher(Teacher):
    """A teacher that observes only some keys of a Dict observation (a privileged teacher, say).

    Args:
        teacher: The teacher; it was loaded for the space of its keys alone.
        keys: Which; a single one is what the teacher calls its observation.
        names: What the teacher calls each of them, where that is something else.
    """

    def __init__(self, teacher: Teacher, keys: Sequence[str], names: Mapping[str, str] | None = None) -> None:
        self._teacher = teacher
        self._keys = tuple(keys)
        self._names = names or {}
        self.head = teacher.head
        self.origin = teacher.origin
        self.recurrent = teacher.recurrent
        self.observations = {key: teacher.observations[self._name(key)] for key in keys}

    @property
    def widest_layer(self) -> int:
        """The teacher's."""
        return self._teacher.widest_layer

    @property
    def last_layer(self) -> str | None:
        """The teacher's."""
        return self._teacher.last_layer

    @property
    def layers(self) -> Layers | None:
        """The teacher's."""
        layers = self._teacher.layers
        if layers is None:
            return None
        normalizers = {}
        for key in self._keys:
            if self._name(key) in layers.normalizers:
                normalizers[key] = layers.normalizers[self._name(key)]
        return replace(layers, normalizers=normalizers)

    def to_graph(self) -> PolicyGraph:
        """The teacher's, reading the keys that it observes by the names that they have here."""
        graph = self._teacher.to_graph()
        known = {self._name(key): key for key in self._keys}
        ops = []
        for op in graph.ops:
            ops.append(replace(op, inputs=tuple(known.get(name, name) for name in op.inputs)))
        return replace(graph, observations=self.observations, ops=tuple(ops))

    def __call__(
        self, observations: Observations, state: State = None, episode_start: Array | None = None
    ) -> PolicyOutput:
        """Label a batch `[B, *O]` by key."""
        observed = {self._name(key): observations[key] for key in self._keys}
        return self._teacher(observed, state, episode_start)

    def _name(self, key: str) -> str:
        """What the teacher itself calls a key."""
        if key in self._names:
            return self._names[key]
        # A single key was selected as a plain space, not as a Dict of one.
        return OBSERVATION if len(self._keys) == 1 else key
