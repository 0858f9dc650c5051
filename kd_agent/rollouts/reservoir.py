"""A reservoir: a uniform sample, of bounded size, of every state ever seen.

Letters: `S` states, `*O` shape of an observation.
"""

from collections.abc import Mapping

import numpy as np

from kd_agent.networks import LAYER, Teacher
from kd_agent.policies import PARAMS, Array
from kd_agent.rollouts.collect import STUDENT, Rollout

_CHUNK = 4096


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
        self.capacity, self.seen = capacity, 0
        self.observations: dict[str, Array] = {}
        self._rng = np.random.default_rng(seed)

    def __len__(self) -> int:
        return min(self.seen, self.capacity)

    def add(self, observations: Mapping[str, Array]) -> None:
        """Offer states `[S, *O]` by key, one after the other: state `t` takes a place drawn among `t`."""
        count = len(next(iter(observations.values())))
        free = min(self.capacity - len(self), count)
        drawn = self._rng.integers(0, self.seen + 1 + np.arange(free, count))
        taken = np.flatnonzero(drawn < self.capacity)
        for key, states in observations.items():
            held = self.observations.get(key, states[:0])
            self.observations[key] = np.concatenate([held, states[:free]])
            self.observations[key][drawn[taken]] = states[free:][taken]
        self.seen += count

    def labelled(self, teacher: Teacher, layer: str | None = None) -> Rollout:
        """The states held, with a teacher's present answers, as one step of `S` environments."""
        return labelled(self.observations, teacher, layer)


def labelled(observations: Mapping[str, Array], teacher: Teacher, layer: str | None = None) -> Rollout:
    """States `[S, *O]` by key with a teacher's answers, as one step of `S` environments.

    Args:
        observations: The states.
        teacher: One without memory, for the states are in no order.
        layer: Name of the teacher's layer to keep.
    """
    count = len(next(iter(observations.values())))
    answers: list[dict[str, Array]] = []
    for first in range(0, count, _CHUNK):
        output = teacher({key: states[first : first + _CHUNK] for key, states in observations.items()})
        answer = {PARAMS: output.params, "value": output.value}
        if layer is not None:
            answer[LAYER] = output.layer(layer, "the teacher")
        answers.append({name: tensor.numpy() for name, tensor in answer.items() if tensor is not None})
    rows = {name: np.concatenate([answer[name] for answer in answers])[None] for name in answers[0]}
    shape = (1, count)
    return Rollout(
        {key: states[None] for key, states in observations.items()},
        driver=np.full(shape, STUDENT, np.int8),
        reward=np.zeros(shape, np.float32),
        episode_start=np.ones(shape, bool),
        weight=np.ones(shape, np.float32),
        **rows,
    )


def flat(rollout: Rollout) -> dict[str, Array]:
    """The observations of a rollout, `[S, *O]` by key."""
    return {key: states.reshape(-1, *states.shape[2:]) for key, states in rollout.obs.items()}
