"""Features of an observation: its numbers, and patches of its images, each under a name.

Letters: `B` batch, `*O` shape of an observation.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from kd_agent.environments import is_image
from kd_agent.errors import KDError
from kd_agent.policies import OBSERVATION, Array, ObservationSpec
from kd_agent.policies.names import number_names

GRID = 8
"""Patches of an image along each side, at most."""


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
        """Observations that have other values of it; those passed are left as they are.

        Args:
            observations: Arrays `[B, *O]` by key.
            values: Its values there, `[B, ...]` or what broadcasts to that.
        """
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
    alone = len(observations) == 1
    features: list[Feature] = []
    for key, spec in observations.items():
        features += _features(key, spec, env_id, alone)
    return _renamed(features, names) if names else features


def grid(spec: ObservationSpec) -> tuple[int, int]:
    """Rows and columns of an image's patches; the axis of the fewest entries is taken for the channels."""
    height, width = _sides(spec)
    return min(GRID, height), min(GRID, width)


def _renamed(features: Sequence[Feature], names: Sequence[str]) -> list[Feature]:
    numbers = sum(feature.cell is None for feature in features)
    if len(names) != numbers:
        raise KDError(f"names: {len(names)} given, but the observation has {numbers} numbers that want one")
    unused = iter(names)
    renamed = []
    for feature in features:
        # A patch is called by its place in the image, and takes none of the names.
        name = next(unused) if feature.cell is None else feature.name
        renamed.append(replace(feature, name=name))
    return renamed


def _features(key: str, spec: ObservationSpec, env_id: str, alone: bool) -> list[Feature]:
    if is_image(spec):
        return _patches(key, spec)
    known = number_names(env_id, spec.shape)
    if known:
        owner = "" if alone else f"{key}: "
        return [Feature(owner + name, key, (index,)) for index, name in enumerate(known)]
    prefix = "x" if key == OBSERVATION else key
    features = []
    for index in np.ndindex(spec.shape):
        place = ", ".join(map(str, index))
        # A lone number, of shape (), is at no place.
        name = f"{prefix}[{place}]" if index else prefix
        features.append(Feature(name, key, index))
    return features


def _channels(spec: ObservationSpec) -> int:
    """The axis of an image that is neither height nor width: first in torch's images, last in Gymnasium's."""
    return int(np.argmin(spec.shape))


def _sides(spec: ObservationSpec) -> tuple[int, int]:
    height, width = np.delete(spec.shape, _channels(spec)).tolist()
    return height, width


def _patches(key: str, spec: ObservationSpec) -> list[Feature]:
    edges = []
    for side, count in zip(_sides(spec), grid(spec), strict=True):
        edges.append(np.linspace(0, side, count + 1).astype(int).tolist())
    features = []
    for row, column in np.ndindex(grid(spec)):
        cuts = [slice(*edges[0][row : row + 2]), slice(*edges[1][column : column + 2])]
        # A patch is cut through all channels: a colour alone is nothing that a person would point at.
        cuts.insert(_channels(spec), slice(None))
        features.append(Feature(f"{key} patch {row}, {column}", key, tuple(cuts), (row, column)))
    return features
