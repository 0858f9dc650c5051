"""JavaScript: one module without dependencies, run by Node, that refuses what is no observation."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from exported import needs
from sample_graphs import GRAPHS
from samples import make_graph

from kd_agent import export
from kd_agent.policies.graph import PolicyGraph


def evaluated(graph: PolicyGraph, expression: str, folder: Path) -> Any:
    """What an expression of `policy`, the module, is in Node."""
    needs("node")
    export(graph, folder / "policy.mjs")
    main = f'import * as policy from "./policy.mjs";\nconsole.log(JSON.stringify({expression}));\n'
    (folder / "main.mjs").write_text(main)
    done = subprocess.run(["node", "main.mjs"], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize(
    ("observation", "words"),
    [
        ("[1, 2, 3]", "obs has 3 numbers, expected 4"),
        ("[1, 2, 3, 4, 5]", "obs has 5 numbers, expected 4"),
        ("[0, NaN, 0, 0]", "obs[1] is not a finite number"),
        ("[0, 0, 0, -Infinity]", "obs[3] is not a finite number"),
        ("[0, 0, 'x', 0]", "obs[2] is not a finite number"),
    ],
)
def test_what_is_no_observation_is_refused(observation: str, words: str, tmp_path: Path) -> None:
    attempt = f"(() => {{ try {{ return policy.act({observation}); }} catch (e) {{ return [e.name, e.message]; }} }})()"
    assert evaluated(make_graph(), attempt, tmp_path) == ["RangeError", words]


def test_the_module_exports_what_a_caller_needs(tmp_path: Path) -> None:
    (tmp_path / "gru").mkdir()
    names = "Object.keys(policy).sort()"
    assert evaluated(make_graph(), names, tmp_path) == ["act", "obsSize", "params"]
    assert evaluated(GRAPHS["gru"](), names, tmp_path / "gru") == ["act", "newState", "obsSize", "params"]


def test_it_imports_nothing(tmp_path: Path) -> None:
    [path] = export(make_graph("diag_gaussian"), tmp_path / "policy.mjs")
    text = path.read_text()
    assert "import" not in text
    assert "require" not in text


def test_an_action_is_a_number_or_a_plain_array(tmp_path: Path) -> None:
    (tmp_path / "box").mkdir()
    zeros = "policy.act([0, 0, 0, 0])"
    assert evaluated(make_graph(), zeros, tmp_path) in range(4)
    action = evaluated(make_graph("multi_categorical"), f"[Array.isArray({zeros}), {zeros}]", tmp_path / "box")
    assert action[0] is True
    assert len(action[1]) == 2


def test_calls_do_not_disturb_each_other(tmp_path: Path) -> None:
    """The working arrays are shared by all calls: an answer must not be one of them."""
    ask = "policy.params([0, 0, 0, 0])"
    again = f"(() => {{ const first = {ask}; policy.params([9, 9, 9, 9]); return [first, {ask}]; }})()"
    first, second = evaluated(make_graph(), again, tmp_path)
    assert first == second


def test_a_memory_belongs_to_the_caller(tmp_path: Path) -> None:
    steps = """(() => {
        const state = policy.newState(), fresh = policy.newState(), obs = [1, 0, -1, 2];
        const first = policy.params(obs, state), second = policy.params(obs, state);
        return [state.length, first, second, policy.params(obs, fresh)];
    })()"""
    size, first, second, begun_anew = evaluated(GRAPHS["lstm"](), steps, tmp_path)
    assert size == 10
    assert first == begun_anew
    assert first != second


def test_an_action_is_computed_without_the_standard_deviations(tmp_path: Path) -> None:
    [path] = export(GRAPHS["state-dependent noise"](), tmp_path / "policy.mjs")
    text = path.read_text()
    assert "function run(obs, out, all) {" in text
    assert text.count("run(obs, row, false);") == text.count("run(obs, row, true);") == 1
