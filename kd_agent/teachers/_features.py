"""From observations to the features that a policy's layers read, as Stable-Baselines3 prepares them."""

import re
from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np
from stable_baselines3.common.preprocessing import is_image_space, is_image_space_channels_first

from kd_agent.errors import KDError
from kd_agent.policies import OBSERVATION, Normalizer, Op
from kd_agent.teachers._archive import NotUnderstoodError
from kd_agent.teachers._layers import Program

_EXTRACTORS = re.compile(r"stable_baselines3\.common\.torch_layers\.(NatureCNN|FlattenExtractor|CombinedExtractor)")
_STRIDES = {0: 4, 2: 2, 4: 1}
"""Strides of NatureCNN's convolutions (Mnih et al. 2015) by their position."""


def parts_of(space: gym.Space[Any]) -> dict[str, gym.Space[Any]]:
    """The spaces of each observation register, in order."""
    return dict(space.spaces) if isinstance(space, gym.spaces.Dict) else {OBSERVATION: space}


def prepare(
    program: Program,
    space: gym.Space[Any],
    own: gym.Space[Any] | None,
    normalizers: Mapping[str, Normalizer],
) -> dict[str, str]:
    """Normalise, turn images, scale them, encode whole numbers.

    Args:
        program: Gains the operations.
        space: The environment's observation space.
        own: The teacher's, where it is known: its images may have the channels first.
        normalizers: VecNormalize's statistics by key.

    Returns:
        The register of each key's prepared observation.

    Raises:
        KDError: Statistics have another shape than the observations, or the extractor is not one of SB3's.
    """
    kind = program.archive.policy_kwarg("features_extractor_class")
    if kind is not None and not _EXTRACTORS.search(str(kind)):
        raise NotUnderstoodError(f"{program.source}: the features extractor {kind} is not understood")
    theirs = parts_of(own) if own is not None else {}
    registers = {}
    for key, part in parts_of(space).items():
        program.last = key
        if key in normalizers:
            _normalise(program, key, part, normalizers[key])
        elif is_image_space(part):
            _image(program, key, part, theirs.get(key))
        elif isinstance(part, gym.spaces.Discrete | gym.spaces.MultiDiscrete):
            sizes = [int(n) for n in np.ravel(getattr(part, "nvec", getattr(part, "n", 0)))]
            program.add(Op("one_hot", (key,), f"{key}.one_hot", {"sizes": sizes}))
        elif part.shape is None or len(part.shape) != 1 or np.dtype(part.dtype).kind != "f":
            program.add(Op("flatten", (key,), f"{key}.flat"))
        registers[key] = program.last
    return registers


def extract(program: Program, prefix: str, registers: Mapping[str, str]) -> None:
    """The features extractor `prefix`: a NatureCNN for each key that has one, the others flat, side by side."""
    outputs = []
    for key, register in registers.items():
        program.last = register
        name = prefix if list(registers) == [OBSERVATION] else f"{prefix}.extractors.{key}"
        if program.has(f"{name}.cnn.0.weight"):
            _nature_cnn(program, name)
        elif register.endswith(".scaled"):
            program.add(Op("flatten", (register,), f"{name}.flat"))
        outputs.append(program.last)
    if len(outputs) > 1:
        program.add(Op("concatenate", tuple(outputs), f"{prefix}.joined"))


def _normalise(program: Program, key: str, part: gym.Space[Any], normalizer: Normalizer) -> None:
    if normalizer.mean.shape != part.shape:
        raise KDError(f"{program.source}: statistics of shape {normalizer.mean.shape} for observations {key!r} "
                      f"of {part.shape}")  # fmt: skip
    program.add(normalizer.op(key, f"{key}.normal"))
    if len(part.shape) != 1:
        program.add(Op("flatten", (program.last,), f"{key}.flat"))


def _image(program: Program, key: str, part: gym.Space[Any], own: gym.Space[Any] | None) -> None:
    """Channels first and numbers in [0, 1]."""
    assert isinstance(part, gym.spaces.Box)
    turned = (own.shape != part.shape) if own is not None else not is_image_space_channels_first(part)
    if turned:
        program.add(Op("transpose", (key,), f"{key}.channels_first", {"axes": [2, 0, 1]}))
    factor = 1.0 if str(program.archive.policy_kwarg("normalize_images", True)) == "False" else 1 / 255
    tensors = {"scale": np.array([factor], np.float32), "shift": np.zeros(1, np.float32)}
    program.add(Op("scale", (program.last,), f"{key}.scaled", {}, tensors))


def _nature_cnn(program: Program, name: str) -> None:
    for index, stride in _STRIDES.items():
        program.conv2d(f"{name}.cnn.{index}", f"{name}.cnn.{index}", stride)
        program.activation("relu", f"{name}.cnn.{index}.active")
    program.add(Op("flatten", (program.last,), f"{name}.cnn.flat"))
    program.linear(f"{name}.linear.0", f"{name}.linear.0")
    program.activation("relu", f"{name}.linear.0.active")


def as_seen(space: gym.Space[Any], own: gym.Space[Any]) -> gym.Space[Any]:
    """The environment's space as a teacher with the space `own` saw it: images with the channels first."""
    if isinstance(space, gym.spaces.Dict) and isinstance(own, gym.spaces.Dict):
        return gym.spaces.Dict([(key, as_seen(part, own.get(key, part))) for key, part in space.items()])
    if isinstance(space, gym.spaces.Box) and is_image_space(space) and space.shape != own.shape:
        low, high = (np.moveaxis(side, 2, 0) for side in (space.low, space.high))
        return gym.spaces.Box(low, high, dtype=np.uint8)
    return space


def in_own_order(space: gym.Space[Any], own: gym.Space[Any] | None) -> gym.Space[Any]:
    """A Dict space with the teacher's keys alone, in the teacher's order; other spaces as they are."""
    if isinstance(space, gym.spaces.Dict) and isinstance(own, gym.spaces.Dict):
        return gym.spaces.Dict([(key, space[key]) for key in own])
    return space
