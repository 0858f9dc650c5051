"""Exports of policies that are played by samples: what is drawn elsewhere is distributed as NumPy's rows say."""

import json
import re
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import avr
import numpy as np
import onnxruntime
import played
import pytest
import torch
from c_draws import InC, by_arduino, by_c
from draws import DRAWS, OBSERVATION, SAMPLED, chance, row_of, sampled_graph, sampled_masked_graph
from exported import STRICT, metadata, needs
from known_policies import graph_of
from rock_paper_scissors import ID
from sample_graphs import GRAPHS
from samples import HEADS, SPACES, make_graph
from stable_baselines3 import PPO
from wasm_draws import by_wasm

from kd_agent import evaluate, export, load_teacher, plugins
from kd_agent.environments.vector import spaces_of
from kd_agent.networks.distributions import head_for
from kd_agent.policies.graph import PolicyGraph
from kd_agent.policies.head import HeadSpec
from kd_agent.policies.policy import Policy

MASKS = {"categorical": [1, 0, 1, 1], "multi_categorical": [0, 1, 1, 1, 0, 1, 1], "bernoulli": [1, 1, 0, 1, 1, 1]}
every_kind = pytest.mark.parametrize("kind", HEADS)


JAVASCRIPT = """
import * as policy from "./policy.mjs";
let state = 1;
const seeded = () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
};
const drawn = [];
for (let i = 0; i < DRAWS; i++) drawn.push(policy.sample(OBSERVATION, seeded));
console.log(JSON.stringify(drawn));
"""
"""Draws by numbers of mulberry32."""


def by_javascript(graph: PolicyGraph, mask: Any, folder: Path, random: str = "seeded") -> Any:
    needs("node")
    export(graph, folder / "policy.mjs")
    arguments = [json.dumps(OBSERVATION.tolist()), *([] if mask is None else [json.dumps(mask)])]
    text = JAVASCRIPT.replace("DRAWS", str(DRAWS)).replace("OBSERVATION, seeded", ", ".join([*arguments, random]))
    (folder / "main.mjs").write_text(text)
    return json.loads(subprocess.run(["node", "main.mjs"], cwd=folder, capture_output=True, check=True).stdout)


def asked_for(mask: Any) -> dict[str, Any]:
    """What the inputs of an ONNX model are fed."""
    feed: dict[str, Any] = {"obs": OBSERVATION[None]}
    if mask is not None:
        feed["action_masks"] = np.array([mask], bool)
    return feed


def by_onnx(graph: PolicyGraph, mask: Any, folder: Path) -> Any:
    session = onnxruntime.InferenceSession(str(export(graph, folder / "policy.onnx")[0]))
    names = [output.name for output in session.get_outputs()]
    return drawn_from(graph.head, dict(zip(names, session.run(names, asked_for(mask)), strict=True)))


def by_leapp(graph: PolicyGraph, mask: Any, folder: Path) -> Any:
    manager = pytest.importorskip("leapp").InferenceManager(str(export(graph, folder / "policy.yaml")[0]))
    answer = manager.run_policy({f"policy/{name}": torch.tensor(array) for name, array in asked_for(mask).items()})
    return drawn_from(graph.head, {name.partition("/")[2]: tensor.numpy() for name, tensor in answer.items()})


def drawn_from(head: HeadSpec, outputs: dict[str, Any]) -> Any:
    """What is drawn from the outputs, by NumPy."""
    rng = np.random.default_rng(0)
    if head.is_gaussian:
        mean, std = outputs["mean"], outputs["std"]
        return head.to_box(mean + std * rng.normal(size=(DRAWS, mean.shape[1])))
    share = outputs["probabilities"]
    if head.kind == "bernoulli":
        return rng.random((DRAWS, share.shape[1])) < share
    parts = [part[0].astype(np.float64) for part in head.split(share)]
    draws = [rng.choice(len(part), DRAWS, p=part / part.sum()) for part in parts]
    return np.stack(draws, axis=1) + head.start


def by_torch(graph: PolicyGraph, mask: Any, folder: Path) -> Any:
    program = torch.export.load(export(graph, folder / "policy.pt2")[0]).module()
    torch.manual_seed(0)
    asked = [torch.from_numpy(np.tile(OBSERVATION, (DRAWS, 1)))]
    if mask is not None:
        asked.append(torch.from_numpy(np.tile(np.array(mask, bool), (DRAWS, 1))))
    with torch.no_grad():
        return program(*asked)[1].numpy()


def by_playing(runtime: str) -> Callable[..., Any]:
    def drawn(graph: PolicyGraph, mask: Any, folder: Path) -> Any:
        with played.Process(played.RUNTIMES[runtime](graph, folder)) as process:
            process.ask("begin")
            line = played.asked("sample", OBSERVATION, mask)
            return [process.ask(line) for _ in range(DRAWS)]

    return drawn


def by_script(graph: PolicyGraph, mask: Any, folder: Path) -> Any:
    needs("node")
    export(graph, folder / "policy.js")
    arguments = [json.dumps(OBSERVATION.tolist()), *([] if mask is None else [json.dumps(mask)])]
    text = JAVASCRIPT.replace("DRAWS", str(DRAWS)).replace("OBSERVATION", ", ".join(arguments))
    page = 'import fs from "node:fs";\nimport vm from "node:vm";\n'
    page += 'vm.runInThisContext(fs.readFileSync("policy.js", "utf8"));'
    text = text.replace('import * as policy from "./policy.mjs";', f"{page}\nconst policy = kd;")
    (folder / "main.mjs").write_text(text)
    return json.loads(subprocess.run(["node", "main.mjs"], cwd=folder, capture_output=True, check=True).stdout)


RUNTIMES: dict[str, Callable[..., Any]] = {
    "arduino": by_arduino,
    "c": by_c,
    "javascript": by_javascript,
    "leapp": by_leapp,
    "onnx": by_onnx,
    "script": by_script,
    "torch": by_torch,
    "wasm": by_wasm,
    **{runtime: by_playing(runtime) for runtime in played.RUNTIMES},
}
every_runtime = pytest.mark.parametrize("runtime", RUNTIMES)


def test_every_format_is_drawn_from_by_a_test() -> None:
    assert {*(runtime.partition(" ")[0] for runtime in RUNTIMES), "sb3", "zoo"} == set(plugins.names("export"))


@every_kind
@every_runtime
def test_what_is_drawn_is_distributed_as_numpy_says(kind: str, runtime: str, tmp_path: Path) -> None:
    graph = sampled_graph(kind)
    assert chance(graph.head, row_of(graph), RUNTIMES[runtime](graph, None, tmp_path)) > 1e-3


@pytest.mark.parametrize("kind", MASKS)
@every_runtime
def test_what_a_mask_forbids_is_never_drawn(kind: str, runtime: str, tmp_path: Path) -> None:
    graph = sampled_masked_graph(kind)
    drawn = RUNTIMES[runtime](graph, MASKS[kind], tmp_path)
    assert chance(graph.head, row_of(graph, MASKS[kind]), drawn) > 1e-3


@pytest.mark.parametrize("kind", [kind for kind in HEADS if kind != "squashed_gaussian"])
def test_a_zip_draws_by_default(kind: str, tmp_path: Path) -> None:
    graph = replace(sampled_graph(kind), provenance={"env": "nowhere-v0", "play": "sampled"})
    model = PPO.load(export(graph, tmp_path / "policy.zip")[0], device="cpu")
    torch.manual_seed(0)
    assert chance(graph.head, row_of(graph), model.predict(np.tile(OBSERVATION, (DRAWS, 1)))[0]) > 1e-3


def test_drawn_in_c_a_game_pays_what_it_pays_drawn_in_numpy(tmp_path: Path) -> None:
    """Whoever draws unevenly is exploited, and so are greedy moves."""
    head = head_for(spaces_of(ID)[1]).spec
    # It likes best what the opponent played last, which the next round is more likely to lose than to win.
    graph = graph_of(np.eye(3, 4, 1), head)
    seeds = range(300)
    ours = evaluate(Policy(graph), ID, seeds=seeds, deterministic=False).returns
    in_c = InC(replace(graph, provenance=SAMPLED), tmp_path)
    theirs = evaluate(in_c, ID, seeds=seeds, deterministic=False).returns
    error = np.sqrt((ours.var() + theirs.var()) / len(seeds))
    assert abs(ours.mean() - theirs.mean()) < 3 * error
    assert abs(evaluate(Policy(graph), ID, seeds=seeds).returns.mean() - ours.mean()) > 6 * error


def test_in_c_the_same_state_of_the_generator_draws_the_same_and_any_state_will_do(tmp_path: Path) -> None:
    graph = sampled_graph()
    policy = InC(graph, tmp_path)

    def drawn(state: int) -> list[int]:
        policy.state.value = state
        return [policy.draw(OBSERVATION) for _ in range(30)]

    assert drawn(5) == drawn(5)
    assert len({tuple(drawn(state)) for state in (0, 1, 2, 2**32 - 1)}) == 4
    # First draws of neighbouring states are as good as any.
    firsts = [drawn(state)[0] for state in range(DRAWS)]
    assert chance(graph.head, row_of(graph), firsts) > 1e-3


def test_int8_draws_from_its_own_rows(tmp_path: Path) -> None:
    graph = sampled_graph(hidden=(32, 32))
    policy = InC(graph, tmp_path, int8=True)
    drawn = [policy.draw(OBSERVATION) for _ in range(DRAWS)]
    assert chance(graph.head, policy.params(OBSERVATION), drawn) > 1e-3


@pytest.mark.parametrize("kind", ["categorical", "bernoulli", "diag_gaussian"])
def test_a_board_of_16_bits_draws_the_same(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    graph = sampled_graph(kind)
    text = avr.HARNESS.replace("int main(void) {", "int main(void) {\n    uint32_t state = 1;")
    text = text.replace("kd_act(obs)", "kd_sample(obs, &state)").replace(
        "kd_act(obs, action", "kd_sample(obs, action, &state"
    )
    monkeypatch.setattr(avr, "HARNESS", text)
    found = avr.by_avr(graph, {"obs": np.tile(OBSERVATION, (60, 1))}, tmp_path).actions
    policy = InC(graph, tmp_path)
    drawn = np.array([policy.draw(OBSERVATION) for _ in range(60)], np.float32)
    np.testing.assert_allclose(found, drawn.reshape(60, -1), atol=1e-5)
    assert len(np.unique(found, axis=0)) > 2


def test_javascript_draws_by_math_random_where_nothing_is_said(tmp_path: Path) -> None:
    first, second = (by_javascript(sampled_graph(), None, tmp_path, "undefined") for _ in range(2))
    assert first != second
    assert set(first) == {0, 1, 2, 3}


def test_a_memory_moves_on_by_a_sample_as_by_an_action(tmp_path: Path) -> None:
    graph = replace(GRAPHS["lstm"](), provenance=SAMPLED)
    needs("gcc")
    export(graph, tmp_path / "policy.c")
    main = """
#include <stdio.h>
#include <string.h>
#include "policy.h"
int main(void) {
    const float obs[KD_OBS_SIZE] = {1, 0, -1, 2};
    float states[2][KD_STATE_SIZE] = {{0}};
    uint32_t random = 3;
    for (int i = 0; i < 5; i++) {
        kd_act(obs, states[0]);
        kd_sample(obs, states[1], &random);
    }
    return memcmp(states[0], states[1], sizeof states[0]) != 0 || states[0][0] == 0;
}
"""
    (tmp_path / "main.c").write_text(main)
    subprocess.run(["gcc", *STRICT, "policy.c", "main.c", "-o", "main"], cwd=tmp_path, check=True)
    assert subprocess.run([tmp_path / "main"], check=False).returncode == 0


def test_c_that_draws_is_c_plus_plus_too_and_needs_no_library(tmp_path: Path) -> None:
    needs("g++")
    source, header = export(sampled_graph("diag_gaussian"), tmp_path / "p.c")
    assert "math.h" not in source.read_text() + header.read_text()
    main = (
        '#include "p.h"\nint main() { float x[4] = {0}, a[2]; uint32_t r = 0; kd_sample(x, a, &r); return r == 0; }\n'
    )
    (tmp_path / "main.cpp").write_text(main)
    subprocess.run(["gcc", *STRICT, "-c", "p.c"], cwd=tmp_path, check=True)
    subprocess.run(["g++", "-Wall", "-Werror", "main.cpp", "p.o", "-o", "main"], cwd=tmp_path, check=True)
    assert subprocess.run([tmp_path / "main"], check=False).returncode == 0


def test_an_onnx_file_says_how_it_is_played_and_is_a_teacher_as_ever(tmp_path: Path) -> None:
    for name, graph in (("sampled", sampled_graph()), ("greedy", make_graph())):
        [path] = export(graph, tmp_path / f"{name}.onnx")
        outputs = [output.name for output in onnxruntime.InferenceSession(str(path)).get_outputs()]
        teacher = load_teacher(str(path), env=(spaces_of("CartPole-v1")[0], SPACES["Discrete"]))
        row = teacher({"obs": OBSERVATION[None]}).params.numpy()
        np.testing.assert_allclose(row, Policy(graph).params(OBSERVATION), atol=1e-5)
        assert metadata(path).get("play") == ("sampled" if name == "sampled" else None)
        assert ("probabilities" in outputs) == (name == "sampled")


@pytest.mark.parametrize("suffix", [".c", ".mjs", ".onnx", ".py", ".cs", ".gd"])
def test_a_greedy_policy_is_written_as_if_there_were_no_samples(suffix: str, tmp_path: Path) -> None:
    greedy = export(make_graph(), tmp_path / f"greedy{suffix}")
    drawn = export(sampled_graph(), tmp_path / f"drawn{suffix}")
    assert not any(re.search(b"sampl|random", path.read_bytes(), re.IGNORECASE) for path in greedy)
    assert all(re.search(b"sampl", path.read_bytes(), re.IGNORECASE) for path in drawn)
