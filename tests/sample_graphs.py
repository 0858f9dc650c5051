"""Graphs that together use every operation, and observations for them."""

from collections.abc import Callable
from typing import Any

import numpy as np
from samples import HEADS, make_graph, make_student

from kd_agent import plugins
from kd_agent.policies.activations import ACTIVATIONS, SLOPED
from kd_agent.policies.graph import ObservationSpec, Op, PolicyGraph, following


def linear(source: str, output: str, outputs: int, inputs: int, seed: int = 0) -> Op:
    rng = np.random.default_rng(seed)
    tensors = {"weight": rng.normal(0, inputs**-0.5, (outputs, inputs)), "bias": rng.normal(0, 0.1, outputs)}
    return Op("linear", (source,), output, {}, {k: v.astype(np.float32) for k, v in tensors.items()})


def numbers(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).normal(0, 0.4, shape).astype(np.float32)


def activations_graph() -> PolicyGraph:
    names = list(ACTIVATIONS)
    ops = [linear("obs", "wide", 3, 4)]
    ops += [Op("activation", ("wide",), f"by_{name}", {"function": name}) for name in names]
    ops.append(Op("activation", ("wide",), f"by_{SLOPED}", {"function": SLOPED, "slope": 0.2}))
    names.append(SLOPED)
    ops += [Op("concatenate", tuple(f"by_{name}" for name in names), "all"), linear("all", "params", 4, 3 * len(names))]
    return PolicyGraph({"obs": ObservationSpec((4,), "float32")}, tuple(ops), HEADS["categorical"].spec)


def pixels_graph() -> PolicyGraph:
    tensors = {"weight": numbers(5, 3, 3, 3), "bias": numbers(5)}
    ops = (
        Op("transpose", ("obs",), "channels", {"axes": [2, 0, 1]}),
        Op("scale", ("channels",), "unit", {}, {"scale": np.float32([1 / 255]), "shift": np.float32([-0.5])}),
        Op("conv2d", ("unit",), "conv", {"stride": 2, "padding": 1}, tensors),
        Op("activation", ("conv",), "relu", {"function": "relu"}),
        Op("conv2d", ("relu",), "small", {"stride": 1}, {"weight": numbers(2, 5, 2, 3), "bias": numbers(2)}),
        Op("flatten", ("small",), "flat"),
        linear("flat", "params", 4, 24),
    )
    return PolicyGraph({"obs": ObservationSpec((10, 9, 3), "uint8")}, ops, HEADS["categorical"].spec)


def several_graph() -> PolicyGraph:
    ops = (
        Op("one_hot", ("floor",), "floor.hot", {"sizes": [4]}),
        Op("clip", ("joints",), "bounded", {"low": -0.5, "high": 2.0}),
        Op("slice", ("bounded",), "some", {"start": 1, "stop": 4}),
        Op("concatenate", ("floor.hot", "some", "bounded"), "joined"),
        linear("joined", "params", 4, 12),
    )
    observations = {"floor": ObservationSpec((), "int64"), "joints": ObservationSpec((5,), "float64")}
    return PolicyGraph(observations, ops, HEADS["diag_gaussian"].spec)


def sde_graph() -> PolicyGraph:
    variance = np.exp(numbers(6, 2))
    ops = (
        linear("obs", "wide", 6, 4),
        Op("activation", ("wide",), "latent", {"function": "tanh"}),
        linear("latent", "mean", 2, 6, seed=1),
        Op("sde_log_std", ("latent",), "log_std", {}, {"variance": variance}),
        Op("concatenate", ("mean", "log_std"), "params"),
    )
    return PolicyGraph({"obs": ObservationSpec((4,), "float32")}, ops, HEADS["diag_gaussian"].spec)


def memory_graph(kind: str) -> PolicyGraph:
    """Five units; the memory of an LSTM holds their cells too."""
    gates, size, biases = 4, 10, ["bias"]
    if kind == "gru":
        gates, size, biases = 3, 5, ["bias_input", "bias_hidden"]
    tensors = {"weight_input": numbers(gates * 5, 4), "weight_hidden": numbers(gates * 5, 5, seed=1)}
    tensors |= {name: numbers(gates * 5, seed=2) for name in biases}
    ops = (
        Op(kind, ("obs", "memory"), following("memory"), {}, tensors),
        Op("slice", (following("memory"),), "hidden", {"start": 0, "stop": 5}),
        linear("hidden", "params", 4, 5),
    )
    observations = {"obs": ObservationSpec((4,), "float32")}
    return PolicyGraph(observations, ops, HEADS["categorical"].spec, {}, {"memory": (size,)})


def tree_op(source: str, output: str, *, leaves: int, features: int, width: int, seed: int = 0) -> Op:
    """A tree that is no pattern: each split takes the place of a leaf drawn by chance."""
    rng = np.random.default_rng(seed)
    children = np.zeros((leaves - 1, 2), np.int32)
    ends = [(0, 0), (0, 1)]
    for split in range(1, leaves - 1):
        children[ends.pop(rng.integers(len(ends)))] = split
        ends += [(split, 0), (split, 1)]
    for leaf, end in enumerate(ends):
        children[end] = leaves - 1 + leaf
    tensors = {
        "left": children[:, 0].copy(),
        "right": children[:, 1].copy(),
        "feature": rng.integers(features, size=leaves - 1).astype(np.int32),
        "threshold": rng.normal(size=leaves - 1).astype(np.float32),
        "value": rng.normal(size=(leaves, width)).astype(np.float32),
    }
    return Op("tree", (source,), output, {}, tensors)


def trees_graph() -> PolicyGraph:
    """A large tree of the observation (its leaves do not fit int8), beside one of a register of the program."""
    ops = (
        tree_op("obs", "wide", leaves=200, features=4, width=6),
        Op("activation", ("wide",), "latent", {"function": "tanh"}),
        tree_op("latent", "some", leaves=9, features=6, width=3, seed=1),
        tree_op("obs", "other", leaves=2, features=4, width=1),
        Op("concatenate", ("some", "other"), "params"),
    )
    return PolicyGraph({"obs": ObservationSpec((4,), "float32")}, ops, HEADS["categorical"].spec)


def student_graph(name: str) -> PolicyGraph:
    """A student of every kind, on pixels where it is one for pixels."""
    pixels = {"obs": ObservationSpec((44, 40, 2), "uint8")} if name == "cnn" else None
    return make_student(HEADS["diag_gaussian"], name, pixels).graph()


GRAPHS: dict[str, Callable[[], PolicyGraph]] = {
    **{kind: (lambda kind=kind: make_graph(kind, hidden=(16, 14))) for kind in HEADS},
    **{f"student {name}": (lambda name=name: student_graph(name)) for name in plugins.names("students")},
    "activations": activations_graph,
    "pixels": pixels_graph,
    "several keys": several_graph,
    "state-dependent noise": sde_graph,
    "gru": lambda: memory_graph("gru"),
    "lstm": lambda: memory_graph("lstm"),
    "trees": trees_graph,
}


def observations_for(graph: PolicyGraph, count: int) -> dict[str, Any]:
    """Observations `[count, *O]` by key, some of them far out."""
    rng = np.random.default_rng(3)
    observations: dict[str, Any] = {}
    for key, spec in graph.observations.items():
        if spec.dtype.startswith("float"):
            array = rng.standard_t(3, (count, *spec.shape)).astype(np.float32) * 1.5
        else:
            array = rng.integers(0, 256 if spec.dtype == "uint8" else 4, (count, *spec.shape)).astype(spec.dtype)
        observations[key] = array
    return observations
