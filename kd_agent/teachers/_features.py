"""From observations to the features that a policy's layers read, as Stable-Baselines3 prepares them."""

import re
from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np
from stable_baselines3.common.preprocessing import is_image_space, is_image_space_channels_first

from kd_agent.errors import KDError
from kd_agent.policies import OBSERVATION, Normalizer, Op
from kd_agent.teachers._activation import RELU
from kd_agent.teachers._archive import NotUnderstoodError
from kd_agent.teachers._layers import Program
from kd_agent.teachers._program_features import is_program, keys_read, program_features

_EXTRACTORS = re.compile(
    r"<class 'stable_baselines3\.common\.torch_layers\.(NatureCNN|FlattenExtractor|CombinedExtractor)'>"
)
_STRIDES = {0: 4, 2: 2, 4: 1}
"""Strides of NatureCNN's convolutions (Mnih et al. 2015) by their position."""


def parts_of(space: gym.Space[Any]) -> dict[str, gym.Space[Any]]:
    """The spaces of each observation register, in order."""
    if isinstance(space, gym.spaces.Dict):
        return dict(space.spaces)
    return {OBSERVATION: space}


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
    whole = is_program(program.archive)
    if kind is not None and not whole and not _EXTRACTORS.fullmatch(str(kind)):
        raise NotUnderstoodError(f"{program.source}: the features extractor {kind} is not understood")
    own_parts = {} if own is None else parts_of(own)
    registers = {}
    for key, part in parts_of(space).items():
        program.last = key
        if whole and key not in keys_read(program.archive):
            continue
        # Once VecNormalize has normalised them, observations are plain floats to the policy, images too.
        if key in normalizers:
            _normalise(program, key, part, normalizers[key])
        elif is_image_space(part):
            _image(program, key, part, own_parts.get(key), scaled=not whole)
        elif isinstance(part, gym.spaces.Discrete | gym.spaces.MultiDiscrete):
            sizes = np.ravel(getattr(part, "nvec", getattr(part, "n", 0)))
            program.add(Op("one_hot", (key,), f"{key}.one_hot", {"sizes": list(map(int, sizes))}))
        # A program flattens by itself what it wants flat.
        elif not whole and (part.shape is None or len(part.shape) != 1 or np.dtype(part.dtype).kind != "f"):
            program.add(Op("flatten", (key,), f"{key}.flat"))
        registers[key] = program.last
    return registers


def extract(program: Program, prefix: str, registers: Mapping[str, str]) -> None:
    """The features extractor `prefix`: a NatureCNN for each key that has one, the others flat, side by side; or ours.

    Args:
        program: Gains the operations; its last register then holds the features `[B, F]`.
        prefix: Name of the extractor.
        registers: The register of each key's prepared observation.
    """
    if is_program(program.archive):
        program_features(program, prefix, registers)
        return
    is_dict = list(registers) != [OBSERVATION]
    outputs = []
    for key, register in registers.items():
        program.last = register
        name = f"{prefix}.extractors.{key}" if is_dict else prefix
        if program.has(f"{name}.cnn.0.weight"):
            _nature_cnn(program, name)
        elif register.endswith(".scaled"):
            program.add(Op("flatten", (register,), f"{name}.flat"))
        outputs.append(program.last)
    if len(outputs) > 1:
        program.add(Op("concatenate", tuple(outputs), f"{prefix}.joined"))


def _normalise(program: Program, key: str, part: gym.Space[Any], normalizer: Normalizer) -> None:
    if normalizer.mean.shape != part.shape:
        raise KDError(
            f"{program.source}: statistics of shape {normalizer.mean.shape} for observations {key!r} of {part.shape}"
        )
    program.add(normalizer.op(key, f"{key}.normal"))
    if len(part.shape) != 1:
        program.add(Op("flatten", (program.last,), f"{key}.flat"))


def _image(program: Program, key: str, part: gym.Space[Any], own: gym.Space[Any] | None, *, scaled: bool) -> None:
    """Channels first and, where they are scaled, numbers in [0, 1]."""
    assert isinstance(part, gym.spaces.Box)
    if _is_channels_last(part, own):
        program.add(Op("transpose", (key,), f"{key}.channels_first", {"axes": [2, 0, 1]}))
    if not scaled:
        return
    raw_bytes = str(program.archive.policy_kwarg("normalize_images", True)) == "False"
    scale = 1.0 if raw_bytes else 1 / 255
    tensors = {"scale": np.array([scale], np.float32), "shift": np.zeros(1, np.float32)}
    program.add(Op("scale", (program.last,), f"{key}.scaled", {}, tensors))


def _is_channels_last(part: gym.spaces.Box, own: gym.Space[Any] | None) -> bool:
    # SB3 wraps such environments in VecTransposeImage, so the zip tells the shape that the network takes.
    if own is not None:
        return own.shape != part.shape
    return not is_image_space_channels_first(part)


def _nature_cnn(program: Program, name: str) -> None:
    for index, stride in _STRIDES.items():
        program.conv2d(f"{name}.cnn.{index}", f"{name}.cnn.{index}", stride)
        program.activation(RELU, f"{name}.cnn.{index}.active")
    program.add(Op("flatten", (program.last,), f"{name}.cnn.flat"))
    program.linear(f"{name}.linear.0", f"{name}.linear.0")
    program.activation(RELU, f"{name}.linear.0.active")


def as_observed(space: gym.Space[Any], own: gym.Space[Any]) -> gym.Space[Any]:
    """The environment's space as its teacher observed it: images with the channels first.

    Args:
        space: The environment's.
        own: The teacher's.
    """
    if isinstance(space, gym.spaces.Dict) and isinstance(own, gym.spaces.Dict):
        parts = []
        for key, part in space.items():
            parts.append((key, as_observed(part, own.get(key, part))))
        return gym.spaces.Dict(parts)
    if isinstance(space, gym.spaces.Box) and is_image_space(space) and space.shape != own.shape:
        low = np.moveaxis(space.low, 2, 0)
        high = np.moveaxis(space.high, 2, 0)
        return gym.spaces.Box(low, high, dtype=np.uint8)
    return space


def in_own_order(space: gym.Space[Any], own: gym.Space[Any] | None) -> gym.Space[Any]:
    """A Dict space with the teacher's keys alone, in the teacher's order; other spaces as they are.

    Args:
        space: The environment's.
        own: The teacher's, where it is known.
    """
    if isinstance(space, gym.spaces.Dict) and isinstance(own, gym.spaces.Dict):
        # CombinedExtractor lays its features side by side in this order; a list keeps it, Gymnasium sorts a dict.
        return gym.spaces.Dict([(key, space[key]) for key in own])
    return space
