"""Gymnasium spaces: what they say of arrays, and whether two of them fit."""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium as gym
import numpy as np

from kd_agent.errors import KDError, unknown
from kd_agent.policies import OBSERVATION, Array, HeadSpec, ObservationSpec

_ARRAYS = (gym.spaces.Box, gym.spaces.Discrete, gym.spaces.MultiDiscrete, gym.spaces.MultiBinary)
"""The spaces of arrays of numbers."""


def observation_specs(space: gym.Space[Any]) -> dict[str, ObservationSpec]:
    """Shape and dtype of each observation array as policies see it (floats as float32).

    Raises:
        KDError: A space that is not (a Dict of) arrays of fixed shape, or has categories that do not start at 0.
    """
    parts = dict(space.spaces) if isinstance(space, gym.spaces.Dict) else {OBSERVATION: space}
    if not parts:
        raise KDError(f"the observation space {space} shows nothing: a policy needs at least one array")
    specs: dict[str, ObservationSpec] = {}
    for key, part in parts.items():
        # Text has a shape of no arrays, and Tuples of one kind have neither.
        if not isinstance(part, _ARRAYS):
            raise KDError(f"observation {key!r} of space {part} is not an array of fixed shape{flattening(space)}")
        if any(_start(part)):
            raise KDError(
                f"observation {key!r} of space {part}: categories are read where they start at 0{flattening(space)}"
            )
        dtype = _policy_dtype(np.dtype(part.dtype))
        specs[key] = ObservationSpec(tuple(part.shape or ()), dtype.name, _categories(part))
    return specs


def flattening(space: gym.Space[Any]) -> str:
    """The end of a message: the wrapper that makes one array of such observations; "" where none can."""
    if not space.is_np_flattenable:
        return ""
    return "; a wrapper makes one array of it: --wrapper gymnasium.wrappers:FlattenObservation"


def as_sb3_acts(space: gym.Space[Any]) -> gym.Space[Any]:
    """An action space with categories from 0, whatever their start: as Stable-Baselines3 hands them to `env.step`."""
    if isinstance(space, gym.spaces.Discrete):
        return gym.spaces.Discrete(int(space.n))
    if isinstance(space, gym.spaces.MultiDiscrete):
        return gym.spaces.MultiDiscrete(space.nvec)
    return space


def as_policies_act(space: gym.Space[Any], head: HeadSpec) -> gym.Space[Any]:
    """An action space whose categories start where those of a head do; other spaces as they are.

    Args:
        space: The environment's.
        head: That of the policies which play in it.
    """
    if any(head.start):
        return space
    return as_sb3_acts(space)


def is_image(spec: ObservationSpec) -> bool:
    """Whether an observation is an image: `uint8` with three axes."""
    return spec.dtype == "uint8" and len(spec.shape) == 3


def _categories(space: gym.Space[Any]) -> tuple[int, ...]:
    """The sizes of a Discrete's or MultiDiscrete's parts; nothing for other spaces."""
    if isinstance(space, gym.spaces.Discrete):
        return (int(space.n),)
    if isinstance(space, gym.spaces.MultiDiscrete):
        return tuple(map(int, np.ravel(space.nvec)))
    return ()


def _start(space: gym.Space[Any]) -> tuple[int, ...]:
    """The first number of each part of a Discrete or MultiDiscrete; nothing for other spaces."""
    if isinstance(space, gym.spaces.Discrete | gym.spaces.MultiDiscrete):
        return tuple(map(int, np.ravel(space.start)))
    return ()


def select(space: gym.Space[Any], keys: Sequence[str], flag: str) -> gym.Space[Any]:
    """The part of a Dict space that `keys` name: one key's own space, or a Dict of several; all without keys.

    Args:
        space: The space of an environment's observations.
        keys: Which of its parts.
        flag: The setting that names them, for the message.

    Raises:
        KDError: A key is unknown, or the space is not a Dict.
    """
    if not keys:
        return space
    parts = space.spaces if isinstance(space, gym.spaces.Dict) else {}
    for key in keys:
        if key not in parts:
            raise unknown(f"observation key of {flag}", key, parts or ["none: the observation is not a Dict"])
    if len(keys) == 1:
        return parts[keys[0]]
    return gym.spaces.Dict({key: parts[key] for key in keys})


def as_mapping(observations: Any) -> dict[str, Array]:
    """A batch of observations by key, floats as float32."""
    parts = observations if isinstance(observations, Mapping) else {OBSERVATION: observations}
    return {key: _float32(np.asarray(part)) for key, part in parts.items()}


def _float32(array: Array) -> Array:
    return array.astype(_policy_dtype(array.dtype), copy=False)


def _policy_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The dtype in which policies read an array: float32 for every float."""
    return np.dtype(np.float32) if dtype.kind == "f" else dtype


def check_same(own: gym.Space[Any], other: gym.Space[Any], what: str, *, bounds: bool) -> None:
    """Require two spaces to be of one kind, shape, size and start (of Dicts: in every part that `own` has).

    Args:
        own: The space of a policy.
        other: The environment's.
        what: What is compared, for the message.
        bounds: Whether a Box's bounds must agree too (else: a warning).

    Raises:
        KDError: They differ.
    """
    if isinstance(own, gym.spaces.Dict) and isinstance(other, gym.spaces.Dict):
        for key, part in own.items():
            if key not in other.spaces:
                raise KDError(f"{what} have the key {key!r}, but the environment has {', '.join(other)}")
            check_same(part, other[key], f"{what} {key!r}", bounds=bounds)
        return
    if type(own) is not type(other) or _size(own) != _size(other):
        raise KDError(f"{what} are {own}, but the environment has {other}")
    if isinstance(own, gym.spaces.Box) and isinstance(other, gym.spaces.Box):
        if np.allclose(own.low, other.low) and np.allclose(own.high, other.high):
            return
        # Bounds of actions decide what an action does; those of observations are often a guess of the environment's.
        if bounds:
            raise KDError(f"{what} are {own}, but the environment has {other}")
        warnings.warn(f"{what} have other bounds than the environment's", stacklevel=2)


def _size(space: gym.Space[Any]) -> tuple[Any, ...]:
    """What two spaces of one kind must have in common; of a Box not the width of its floats."""
    categories = _categories(space)
    if categories:
        return (categories, _start(space))
    return (space.shape, np.dtype(space.dtype).kind)
