"""Rollouts: states visited by teacher, student or the random policy, each labelled by the teacher.

Letters: `T` steps, `N` environments, `P` head parameters, `M` flags of an action mask, `F` features of a layer, `*A`
shape of an action, `*O` shape of an observation, `S` states.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np

from kd_agent.errors import KDError
from kd_agent.policies import Array

TEACHER, STUDENT, RANDOM = 0, 1, 2
"""Who chose an action, in `Rollout.driver`."""


@dataclass(frozen=True)
class Rollout:
    """Arrays of one round.

    Attributes:
        obs: Observations `[T, N, *O]` by key.
        params: The teacher's rows `[T, N, P]`, float32.
        driver: Who chose the action, `[T, N]`.
        reward: `[T, N]`.
        episode_start: `[T, N]`, whether the observation is the first of an episode.
        weight: `[T, N]`, weight of each state in the fit.
        value: The teacher's estimates `[T, N]`, where it has a critic.
        layer: One of the teacher's layers `[T, N, F]`, where that was asked for.
        mask: What was allowed `[T, N, M]`, where teacher or student plays with masks; `params` are masked by it.
        action: What was done `[T, N, *A]`; None in rollouts of older versions, and where nobody acted.
        terminated: Whether that ended the episode other than by a limit `[T, N]`; None as `action`.
    """

    obs: Mapping[str, Array]
    params: Array
    driver: Array
    reward: Array
    episode_start: Array
    weight: Array
    value: Array | None = None
    layer: Array | None = None
    mask: Array | None = None
    action: Array | None = None
    terminated: Array | None = None

    def __post_init__(self) -> None:
        shape = self.driver.shape
        for array in self.arrays().values():
            if len(shape) != 2 or array.shape[:2] != shape:
                raise KDError("the arrays of a rollout differ in steps or environments")
        if not np.isfinite(self.params).all():
            raise KDError("the teacher answered NaN or infinity")

    def arrays(self) -> dict[str, Array]:
        """Plain arrays, for a checkpoint."""
        arrays = {}
        for key, array in self.obs.items():
            arrays[f"obs.{key}"] = array
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name != "obs" and value is not None:
                arrays[field.name] = value
        return arrays

    @staticmethod
    def from_arrays(arrays: Mapping[str, Array]) -> "Rollout":
        """Inverse of `arrays`."""
        obs: dict[str, Array] = {}
        rest: dict[str, Array] = {}
        for name, array in arrays.items():
            if name.startswith("obs."):
                obs[name.removeprefix("obs.")] = array
            else:
                rest[name] = array
        return Rollout(obs, **rest)


def aggregate(rollouts: Sequence[Rollout]) -> dict[str, Array]:
    """The arrays that all rollouts have, `Rollout.arrays`, state by state `[S, ...]`: DAgger's data set."""
    parts: dict[str, list[Array]] = {}
    for rollout in rollouts:
        for name, array in rollout.arrays().items():
            parts.setdefault(name, []).append(array.reshape(-1, *array.shape[2:]))
    # A run that was begun by an older version has rounds that do not tell what was done.
    return {name: np.concatenate(arrays) for name, arrays in parts.items() if len(arrays) == len(rollouts)}


def in_one_step(rollouts: Sequence[Rollout]) -> Rollout:
    """All states of rollouts, in their order, as one step of `S` environments: for what needs no order."""
    return Rollout.from_arrays({name: array[None] for name, array in aggregate(rollouts).items()})
