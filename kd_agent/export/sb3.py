"""Stable-Baselines3: a PPO zip that `PPO.load`, `evaluate_policy` and RL Zoo open, and `.learn()` fine-tunes.

The student becomes the actor; the critic is new. The normaliser is folded into the first layer by
default, so that the zip acts alone: the actions are the student's wherever no feature is beyond its
clip (10 standard deviations), where folding is exact but for rounding. With `vecnormalize=True` the
layers stay as they are and the statistics go to `vecnormalize.pkl` beside the zip, exact everywhere,
but useless to whoever forgets that file.
"""

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from kd_agent.errors import KDError
from kd_agent.policies import OBSERVATION, PARAMS, Array, HeadSpec, Op, PolicyGraph
from kd_agent.policies.safe_files import write_atomically

OPS = frozenset({"normalise", "flatten", "concatenate", "linear", "activation", "append"})
_MODULES = {"relu": "ReLU", "tanh": "Tanh", "sigmoid": "Sigmoid", "silu": "SiLU", "elu": "ELU",
            "leaky_relu": "LeakyReLU", "softplus": "Softplus", "gelu": "GELU"}  # fmt: skip
_FOLDABLE = 1000.0
_CRITIC = [64, 64]


@dataclass(frozen=True)
class _Layers:
    """A student as PPO sees it.

    Attributes:
        keys: Observation keys in the order of the first layer's columns.
        statistics: The normalise operation of each key.
        linears: Linear operations, the last one writes logits or means.
        activation: Name of the activation.
        log_std: `[A]` for a Gaussian head.
    """

    keys: list[str]
    statistics: dict[str, Op]
    linears: list[Op]
    activation: str
    log_std: Array | None


def write(graph: PolicyGraph, path: Path, *, vecnormalize: bool = False, env: str | None = None) -> list[Path]:
    """Write the zip.

    Args:
        graph: The policy: an MLP with one activation function.
        path: The file.
        vecnormalize: Write the statistics to `vecnormalize.pkl` instead of folding them in.
        env: Gymnasium id whose spaces the zip states; default: the student's own, where it is registered.

    Raises:
        KDError: PPO has no such policy.
    """
    layers = _layers(graph)
    model = _model(graph, layers, env or str(graph.provenance.get("env", "")))
    _fill(model.policy, layers, fold=not vecnormalize)
    temporary = path.with_name(f".{path.name}.part.zip")
    model.save(temporary)
    write_atomically(path, temporary.read_bytes())
    temporary.unlink()
    return [path, _write_statistics(model, layers, path)] if vecnormalize and layers.statistics else [path]


def _layers(graph: PolicyGraph) -> _Layers:
    """Read an MLP off its program; KDError where it is none."""
    by_output = {op.output: op for op in graph.ops}
    register, log_std = PARAMS, None
    if by_output[register].kind == "append":
        log_std, register = by_output[register].tensors["value"], by_output[register].inputs[0]
    linears: list[Op] = []
    functions: list[Op] = []
    while register in by_output and by_output[register].kind in ("linear", "activation"):
        wanted = "linear" if len(linears) == len(functions) else "activation"
        _require(by_output[register].kind == wanted, "its layers and activations do not alternate")
        (linears if wanted == "linear" else functions).insert(0, by_output[register])
        register = by_output[register].inputs[0]
    keys, statistics, passed = _inputs(graph, by_output, register)
    names = {op.attributes["function"] for op in functions}
    _require(len(functions) == len(linears) - 1 and len(names) <= 1, "it is not a plain MLP")
    _require(len(linears) + len(functions) + passed + (log_std is not None) == len(graph.ops), "it is not a chain")
    return _Layers(keys, statistics, linears, next(iter(names), "tanh"), log_std)


def _inputs(graph: PolicyGraph, by_output: dict[str, Op], register: str) -> tuple[list[str], dict[str, Op], int]:
    """Keys side by side below `register`, the normalise operation of each, and the number of operations passed."""
    keys: list[str] = []
    statistics: dict[str, Op] = {}
    joined = register in by_output and by_output[register].kind == "concatenate"
    passed = int(joined)
    for start in by_output[register].inputs if joined else (register,):
        name, normaliser = start, None
        while name in by_output:
            op = by_output[name]
            _require(op.kind in ("normalise", "flatten"), f"the operation {op.kind!r} comes before the first layer")
            _require(op.kind == "flatten" or normaliser is None, "it normalises twice")
            normaliser = op if op.kind == "normalise" else normaliser
            name, passed = op.inputs[0], passed + 1
        keys.append(name)
        statistics |= {name: normaliser} if normaliser else {}
    _require(sorted(keys) == sorted(graph.observations), "it does not read each observation once")
    return keys, statistics, passed


def _require(condition: bool, reason: str) -> None:
    if not condition:
        raise KDError(f"PPO has no policy like this: {reason}; formats that can: onnx, c, javascript, torch")


def _model(graph: PolicyGraph, layers: _Layers, env: str) -> Any:
    """An untrained PPO of the right shape."""
    import torch
    from stable_baselines3 import PPO

    observation_space, action_space = _spaces(graph, layers, env)
    hidden = [len(op.tensors["bias"]) for op in layers.linears[:-1]]
    policy = "MlpPolicy" if layers.keys == [OBSERVATION] else "MultiInputPolicy"
    model = PPO(
        policy,
        env=None,  # type: ignore[arg-type]
        policy_kwargs={
            "net_arch": {"pi": hidden, "vf": _CRITIC},
            "activation_fn": getattr(torch.nn, _MODULES[layers.activation]),
        },
        device="cpu",
        seed=0,
        _init_setup_model=False,
    )
    model.observation_space, model.action_space, model.n_envs = observation_space, action_space, 1
    model._setup_model()
    return model


def _spaces(graph: PolicyGraph, layers: _Layers, env: str) -> tuple[Any, Any]:
    """The environment's spaces where it is registered (no module is imported for it), else boxes without bounds."""
    import gymnasium as gym

    import_module("kd_envs")
    if env in gym.registry:
        made = gym.make(env)
        spaces = made.observation_space, made.action_space
        made.close()
    else:
        shapes = [graph.observations[key].shape for key in layers.keys]
        boxes: list[Any] = [gym.spaces.Box(-np.inf, np.inf, shape, np.float32) for shape in shapes]
        named = list(zip(layers.keys, boxes, strict=True))
        spaces = (boxes[0] if layers.keys == [OBSERVATION] else gym.spaces.Dict(named)), _action_space(graph.head)
    keys = list(spaces[0].spaces) if isinstance(spaces[0], gym.spaces.Dict) else [OBSERVATION]
    _require(keys == layers.keys, f"its first layer reads {layers.keys}, the environment gives {keys}")
    return spaces


def _action_space(head: HeadSpec) -> Any:
    from gymnasium import spaces

    _require(not any(head.start), "its actions do not start at 0")
    if head.kind == "categorical":
        return spaces.Discrete(head.nvec[0])
    if head.kind == "multi_categorical":
        return spaces.MultiDiscrete(np.reshape(head.nvec, head.shape))
    if head.kind == "bernoulli":
        return spaces.MultiBinary(head.shape if len(head.shape) > 1 else head.shape[0])
    _require(head.kind == "diag_gaussian", f"its head is a {head.kind}")
    low, high = (np.reshape(np.asarray(side, np.float32), head.shape) for side in (head.low, head.high))
    return spaces.Box(low, high, dtype=np.dtype(head.dtype).type)


def _fill(policy: Any, layers: _Layers, *, fold: bool) -> None:
    """Put the student's weights into the actor."""
    import torch

    first = layers.linears[0]
    weights = [(op.tensors["weight"], op.tensors["bias"]) for op in layers.linears]
    if fold:
        weights[0] = _folded(first, layers)
    modules = [m for m in policy.mlp_extractor.policy_net if isinstance(m, torch.nn.Linear)] + [policy.action_net]
    with torch.no_grad():
        for module, (weight, bias) in zip(modules, weights, strict=True):
            module.weight.copy_(torch.tensor(weight))
            module.bias.copy_(torch.tensor(bias))
        if layers.log_std is not None:
            policy.log_std.copy_(torch.tensor(layers.log_std))


def _folded(first: Op, layers: _Layers) -> tuple[Array, Array]:
    """The first layer on raw observations: `W ((x - mean) scale) + b = (W scale) x + (b - W scale mean)`."""
    weight, bias = first.tensors["weight"], first.tensors["bias"]
    if not layers.statistics:
        return weight, bias
    _require(set(layers.statistics) == set(layers.keys), "only some of its observations are normalised")
    mean, scale = (
        np.concatenate([np.ravel(layers.statistics[key].tensors[role]) for key in layers.keys]).astype(np.float64)
        for role in ("mean", "scale")
    )
    _require(len(mean) == weight.shape[1], "its statistics are not one a feature")
    if np.abs(mean * scale).max() > _FOLDABLE:
        raise KDError("a feature's mean is over 1000 standard deviations: folding would lose digits; use vecnormalize")
    folded = weight * scale
    return folded.astype(np.float32), (bias - folded @ mean).astype(np.float32)


def _write_statistics(model: Any, layers: _Layers, path: Path) -> Path:
    """`vecnormalize.pkl`, by VecNormalize's own `save`."""
    import gymnasium as gym
    from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

    class Spaces(gym.Env[Any, Any]):
        """An environment that has spaces and nothing else."""

        observation_space, action_space = model.observation_space, model.action_space

    clips = {float(op.attributes["clip"]) for op in layers.statistics.values()}
    _require(len(clips) == 1 and set(layers.statistics) == set(layers.keys), "its observations are clipped differently")
    settings: dict[str, Any] = {"training": False, "norm_reward": False, "clip_obs": clips.pop(), "epsilon": 0.0}
    normalize = VecNormalize(DummyVecEnv([Spaces]), **settings)
    for key, op in layers.statistics.items():
        rms: Any = normalize.obs_rms[key] if isinstance(normalize.obs_rms, dict) else normalize.obs_rms
        rms.mean, rms.count = np.asarray(op.tensors["mean"], np.float64), 1e6
        rms.var = 1 / np.asarray(op.tensors["scale"], np.float64) ** 2
    target = path.with_name("vecnormalize.pkl")
    normalize.save(str(target))
    return target
