"""A reservoir: a uniform sample, of bounded size, of every state ever seen.

Letters: `S` states, `*O` shape of an observation.
"""

from collections.abc import Mapping

import numpy as np

from kd_agent.networks import LAYER, Teacher
from kd_agent.policies import PARAMS, Array
from kd_agent.rollouts.rollout import STUDENT, Rollout

_CHUNK = 4096
"""States that a teacher labels at once: a whole reservoir of images would not fit into memory twice."""


class Reservoir:
    """Observations; at any time each of the `seen` ones is held with the same probability (Vitter 1985, algorithm R).

    Labels are not kept: whoever teaches now gives them (`labelled`), so no state has two.

    Args:
        capacity: States held at most.
        seed: Seed of the choice.

    Attributes:
        seen: States offered so far.
        observations: Those held, `[S, *O]` by key.
    """

    def __init__(self, capacity: int, seed: int) -> None:
        self.capacity = capacity
        self.seen = 0
        self.observations: dict[str, Array] = {}
        self._rng = np.random.default_rng(seed)

    def __len__(self) -> int:
        return min(self.seen, self.capacity)

    def add(self, observations: Mapping[str, Array]) -> None:
        """Offer states `[S, *O]` by key, one after the other: state `t` takes a place drawn among `t`."""
        count = len(next(iter(observations.values())))
        free = min(self.capacity - len(self), count)
        # The first states fill what is free. Of those after them, state t (counted from 1) is kept with probability
        # capacity / t: where a number drawn among 0 to t - 1 is a place, and in that place.
        drawn = self._rng.integers(0, self.seen + 1 + np.arange(free, count))
        taken = np.flatnonzero(drawn < self.capacity)
        for key, states in observations.items():
            held = self.observations.get(key, states[:0])
            self.observations[key] = np.concatenate([held, states[:free]])
            # Of two that drew the same place the later one stays, as if they had come one by one.
            self.observations[key][drawn[taken]] = states[free:][taken]
        self.seen += count

    def labelled(self, teacher: Teacher, layer: str | None = None) -> Rollout:
        """The states held, with a teacher's present answers, as one step of `S` environments.

        Args:
            teacher: Who labels them; without memory, for the states are in no order.
            layer: Name of the teacher's layer to keep.
        """
        return labelled(self.observations, teacher, layer)


def labelled(observations: Mapping[str, Array], teacher: Teacher, layer: str | None = None) -> Rollout:
    """States `[S, *O]` by key with a teacher's answers, as one step of `S` environments.

    Args:
        observations: The states.
        teacher: One without memory, for the states are in no order.
        layer: Name of the teacher's layer to keep.
    """
    count = len(next(iter(observations.values())))
    parts: dict[str, list[Array]] = {}
    for first in range(0, count, _CHUNK):
        chunk = {key: states[first : first + _CHUNK] for key, states in observations.items()}
        for name, rows in _answer(teacher, chunk, layer).items():
            parts.setdefault(name, []).append(rows)
    answers: dict[str, Array] = {}
    for name, arrays in parts.items():
        answers[name] = np.concatenate(arrays)[None]
    shape = (1, count)
    return Rollout(
        {key: states[None] for key, states in observations.items()},
        driver=np.full(shape, STUDENT, np.int8),
        reward=np.zeros(shape, np.float32),
        episode_start=np.ones(shape, bool),
        weight=np.ones(shape, np.float32),
        **answers,
    )


def _answer(teacher: Teacher, observations: Mapping[str, Array], layer: str | None) -> dict[str, Array]:
    """What a teacher says of states, by the names of `Rollout`."""
    output = teacher(observations)
    answer = {PARAMS: output.params.numpy()}
    if output.value is not None:
        answer["value"] = output.value.numpy()
    if layer is not None:
        answer[LAYER] = output.layer(layer, "the teacher").numpy()
    return answer


def flat(rollout: Rollout) -> dict[str, Array]:
    """The observations of a rollout, `[S, *O]` by key."""
    return {key: states.reshape(-1, *states.shape[2:]) for key, states in rollout.obs.items()}
