"""Exports of policies that play with action masks: each, in its own runtime, keeps to a mask as NumPy does."""

import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import played
import pytest
import torch
from exported import MODULE, STRICT, needs
from masked_agents import masked_graph, random_masks
from sb3_contrib import MaskablePPO

from kd_agent import KDError, export, load_teacher
from kd_agent.policies.graph import PolicyGraph
from kd_agent.policies.policy import Policy

PARTS = {"categorical": [4], "multi_categorical": [3, 4], "bernoulli": [2, 2, 2]}
every_kind = pytest.mark.parametrize("kind", PARTS)

HARNESS = """
#include <stdio.h>
#include "policy.h"
#ifdef KD_STATE_SIZE
static float state[2][KD_STATE_SIZE];
#define STATE(k) , state[k]
#else
#define STATE(k)
#endif
int main(int count, char **names) {
    float obs[KD_OBS_SIZE], flags[KD_NUM_MASKS], params[KD_NUM_PARAMS];
    unsigned char bytes[KD_NUM_MASKS], *mask = count > 1 ? NULL : bytes;
    (void)names;
    while (fread(obs, sizeof obs, 1, stdin) == 1 && fread(flags, sizeof flags, 1, stdin) == 1) {
        for (int i = 0; i < KD_NUM_MASKS; i++) bytes[i] = (unsigned char)(flags[i] * 255.0f);
#ifdef KD_NUM_ACTIONS
        float action[1];
        action[0] = (float)kd_act(obs STATE(0), mask);
#else
        float action[KD_ACTION_SIZE];
        kd_act(obs STATE(0), mask, action);
#endif
        kd_params(obs STATE(1), mask, params);
        fwrite(params, sizeof params, 1, stdout);
        fwrite(action, sizeof action, 1, stdout);
    }
    return 0;
}
"""


def by_c(graph: PolicyGraph, observations: Any, masks: Any, folder: Path) -> Any:
    needs("gcc")
    export(graph, folder / "policy.c")
    (folder / "main.c").write_text(HARNESS)
    subprocess.run(["gcc", *STRICT, "policy.c", "main.c", "-o", "policy"], cwd=folder, check=True)
    return _piped([str(folder / "policy"), *([] if masks is not None else ["none"])], graph, observations, masks)


def by_javascript(graph: PolicyGraph, observations: Any, masks: Any, folder: Path) -> Any:
    needs("node")
    export(graph, folder / "policy.mjs")
    text = MODULE.replace("policy.obsSize) {", "policy.obsSize + policy.numMasks) {", 1)
    flags = "all.subarray(i + policy.obsSize, i + policy.obsSize + policy.numMasks)" if masks is not None else ""
    # Without a memory, the mask is the second argument.
    first = "obs, states[0]" if graph.states else "obs"
    second = "obs, states[1]" if graph.states else "obs"
    text = text.replace("obs, states[0]", f"{first}, {flags}").replace("obs, states[1]", f"{second}, {flags}")
    (folder / "main.mjs").write_text(text)
    return _piped(["node", str(folder / "main.mjs")], graph, observations, masks)


def by_onnx(graph: PolicyGraph, observations: Any, masks: Any, folder: Path) -> Any:
    session = onnxruntime.InferenceSession(str(export(graph, folder / "policy.onnx")[0]))
    state = {name: np.zeros((1, *shape), np.float32) for name, shape in graph.states.items()}
    flags = np.ones((len(observations), graph.head.num_masks), bool) if masks is None else masks
    if not state:
        params, actions = session.run(["params", "action"], {"obs": observations, "action_masks": flags})
        return params, actions.reshape(len(params), -1)
    rows = []
    [name] = graph.states
    memory = state[name]
    for k in range(len(observations)):
        feed = {"obs": observations[k : k + 1], "action_masks": flags[k : k + 1], f"state.{name}": memory}
        *row, memory = session.run(["params", "action", f"state.{name}.next"], feed)
        rows.append(row)
    return tuple(np.concatenate(part).reshape(len(rows), -1) for part in zip(*rows, strict=True))


def by_leapp(graph: PolicyGraph, observations: Any, masks: Any, folder: Path) -> Any:
    """A host that knows of no masks feeds none: all is allowed then."""
    leapp = pytest.importorskip("leapp")
    manager = leapp.InferenceManager(str(export(graph, folder / "policy.yaml")[0]))
    rows = []
    for k in range(len(observations)):
        feed = {"policy/obs": torch.tensor(observations[k : k + 1])}
        if masks is not None:
            feed["policy/action_masks"] = torch.tensor(masks[k : k + 1])
        answer = manager.run_policy(feed)
        rows.append((answer["policy/params"].numpy(), answer["policy/action"].numpy()))
    return tuple(np.concatenate(part).reshape(len(rows), -1) for part in zip(*rows, strict=True))


def by_torch(graph: PolicyGraph, observations: Any, masks: Any, folder: Path) -> Any:
    flags = torch.ones(len(observations), graph.head.num_masks, dtype=torch.bool)
    if masks is not None:
        flags = torch.from_numpy(masks)
    program = torch.export.load(export(graph, folder / "policy.pt2")[0]).module()
    with torch.no_grad():
        params, actions = program(torch.from_numpy(observations), flags)
    return params.numpy(), actions.numpy().reshape(len(params), -1)


def by_sb3(graph: PolicyGraph, observations: Any, masks: Any, folder: Path) -> Any:
    [path] = export(graph, folder / "policy.zip")
    actions, _ = MaskablePPO.load(path, device="cpu").predict(observations, deterministic=True, action_masks=masks)
    # What the zip says is read back by our own loader.
    teacher = load_teacher(str(path))
    assert teacher.expects_masks
    label = teacher.label({"obs": observations}, action_masks=masks)
    return label.params.numpy(), actions.reshape(len(actions), -1)


def by_playing(runtime: str) -> Callable[..., Any]:
    def answers(graph: PolicyGraph, observations: Any, masks: Any, folder: Path) -> Any:
        found = played.ask(runtime, graph, {"obs": observations}, masks, folder)
        return found.params, found.actions

    return answers


RUNTIMES: dict[str, Callable[..., Any]] = {
    "c": by_c,
    "javascript": by_javascript,
    "leapp": by_leapp,
    "onnx": by_onnx,
    "torch": by_torch,
    "sb3": by_sb3,
    **{runtime: by_playing(runtime) for runtime in played.RUNTIMES},
}


def states(kind: str, count: int = 300) -> tuple[Any, Any]:
    rng = np.random.default_rng(4)
    masks = random_masks(PARTS[kind], count, rng)
    masks[0] = False
    # Near 0: a zip without statistics is exact where nothing reaches the clip of the normaliser.
    return rng.uniform(-0.4, 0.4, (count, 4)).astype(np.float32), masks


@every_kind
@pytest.mark.parametrize("runtime", RUNTIMES)
def test_an_exported_policy_keeps_to_a_mask_as_numpy_does(kind: str, runtime: str, tmp_path: Path) -> None:
    graph = masked_graph(kind)
    observations, masks = states(kind)
    for flags in (masks, None):
        expected = Policy(graph).params(observations, flags)
        params, actions = RUNTIMES[runtime](graph, observations, flags, tmp_path)
        np.testing.assert_allclose(params, expected, atol=1e-5, rtol=1e-5)
        np.testing.assert_array_equal(actions, graph.head.greedy(expected).reshape(len(masks), -1))
    bare = graph.head.greedy(Policy(graph).params(observations))
    assert (bare != graph.head.greedy(Policy(graph).params(observations, masks))).any()


@pytest.mark.parametrize("runtime", ["c", "javascript", "leapp", "onnx"])
def test_a_memory_and_a_mask_go_together(runtime: str, tmp_path: Path) -> None:
    graph = masked_graph("categorical", "gru")
    observations, masks = states("categorical", 50)
    policy, memory, rows = Policy(graph), None, []
    for k in range(len(masks)):
        row, memory = policy.step_batch({"obs": observations[k : k + 1]}, memory, None, masks[k : k + 1])
        rows.append(row)
    expected = np.concatenate(rows)
    params, actions = RUNTIMES[runtime](graph, observations, masks, tmp_path)
    np.testing.assert_allclose(params, expected, atol=1e-5, rtol=1e-5)
    np.testing.assert_array_equal(actions[:, 0], graph.head.greedy(expected))


@every_kind
def test_int8_keeps_to_a_mask(kind: str, tmp_path: Path) -> None:
    needs("gcc")
    graph = masked_graph(kind)
    observations, masks = states(kind)
    export(graph, tmp_path / "policy.c", int8=True)
    (tmp_path / "main.c").write_text(HARNESS)
    subprocess.run(["gcc", *STRICT, "policy.c", "main.c", "-o", "policy"], cwd=tmp_path, check=True)
    params, _ = _piped([str(tmp_path / "policy")], graph, observations, masks)
    np.testing.assert_allclose(params, Policy(graph).params(observations, masks), atol=0.2)


def test_a_mask_of_another_length_is_refused_in_javascript(tmp_path: Path) -> None:
    needs("node")
    export(masked_graph(), tmp_path / "policy.mjs")
    (tmp_path / "main.mjs").write_text('import * as p from "./policy.mjs"; p.act([0, 0, 0, 0], [true]);')
    done = subprocess.run(["node", str(tmp_path / "main.mjs")], capture_output=True, text=True, check=False)
    assert "RangeError: mask has 1 flags, expected 4" in done.stderr


@pytest.mark.parametrize("suffix", [".c", ".mjs", ".onnx", ".py", ".cs", ".gd"])
def test_a_policy_without_masks_is_written_as_if_there_were_none(suffix: str, tmp_path: Path) -> None:
    graph = masked_graph()
    bare = replace(graph, head=replace(graph.head, expects_masks=False))
    for one, name in ((graph, "masked"), (bare, "bare")):
        export(one, tmp_path / f"{name}{suffix}")
    assert b"mask" in (tmp_path / f"masked{suffix}").read_bytes()
    assert b"mask" not in (tmp_path / f"bare{suffix}").read_bytes()


def test_adapters_that_cannot_hand_masks_on_refuse(tmp_path: Path) -> None:
    torchrl = pytest.importorskip("kd_agent.adapters.torchrl")
    with pytest.raises(KDError, match="action masks"):
        torchrl.module(Policy(masked_graph()))


def _piped(command: list[str], graph: PolicyGraph, observations: Any, masks: Any) -> Any:
    flags = np.zeros((len(observations), graph.head.num_masks)) if masks is None else masks
    raw = np.concatenate([observations, flags], axis=1).astype(np.float32).tobytes()
    done = subprocess.run(command, input=raw, capture_output=True, check=True)
    rows = np.frombuffer(done.stdout, np.float32).reshape(len(observations), -1)
    return rows[:, : graph.head.num_params], rows[:, graph.head.num_params :]
