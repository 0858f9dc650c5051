"""How to run what an export wrote, and how to compare it with NumPy; the graphs to export are `sample_graphs`'."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import played
import pytest
import torch
from played import Answers, needs
from sample_graphs import GRAPHS, linear, observations_for, tree_op

from kd_agent import export
from kd_agent.policies.graph import PolicyGraph
from kd_agent.policies.policy import Policy

__all__ = [
    "COMMENT",
    "EVIL",
    "GRAPHS",
    "RUNTIMES",
    "Answers",
    "assert_same",
    "linear",
    "metadata",
    "needs",
    "observations_for",
    "tree_op",
]

COMMENT = {
    ".c": r"/\*.*?\*/",
    ".h": r"/\*.*?\*/",
    ".mjs": r"//[^\n]*",
    ".js": r"//[^\n]*",
    ".cs": r"//[^\n]*",
    ".py": r'"""\w.*?"""',
    ".gd": r"#[^\n]*",
}
"""Comments of each language, by the suffix of its files."""
EVIL = '*/ evil(); /* ??/\n#include <evil>\r\n"; evil(); // \\'
"""What breaks out of a comment or a literal, where nothing hinders it."""
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
SCRIPT = MODULE.replace(
    'import * as policy from "./policy.mjs";',
    'import vm from "node:vm";\nvm.runInThisContext(fs.readFileSync("policy.js", "utf8"));\nconst policy = kd;',
)
"""A classic script, in a global scope as a page has it."""

WASM = """
import fs from "node:fs";
const load = () => new WebAssembly.Instance(new WebAssembly.Module(fs.readFileSync("policy.wasm"))).exports;
// Each has its own memory, so that a recurrent policy's moves once an observation in both.
const [policy, other] = [load(), load()];
const raw = fs.readFileSync(0);
const all = new Float32Array(raw.buffer, raw.byteOffset, raw.length / 4);
const floats = (module, at, size) => new Float32Array(module.memory.buffer, at, size);
const obsSize = policy.obs_size(), size = policy.action_size();
const out = [];
for (let i = 0; i < all.length; i += obsSize) {
    const obs = all.subarray(i, i + obsSize);
    for (const module of [policy, other]) floats(module, module.obs(), obsSize).set(obs);
    const action = policy.act();
    out.push(...floats(other, other.params(), other.num_params()));
    out.push(...(size ? floats(policy, action, size) : [action]));
}
fs.writeFileSync(1, new Uint8Array(Float32Array.from(out).buffer));
"""


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


def by_arduino(graph: PolicyGraph, observations: dict[str, Any], folder: Path, **options: Any) -> Answers:
    """The library's C on this machine; `avr.by_sketch` plays it on a board."""
    needs("gcc")
    library = export(graph, folder / "policy.arduino", **options)[0]
    (folder / "main.c").write_text(HARNESS)
    sources = [f"-I{library}/src", f"{library}/src/policy.c", "main.c"]
    subprocess.run(["gcc", *STRICT, *sources, "-o", "policy"], cwd=folder, check=True)
    return _split(graph, _piped([str(folder / "policy")], graph, observations))


def by_javascript(graph: PolicyGraph, observations: dict[str, Any], folder: Path) -> Answers:
    needs("node")
    export(graph, folder / "policy.mjs")
    (folder / "main.mjs").write_text(MODULE)
    return _split(graph, _piped(["node", str(folder / "main.mjs")], graph, observations))


def by_wasm(graph: PolicyGraph, observations: dict[str, Any], folder: Path, **options: Any) -> Answers:
    for tool in ("clang", "wasm-ld", "node"):
        needs(tool)
    export(graph, folder / "policy.wasm", **options)
    (folder / "main.mjs").write_text(WASM)
    return _split(graph, _piped(["node", "main.mjs"], graph, observations, folder))


def by_script(graph: PolicyGraph, observations: dict[str, Any], folder: Path) -> Answers:
    needs("node")
    export(graph, folder / "policy.js")
    (folder / "script.mjs").write_text(SCRIPT)
    return _split(graph, _piped(["node", "script.mjs"], graph, observations, folder))


def by_onnx(graph: PolicyGraph, observations: dict[str, Any], folder: Path, **options: Any) -> Answers:
    session = onnxruntime.InferenceSession(str(export(graph, folder / "policy.onnx", **options)[0]))
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


def by_leapp(graph: PolicyGraph, observations: dict[str, Any], folder: Path) -> Answers:
    """By its own inference manager, as a host calls it: one observation after the other, the memory its business."""
    leapp = pytest.importorskip("leapp")
    manager = leapp.InferenceManager(str(export(graph, folder / "policy.yaml")[0]))
    dtypes = {tensor["name"]: tensor["dtype"] for tensor in manager.models["policy"]["inputs"]}
    rows = []
    for index in range(len(next(iter(observations.values())))):
        inputs = {}
        for key, array in observations.items():
            name = key if list(observations) == ["obs"] else f"obs.{key}"
            inputs[f"policy/{name}"] = torch.tensor(array[index : index + 1].astype(dtypes[name]))
        answer = manager.run_policy(inputs)
        assert sorted(answer) == ["policy/action", "policy/params"]
        rows.append((answer["policy/params"].numpy(), answer["policy/action"].numpy()))
    return Answers(*(np.concatenate(part).reshape(len(rows), -1) for part in zip(*rows, strict=True)))


def by_torch(graph: PolicyGraph, observations: dict[str, Any], folder: Path) -> Answers:
    module = Policy(graph).to_torch()
    tensors: Any = {key: torch.from_numpy(array) for key, array in observations.items()}
    with torch.no_grad():
        if not graph.states:
            if list(tensors) == ["obs"]:
                tensors = tensors["obs"]
            params = module(tensors).numpy()
            return Answers(params, module.act(tensors).numpy().reshape(len(params), -1))
        state, rows = None, []
        for i in range(len(observations["obs"])):
            row, state = module.step(tensors["obs"][i : i + 1], state)
            rows.append(row)
        params = torch.cat(rows)
        return Answers(params.numpy(), module.greedy(params).numpy().reshape(len(params), -1))


RUNTIMES: dict[str, Callable[..., Answers]] = {
    "arduino": by_arduino,
    "c": by_c,
    "c by clang": lambda *args: by_c(*args, compiler="clang"),
    "javascript": by_javascript,
    "leapp": by_leapp,
    "onnx": by_onnx,
    "script": by_script,
    "torch": by_torch,
    "wasm": by_wasm,
    **{name: played.by(name) for name in played.RUNTIMES},
}


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


def _piped(command: list[str], graph: PolicyGraph, observations: dict[str, Any], folder: Path | None = None) -> bytes:
    flat = [np.asarray(observations[key], np.float32).reshape(len(observations[key]), -1) for key in graph.observations]
    raw = np.ascontiguousarray(np.concatenate(flat, axis=1)).tobytes()
    return subprocess.run(command, input=raw, capture_output=True, check=True, cwd=folder).stdout


def _split(graph: PolicyGraph, raw: bytes) -> Answers:
    size = 1 if graph.head.kind == "categorical" else len(graph.head.low or graph.head.nvec)
    rows = np.frombuffer(raw, np.float32).reshape(-1, graph.head.num_params + size)
    return Answers(rows[:, : graph.head.num_params], rows[:, graph.head.num_params :])


def metadata(path: Path) -> dict[str, Any]:
    """The metadata of an ONNX file, its JSON decoded."""
    found = onnxruntime.InferenceSession(str(path)).get_modelmeta().custom_metadata_map
    return {key: json.loads(value) if value.startswith(("{", "[")) else value for key, value in found.items()}
