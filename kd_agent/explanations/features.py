"""Features of an observation: its numbers, and patches of its images, each under a name.

Letters: `B` batch, `*O` shape of an observation.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from kd_agent.environments import is_image
from kd_agent.errors import KDError
from kd_agent.policies import OBSERVATION, Array, HeadSpec, ObservationSpec

GRID = 8
"""Patches of an image along each side, at most."""

NAMES: dict[str, tuple[str, ...]] = {
    "CartPole": ("cart position", "cart velocity", "pole angle", "pole angular velocity"),
    "Acrobot": ("cos of joint 1", "sin of joint 1", "cos of joint 2", "sin of joint 2",
                "angular velocity 1", "angular velocity 2"),
    "MountainCar": ("position", "velocity"),
    "Pendulum": ("cos of angle", "sin of angle", "angular velocity"),
    "LunarLander": ("x", "y", "x velocity", "y velocity", "angle", "angular velocity", "left leg contact",
                    "right leg contact"),
    "BipedalWalker": ("hull angle", "hull angular velocity", "x velocity", "y velocity",
                      *(f"{joint} {leg} {what}" for leg in (1, 2) for joint, what in (
                          ("hip", "angle"), ("hip", "speed"), ("knee", "angle"), ("knee", "speed"),
                          ("leg", "contact"))),
                      *(f"lidar {beam}" for beam in range(1, 11))),
}  # fmt: skip
"""What Gymnasium's documentation calls the entries of an observation, by the environment's name."""
ACTIONS: dict[str, tuple[str, ...]] = {
    "CartPole": ("left", "right"),
    "Acrobot": ("torque -1", "no torque", "torque +1"),
    "MountainCar": ("left", "coast", "right"),
    "LunarLander": ("no engine", "left engine", "main engine", "right engine"),
}
"""What it calls the actions of a Discrete space."""
_VARIANT = re.compile(r"(?:kd_envs/)?(\w+?)(?:Continuous|Hardcore|Drift|Pixels|Blind|NoVel)?-v\d+")


@dataclass(frozen=True)
class Feature:
    """A part of an observation.

    Attributes:
        name: What it is called.
        key: Key of its observation array.
        where: Its place in one observation `[*O]`: an index of each axis, or slices that cut out a patch.
        cell: Row and column of a patch among those of its image.
    """

    name: str
    key: str
    where: tuple[int | slice, ...]
    cell: tuple[int, int] | None = None

    def of(self, observations: Mapping[str, Array]) -> Array:
        """Its values `[B, ...]`."""
        return np.asarray(observations[self.key][(slice(None), *self.where)])

    def replaced(self, observations: Mapping[str, Array], values: Array) -> dict[str, Array]:
        """Observations with other values `[B, ...]` of it; the given ones are left as they are."""
        array = observations[self.key].copy()
        array[(slice(None), *self.where)] = values
        return {**observations, self.key: array}


def features_of(
    observations: Mapping[str, ObservationSpec], env_id: str = "", names: Sequence[str] = ()
) -> list[Feature]:
    """Every feature, key by key.

    Args:
        observations: What a policy sees.
        env_id: Gymnasium id, whose entries may have names.
        names: Names of all numbers, in order, instead.

    Raises:
        KDError: There are more or fewer names than numbers.
    """
    found = [f for key, spec in observations.items() for f in _features(key, spec, env_id, len(observations))]
    numbers = sum(f.cell is None for f in found)
    if names and len(names) != numbers:
        raise KDError(f"names: {len(names)} given, but the observation has {numbers} numbers that want one")
    given = iter(names)
    return [Feature(next(given), f.key, f.where) if names and f.cell is None else f for f in found]


def action_names(env_id: str, head: HeadSpec) -> list[str]:
    """Names of the actions of a categorical head (their numbers, where no other names are known)."""
    known = ACTIONS.get(_base(env_id), ())
    return list(known) if len(known) == head.num_params else [str(head.start[0] + i) for i in range(head.num_params)]


def grid(spec: ObservationSpec) -> tuple[int, int]:
    """Rows and columns of an image's patches; the axis of the fewest entries is taken for the channels."""
    rows, columns = (min(GRID, side) for axis, side in enumerate(spec.shape) if axis != int(np.argmin(spec.shape)))
    return rows, columns


def _base(env_id: str) -> str:
    """An environment's name without version and variant ("" where it has none)."""
    known = _VARIANT.fullmatch(env_id)
    return known.group(1) if known else ""


def _features(key: str, spec: ObservationSpec, env_id: str, keys: int) -> list[Feature]:
    if is_image(spec):
        return _patches(key, spec)
    prefix = "x" if key == OBSERVATION else key
    names = NAMES.get(_base(env_id), ())
    if spec.shape == (len(names),):
        owner = "" if keys == 1 else f"{key}: "
        return [Feature(owner + name, key, (index,)) for index, name in enumerate(names)]
    return [Feature(f"{prefix}[{', '.join(map(str, i))}]" if i else prefix, key, i) for i in np.ndindex(spec.shape)]


def _patches(key: str, spec: ObservationSpec) -> list[Feature]:
    channels = int(np.argmin(spec.shape))
    sides = [side for axis, side in enumerate(spec.shape) if axis != channels]
    edges = [np.linspace(0, side, n + 1).astype(int).tolist() for side, n in zip(sides, grid(spec), strict=True)]
    found = []
    for cell in np.ndindex(grid(spec)):
        cuts = [slice(edge[i], edge[i + 1]) for edge, i in zip(edges, cell, strict=True)]
        cuts.insert(channels, slice(None))
        found.append(Feature(f"{key} patch {cell[0]}, {cell[1]}", key, tuple(cuts), (cell[0], cell[1])))
    return found
