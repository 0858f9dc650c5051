"""A policy as an untrained PPO whose actor gets its weights."""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.preprocessing import is_image_space, is_image_space_channels_first
from stable_baselines3.common.vec_env import VecTransposeImage

from kd_agent.environments import recipe_of_student
from kd_agent.environments.vector import spaces_of
from kd_agent.errors import KDError
from kd_agent.export._maskable import algorithm, outputs
from kd_agent.export._program import analyse
from kd_agent.export._sb3_parts import (
    Flat,
    Parts,
    check_shown,
    flat_features,
    parts_of_program,
    require,
    spaces_by_key,
)
from kd_agent.export._vecnormalize import STATISTICS, write_statistics
from kd_agent.networks import ACTIVATION_LAYERS, check_fits
from kd_agent.networks.sb3_features import ProgramFeatures, describe
from kd_agent.policies import OBSERVATION, Array, HeadSpec, ObservationSpec, Op, PolicyGraph

_FOLDABLE = 1000.0
"""Standard deviations between a feature's mean and 0 beyond which float32 would lose three of its seven digits."""
_CRITIC = [64, 64]
"""Hidden layers of the new critic: PPO's own default, whatever the student's size."""
_TURNED_BACK = [1, 2, 0]
"""Axes that make `[height, width, C]` of an image with the channels first."""


def build(graph: PolicyGraph, path: Path, *, vecnormalize: bool) -> tuple[Any, list[Path]]:
    """The model, and the files of statistics that were written beside its own.

    Args:
        graph: The policy.
        path: The zip's file.
        vecnormalize: Write the statistics to `vecnormalize.pkl` instead of folding them in.

    Raises:
        KDError: PPO has no such policy, the environment has other spaces, or other statistics lie beside the zip.
    """
    parts = parts_of_program(graph)
    _check_layers(graph, parts)
    observation_space, action_space = spaces_of_policy(graph)
    check_fits(graph, (observation_space, action_space), "the student")
    check_shown(parts, observation_space)
    flat = flat_features(parts, observation_space)
    if flat is None:
        require(not vecnormalize, "its normaliser is part of its features, and vecnormalize has nothing to write")
        operations, features = _operations(parts, observation_space)
        extractor = _extractor(operations, features, parts.linears[0].tensors["weight"].shape[1])
        model = _model(graph, parts, _as_ppo_sees(observation_space), action_space, extractor)
        _fill_features(model.policy.features_extractor, operations)
        _fill(model.policy, graph, parts)
        warnings.warn(f"{path.name}: whoever loads it needs kd_agent, which computes its features", stacklevel=5)
        return model, []
    model = _model(graph, parts, observation_space, action_space, {})
    _fill(model.policy, graph, parts, folded=None if vecnormalize else flat)
    if not (vecnormalize and flat.statistics):
        return model, []
    clips = {float(op.attributes["clip"]) for op in flat.statistics.values()}
    require(len(clips) == 1, "its observations are clipped differently")
    return model, [write_statistics(path.with_name(STATISTICS), model, flat.statistics, clips.pop())]


def _check_layers(graph: PolicyGraph, parts: Parts) -> None:
    """Require layers of torch's own shapes: NumPy's broadcasting allows others."""
    width = analyse(graph).shapes[parts.features]
    for op in parts.linears:
        weight, bias = op.tensors["weight"], op.tensors["bias"]
        require(width == weight.shape[1:], f"a layer of shape {weight.shape} reads {width}")
        require(bias.shape == weight.shape[:1], f"a layer of shape {weight.shape} has a bias of {bias.shape}")
        width = bias.shape


def spaces_of_policy(graph: PolicyGraph) -> tuple[gym.Space[Any], gym.Space[Any]]:
    """The spaces of the environment that the student keeps; where that is not to be had, boxes without bounds."""
    require(not any(graph.head.start), "its actions do not start at 0, as Stable-Baselines3's always do")
    try:
        observation_space, action_space = spaces_of(recipe_of_student(graph, "the student"))
    except KDError:
        # A student is exported also where its environment is not installed, whose module no file lets us import.
        return _observation_space(graph), _action_space(graph.head)
    keys = list(spaces_by_key(observation_space))
    expected = list(graph.observations)
    # Of a Dict it may see a part.
    require(set(expected) <= set(keys), f"its first layer reads {expected}, the environment gives {keys}")
    return observation_space, action_space


def _observation_space(graph: PolicyGraph) -> gym.Space[Any]:
    parts = [(key, _part(graph, key, spec)) for key, spec in graph.observations.items()]
    if list(graph.observations) == [OBSERVATION]:
        return parts[0][1]
    # As pairs: Dict sorts the keys of a dictionary.
    return spaces.Dict(parts)


def _part(graph: PolicyGraph, key: str, spec: ObservationSpec) -> gym.Space[Any]:
    """The space of one observation, as far as a policy tells it."""
    hot = [list(op.attributes["sizes"]) for op in graph.ops if op.kind == "one_hot" and op.inputs == (key,)]
    if hot:
        return spaces.MultiDiscrete(hot[0]) if spec.shape else spaces.Discrete(hot[0][0])
    if spec.dtype == "uint8":
        return spaces.Box(0, 255, spec.shape, np.uint8)
    return spaces.Box(-np.inf, np.inf, spec.shape, np.float32)


def _action_space(head: HeadSpec) -> gym.Space[Any]:
    if head.kind == "categorical":
        return spaces.Discrete(head.nvec[0])
    if head.kind == "multi_categorical":
        return spaces.MultiDiscrete(np.reshape(head.nvec, head.shape))
    if head.kind == "bernoulli":
        if len(head.shape) == 1:
            return spaces.MultiBinary(head.shape[0])
        return spaces.MultiBinary(head.shape)
    low = np.reshape(np.asarray(head.low, np.float32), head.shape)
    high = np.reshape(np.asarray(head.high, np.float32), head.shape)
    return spaces.Box(low, high, dtype=np.dtype(head.dtype).type)


def _turned(part: gym.Space[Any], key: str) -> gym.Space[Any] | None:
    """A space of images as Stable-Baselines3 turns them, the channels first; None where it leaves it alone."""
    if not (isinstance(part, spaces.Box) and is_image_space(part)) or is_image_space_channels_first(part):
        return None
    return VecTransposeImage.transpose_space(part, key)


def _as_ppo_sees(space: gym.Space[Any]) -> gym.Space[Any]:
    """An observation space whose images have the channels first."""
    shown = spaces_by_key(space)
    images = [key for key, part in shown.items() if is_image_space(part)]
    turned = [key for key in images if _turned(shown[key], key) is not None]
    require(turned in ([], images), f"of its images {images}, only {turned} have the channels last")
    parts = [(key, _turned(part, key) or part) for key, part in shown.items()]
    return spaces.Dict(parts) if isinstance(space, spaces.Dict) else parts[0][1]


def _operations(parts: Parts, space: gym.Space[Any]) -> tuple[list[Op], str]:
    """What is computed of observations as PPO shows them, and the register that it ends in."""
    taken = {op.output for op in parts.before}
    read = {name for op in parts.before for name in op.inputs}
    shown: dict[str, str] = {}
    operations: list[Op] = []
    for key, part in spaces_by_key(space).items():
        if key in read and _turned(part, key) is not None:
            name = f"{key}.as_observed"
            while name in taken:
                name += "_"
            operations.append(Op("transpose", (key,), name, {"axes": _TURNED_BACK}))
            shown[key] = name
    for op in parts.before:
        if op.kind == "one_hot":
            # PPO has done it; out of its buffer a Discrete comes as `[B, 1, n]`.
            operations.append(Op("flatten", op.inputs, op.output))
            continue
        inputs = tuple(shown.get(name, name) for name in op.inputs)
        operations.append(Op(op.kind, inputs, op.output, op.attributes, op.tensors))
    return operations, shown.get(parts.features, parts.features)


def _extractor(operations: Sequence[Op], features: str, width: int) -> dict[str, Any]:
    """Settings of a policy whose features are a program's."""
    kwargs = {"operations": [describe(op) for op in operations], "output": features, "features_dim": width}
    # The program scales images itself.
    return {
        "features_extractor_class": ProgramFeatures,
        "features_extractor_kwargs": kwargs,
        "normalize_images": False,
    }


def _model(
    graph: PolicyGraph,
    parts: Parts,
    observation_space: gym.Space[Any],
    action_space: gym.Space[Any],
    extractor: Mapping[str, Any],
) -> Any:
    """An untrained PPO of the right shape."""
    hidden = [len(op.tensors["bias"]) for op in parts.linears[:-1]]
    model = algorithm(graph)(
        "MultiInputPolicy" if isinstance(observation_space, spaces.Dict) else "MlpPolicy",
        env=None,
        policy_kwargs={
            "net_arch": {"pi": hidden, "vf": _CRITIC},
            "activation_fn": ACTIVATION_LAYERS[parts.activation],
            **extractor,
        },
        device="cpu",
        seed=0,
        _init_setup_model=False,
    )
    # PPO takes its spaces from an environment, and the student's may not be installed here: the constructor waits, as
    # it does inside PPO.load.
    model.observation_space = observation_space
    model.action_space = action_space
    model.n_envs = 1
    model._setup_model()
    return model


def _fill_features(extractor: Any, operations: Sequence[Op]) -> None:
    """Put the program's weights and statistics into its features extractor."""
    state = {}
    for index, op in enumerate(operations):
        for role, tensor in op.tensors.items():
            state[f"ops.{index}.t_{role}"] = torch.tensor(tensor)
    extractor.load_state_dict(state)


def _fill(policy: Any, graph: PolicyGraph, parts: Parts, folded: Flat | None = None) -> None:
    """Put the student's weights into the actor, and the normaliser of `folded` into its first layer."""
    weights = [(op.tensors["weight"], op.tensors["bias"]) for op in parts.linears]
    if folded is not None and folded.statistics:
        weights[0] = _folded(*weights[0], folded, graph.observations)
    weights[-1] = outputs(graph, *weights[-1])
    hidden = [module for module in policy.mlp_extractor.policy_net if isinstance(module, torch.nn.Linear)]
    modules = [*hidden, policy.action_net]
    with torch.no_grad():
        for module, (weight, bias) in zip(modules, weights, strict=True):
            module.weight.copy_(torch.tensor(weight))
            module.bias.copy_(torch.tensor(bias))
        if parts.log_std is not None:
            policy.log_std.copy_(torch.tensor(parts.log_std))


def _folded(weight: Array, bias: Array, flat: Flat, observations: Mapping[str, ObservationSpec]) -> tuple[Array, Array]:
    """The first layer on raw observations: `W ((x - mean) scale) + b = (W scale) x + (b - W scale mean)`."""
    mean, scale = _columns(flat, observations)
    require(len(mean) == weight.shape[1], "its statistics are not one a feature")
    if np.abs(mean * scale).max() > _FOLDABLE:
        raise KDError("a feature's mean is over 1000 standard deviations: folding would lose digits; use vecnormalize")
    # In float64, rounded once at the end: the bias is a difference of numbers that may be large.
    folded = weight * scale
    return folded.astype(np.float32), (bias - folded @ mean).astype(np.float32)


def _columns(flat: Flat, observations: Mapping[str, ObservationSpec]) -> tuple[Array, Array]:
    """Mean and scale of every feature, in the order of the first layer's columns, float64."""
    means: list[Array] = []
    scales: list[Array] = []
    for key in flat.keys:
        if key in flat.statistics:
            tensors = flat.statistics[key].tensors
            means.append(np.ravel(tensors["mean"]))
            scales.append(np.ravel(tensors["scale"]))
        else:
            means.append(np.zeros(observations[key].features))
            scales.append(np.ones(observations[key].features))
    return np.concatenate(means).astype(np.float64), np.concatenate(scales).astype(np.float64)
