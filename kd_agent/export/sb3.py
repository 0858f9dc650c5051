"""Stable-Baselines3: a PPO zip that `PPO.load`, `evaluate_policy` and RL Zoo open, and `.learn()` fine-tunes.

A policy that plays with action masks becomes a zip of sb3_contrib's MaskablePPO. One that is played by samples is drawn
from by `predict` as it is, whose `deterministic` is False by default there (`evaluate_policy`'s is True).
The student becomes the actor; the critic is new. The normaliser is folded into the first layer by
default, so that the zip acts alone: the actions are the student's wherever no feature is beyond its
clip (10 standard deviations), where folding is exact but for rounding. With `vecnormalize=True` the
layers stay as they are and the statistics go to `vecnormalize.pkl` beside the zip, exact everywhere,
but useless to whoever forgets that file. It has the name that everybody looks for, so a folder holds one:
another export's is never written over.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kd_agent.errors import KDError
from kd_agent.export._maskable import algorithm, outputs
from kd_agent.export._vecnormalize import STATISTICS, write_statistics
from kd_agent.policies import OBSERVATION, PARAMS, Array, HeadSpec, Op, PolicyGraph
from kd_agent.policies.activations import SLOPED
from kd_agent.policies.safe_files import write_atomically

SUFFIX = ".zip"
OPS = frozenset({"normalise", "flatten", "concatenate", "linear", "activation", "append"})
_FOLDABLE = 1000.0
"""Standard deviations between a feature's mean and 0 beyond which float32 would lose three of its seven digits."""
_CRITIC = [64, 64]
"""Hidden layers of the new critic: PPO's own default, whatever the student's size."""


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


def write(graph: PolicyGraph, path: Path, *, vecnormalize: bool = False) -> list[Path]:
    """Write the zip, which states the spaces of the policy's own environment where that is registered.

    Args:
        graph: The policy: an MLP with one activation function.
        path: The file.
        vecnormalize: Write the statistics to `vecnormalize.pkl` instead of folding them in.

    Raises:
        KDError: PPO has no such policy, the environment has other spaces, or other statistics lie beside the zip.
    """
    layers = _layers(graph)
    model = _model(graph, layers)
    _fill(model.policy, graph, layers, fold=not vecnormalize)
    written = [path]
    if vecnormalize and layers.statistics:
        clips = {float(op.attributes["clip"]) for op in layers.statistics.values()}
        same = len(clips) == 1 and set(layers.statistics) == set(layers.keys)
        _require(same, "its observations are clipped differently")
        written.append(write_statistics(path.with_name(STATISTICS), model, layers.statistics, clips.pop()))
    # Stable-Baselines3 appends `.zip` to names without it, and writes in place.
    temporary = path.with_name(f".{path.name}.part.zip")
    model.save(temporary)
    write_atomically(path, temporary.read_bytes())
    temporary.unlink()
    return written


def _layers(graph: PolicyGraph) -> _Layers:
    """Read an MLP off its program; KDError where it is none."""
    _require(graph.head.kind != "squashed_gaussian", "its actions go through tanh")
    by_output = {op.output: op for op in graph.ops}
    # Backwards from the row: the order in which a program is written says nothing of who reads whom.
    register = PARAMS
    log_std = None
    last = by_output[PARAMS]
    if last.kind == "append":
        register = last.inputs[0]
        log_std = last.tensors["value"]
    linears, functions, register = _chain(by_output, register)
    keys, statistics, passed = _inputs(graph, by_output, register)
    names = {op.attributes["function"] for op in functions}
    _require(len(functions) == len(linears) - 1 and len(names) <= 1, "it is not a plain MLP")
    _require(SLOPED not in names, "its activation has a slope of its own")
    # An operation that the walk did not meet is one that PPO would leave out.
    _require(len(linears) + len(functions) + passed + (log_std is not None) == len(graph.ops), "it is not a chain")
    activation = names.pop() if names else "tanh"  # without hidden layers, any will do
    return _Layers(keys, statistics, linears, activation, log_std)


def _chain(by_output: dict[str, Op], register: str) -> tuple[list[Op], list[Op], str]:
    """Linear operations and activations that lead to `register`, in order, and the register that they begin from."""
    linears: list[Op] = []
    functions: list[Op] = []
    while register in by_output and by_output[register].kind in ("linear", "activation"):
        op = by_output[register]
        wanted, layers = ("activation", functions) if len(linears) > len(functions) else ("linear", linears)
        _require(op.kind == wanted, "its layers and activations do not alternate")
        layers.insert(0, op)
        register = op.inputs[0]
    return linears, functions, register


def _inputs(graph: PolicyGraph, by_output: dict[str, Op], register: str) -> tuple[list[str], dict[str, Op], int]:
    """Keys side by side below `register`, the normalise operation of each, and the number of operations passed."""
    columns: tuple[str, ...] = (register,)
    passed = 0
    if register in by_output and by_output[register].kind == "concatenate":
        columns = by_output[register].inputs
        passed = 1
    keys: list[str] = []
    statistics: dict[str, Op] = {}
    for name in columns:
        key, normaliser, steps = _observation(by_output, name)
        keys.append(key)
        if normaliser:
            statistics[key] = normaliser
        passed += steps
    _require(sorted(keys) == sorted(graph.observations), "it does not read each observation once")
    return keys, statistics, passed


def _observation(by_output: dict[str, Op], name: str) -> tuple[str, Op | None, int]:
    """The observation that a register is of, its normalise operation, and the number of operations between."""
    normaliser = None
    steps = 0
    while name in by_output:
        op = by_output[name]
        _require(op.kind in ("normalise", "flatten"), f"the operation {op.kind!r} comes before the first layer")
        if op.kind == "normalise":
            _require(normaliser is None, "it normalises twice")
            normaliser = op
        name = op.inputs[0]
        steps += 1
    return name, normaliser, steps


def _require(condition: bool, reason: str) -> None:
    if not condition:
        raise KDError(f"PPO has no policy like this: {reason}; formats that can: onnx, c, javascript, torch")


def _model(graph: PolicyGraph, layers: _Layers) -> Any:
    """An untrained PPO of the right shape."""
    # Late, for they bring torch: whoever loads the exports for another format need not have it.
    from kd_agent.networks import ACTIVATION_LAYERS, check_fits

    observation_space, action_space = _spaces(graph, layers)
    check_fits(graph, (observation_space, action_space), "the student")
    hidden = [len(op.tensors["bias"]) for op in layers.linears[:-1]]
    policy = "MultiInputPolicy"
    if layers.keys == [OBSERVATION]:
        policy = "MlpPolicy"
    model = algorithm(graph)(
        policy,
        env=None,
        policy_kwargs={
            "net_arch": {"pi": hidden, "vf": _CRITIC},
            "activation_fn": ACTIVATION_LAYERS[layers.activation],
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


def _spaces(graph: PolicyGraph, layers: _Layers) -> tuple[Any, Any]:
    """The spaces of the environment that the student keeps; where that is not to be had, boxes without bounds."""
    import gymnasium as gym

    from kd_agent.environments import recipe_of_student
    from kd_agent.environments.vector import spaces_of

    _require(not any(graph.head.start), "its actions do not start at 0, as Stable-Baselines3's always do")
    try:
        spaces = spaces_of(recipe_of_student(graph, "the student"))
    except KDError:
        # A student is exported also where its environment is not installed, whose module no file lets us import.
        spaces = _observation_space(graph, layers.keys), _action_space(graph.head)
    keys = [OBSERVATION]
    if isinstance(spaces[0], gym.spaces.Dict):
        # In the space's order PPO joins the keys, and so it must read the columns of the first layer.
        keys = list(spaces[0].spaces)
    _require(keys == layers.keys, f"its first layer reads {layers.keys}, the environment gives {keys}")
    return spaces


def _observation_space(graph: PolicyGraph, keys: list[str]) -> Any:
    from gymnasium import spaces

    boxes: dict[str, Any] = {}
    for key in keys:
        boxes[key] = spaces.Box(-np.inf, np.inf, graph.observations[key].shape, np.float32)
    if keys == [OBSERVATION]:
        return boxes[OBSERVATION]
    # As pairs: Dict sorts the keys of a dictionary.
    return spaces.Dict(list(boxes.items()))


def _action_space(head: HeadSpec) -> Any:
    from gymnasium import spaces

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


def _fill(policy: Any, graph: PolicyGraph, layers: _Layers, *, fold: bool) -> None:
    """Put the student's weights into the actor."""
    import torch

    weights = [(op.tensors["weight"], op.tensors["bias"]) for op in layers.linears]
    if fold:
        weights[0] = _folded(layers.linears[0], layers)
    weights[-1] = outputs(graph, *weights[-1])
    hidden = [module for module in policy.mlp_extractor.policy_net if isinstance(module, torch.nn.Linear)]
    modules = [*hidden, policy.action_net]
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
    mean = _columns(layers, "mean")
    scale = _columns(layers, "scale")
    _require(len(mean) == weight.shape[1], "its statistics are not one a feature")
    if np.abs(mean * scale).max() > _FOLDABLE:
        raise KDError("a feature's mean is over 1000 standard deviations: folding would lose digits; use vecnormalize")
    # In float64, rounded once at the end: the bias is a difference of numbers that may be large.
    folded = weight * scale
    return folded.astype(np.float32), (bias - folded @ mean).astype(np.float32)


def _columns(layers: _Layers, role: str) -> Array:
    """A statistic of every feature, in the order of the first layer's columns, float64."""
    parts = [np.ravel(layers.statistics[key].tensors[role]) for key in layers.keys]
    return np.concatenate(parts).astype(np.float64)
