"""Graphs that together use every operation, and how to run what an export wrote."""

import json
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from samples import HEADS, make_graph, make_student

from kd_agent import export, plugins
from kd_agent.policies.graph import ObservationSpec, Op, PolicyGraph, following
from kd_agent.policies.ops import ACTIVATIONS
from kd_agent.policies.policy import Policy

STRICT = ["-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic", "-O2"]
HARNESS = """
#include <stdio.h>
#include "policy.h"
#ifdef KD_STATE_SIZE
static float state[2][KD_STATE_SIZE];
#define STATE(k) , state[k]
#else
#define STATE(k)
#endif
int main(void) {
    float obs[KD_OBS_SIZE], params[KD_NUM_PARAMS];
    while (fread(obs, sizeof obs, 1, stdin) == 1) {
#ifdef KD_NUM_ACTIONS
        float action[1];
        action[0] = (float)kd_act(obs STATE(0));
#else
        float action[KD_ACTION_SIZE];
        kd_act(obs STATE(0), action);
#endif
        kd_params(obs STATE(1), params);
        fwrite(params, sizeof params, 1, stdout);
        fwrite(action, sizeof action, 1, stdout);
    }
    return 0;
}
"""
MODULE = """
import fs from "node:fs";
import * as policy from "./policy.mjs";
const raw = fs.readFileSync(0);
const all = new Float32Array(raw.buffer, raw.byteOffset, raw.length / 4);
const states = policy.newState ? [policy.newState(), policy.newState()] : [];
const out = [];
for (let i = 0; i < all.length; i += policy.obsSize) {
    const obs = all.subarray(i, i + policy.obsSize);
    out.push(...policy.params(obs, states[0]), ...[policy.act(obs, states[1])].flat());
}
fs.writeFileSync(1, new Uint8Array(Float32Array.from(out).buffer));
"""


@dataclass(frozen=True)
class Answers:
    """`params [N, P]` and greedy actions, flat `[N, A]`, one after the other."""

    params: Any
    actions: Any


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
    gates, biases = (3, ("bias_input", "bias_hidden")) if kind == "gru" else (4, ("bias",))
    tensors = {"weight_input": numbers(gates * 5, 4), "weight_hidden": numbers(gates * 5, 5, seed=1)}
    tensors |= {name: numbers(gates * 5, seed=2) for name in biases}
    size = 5 if kind == "gru" else 10
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
    children, ends = np.zeros((leaves - 1, 2), np.int32), [(0, 0), (0, 1)]
    for split in range(1, leaves - 1):
        children[ends.pop(rng.integers(len(ends)))] = split
        ends += [(split, 0), (split, 1)]
    for leaf, end in enumerate(ends):
        children[end] = leaves - 1 + leaf
    tensors = {"left": children[:, 0].copy(), "right": children[:, 1].copy(),
               "feature": rng.integers(features, size=leaves - 1).astype(np.int32),
               "threshold": rng.normal(size=leaves - 1).astype(np.float32),
               "value": rng.normal(size=(leaves, width)).astype(np.float32)}  # fmt: skip
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
    found = {}
    for key, spec in graph.observations.items():
        if spec.dtype.startswith("float"):
            found[key] = rng.standard_t(3, (count, *spec.shape)).astype(np.float32) * 1.5
        else:
            found[key] = rng.integers(0, 256 if spec.dtype == "uint8" else 4, (count, *spec.shape)).astype(spec.dtype)
    return found


def by_numpy(graph: PolicyGraph, observations: dict[str, Any]) -> Answers:
    """The yardstick: a batch, or an episode where there is a memory."""
    policy = Policy(graph)
    if graph.states:
        state, rows = None, []
        for i in range(len(observations["obs"])):
            row, state = policy.step_batch({k: v[i : i + 1] for k, v in observations.items()}, state)
            rows.append(row)
        params = np.concatenate(rows)
    else:
        params = policy.params_batch({k: v.astype(np.float32) for k, v in observations.items()})
    return Answers(params, graph.head.greedy(params).reshape(len(params), -1))


def by_c(
    graph: PolicyGraph, observations: dict[str, Any], folder: Path, compiler: str = "gcc", **options: Any
) -> Answers:
    needs(compiler)
    export(graph, folder / "policy.c", **options)
    (folder / "main.c").write_text(HARNESS)
    subprocess.run([compiler, *STRICT, "policy.c", "main.c", "-o", "policy"], cwd=folder, check=True)
    return _split(graph, _piped([str(folder / "policy")], graph, observations))


def by_javascript(graph: PolicyGraph, observations: dict[str, Any], folder: Path) -> Answers:
    needs("node")
    export(graph, folder / "policy.mjs")
    (folder / "main.mjs").write_text(MODULE)
    return _split(graph, _piped(["node", str(folder / "main.mjs")], graph, observations))


def by_onnx(graph: PolicyGraph, observations: dict[str, Any], folder: Path) -> Answers:
    session = onnxruntime.InferenceSession(str(export(graph, folder / "policy.onnx")[0]))
    feed = {k if list(observations) == ["obs"] else f"obs.{k}": v for k, v in observations.items()}
    if not graph.states:
        params, actions = session.run(["params", "action"], feed)
        assert actions.dtype == graph.head.dtype
        assert actions.shape[1:] == graph.head.shape
        return Answers(params, actions.reshape(len(params), -1))
    [(name, shape)] = graph.states.items()
    state, rows = np.zeros((1, *shape), np.float32), []
    for i in range(len(observations["obs"])):
        step = {"obs": feed["obs"][i : i + 1], f"state.{name}": state}
        *row, state = session.run(["params", "action", f"state.{name}.next"], step)
        rows.append(row)
    return Answers(*(np.concatenate(part).reshape(len(rows), -1) for part in zip(*rows, strict=True)))


def by_torch(graph: PolicyGraph, observations: dict[str, Any], folder: Path) -> Answers:
    module = Policy(graph).to_torch()
    tensors: Any = {key: torch.from_numpy(array) for key, array in observations.items()}
    with torch.no_grad():
        if not graph.states:
            given = tensors["obs"] if list(tensors) == ["obs"] else tensors
            return Answers(module(given).numpy(), module.act(given).numpy().reshape(len(module(given)), -1))
        state, rows = None, []
        for i in range(len(observations["obs"])):
            row, state = module.step(tensors["obs"][i : i + 1], state)
            rows.append(row)
        params = torch.cat(rows)
        return Answers(params.numpy(), module.greedy(params).numpy().reshape(len(params), -1))


RUNTIMES: dict[str, Callable[..., Answers]] = {
    "c": by_c,
    "c by clang": lambda *args: by_c(*args, compiler="clang"),
    "javascript": by_javascript,
    "onnx": by_onnx,
    "torch": by_torch,
}


def needs(tool: str) -> None:
    if shutil.which(tool) is None:
        pytest.skip(f"{tool} is not installed")


def assert_same(graph: PolicyGraph, found: Answers, expected: Answers, tolerance: float = 1e-5) -> None:
    """Parameters within the tolerance, and the same actions but where two categories tie within it."""
    np.testing.assert_allclose(found.params, expected.params, atol=tolerance, rtol=1e-5)
    if graph.head.is_gaussian:
        np.testing.assert_allclose(found.actions, expected.actions, atol=tolerance, rtol=1e-5)
        return
    differs = (found.actions != expected.actions).any(axis=1)
    tied = _gap(graph, expected.params) <= tolerance
    assert not (differs & ~tied).any(), f"{(differs & ~tied).sum()} actions differ, {tied.sum()} are tied"


def _gap(graph: PolicyGraph, params: Any) -> Any:
    """How far the nearest decision of each row is from another one."""
    if graph.head.kind == "bernoulli":
        return np.abs(params).min(axis=1)
    ordered = [np.sort(part, axis=1) for part in graph.head.split(params)]
    return np.min([part[:, -1] - part[:, -2] for part in ordered], axis=0)


def _piped(command: list[str], graph: PolicyGraph, observations: dict[str, Any]) -> bytes:
    flat = [np.asarray(observations[key], np.float32).reshape(len(observations[key]), -1) for key in graph.observations]
    given = np.ascontiguousarray(np.concatenate(flat, axis=1)).tobytes()
    return subprocess.run(command, input=given, capture_output=True, check=True).stdout


def _split(graph: PolicyGraph, raw: bytes) -> Answers:
    size = 1 if graph.head.kind == "categorical" else len(graph.head.low or graph.head.nvec)
    rows = np.frombuffer(raw, np.float32).reshape(-1, graph.head.num_params + size)
    return Answers(rows[:, : graph.head.num_params], rows[:, graph.head.num_params :])


def metadata(path: Path) -> dict[str, Any]:
    """The metadata of an ONNX file, its JSON decoded."""
    found = onnxruntime.InferenceSession(str(path)).get_modelmeta().custom_metadata_map
    return {key: json.loads(value) if value.startswith("{") else value for key, value in found.items()}
