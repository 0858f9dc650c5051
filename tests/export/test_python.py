"""Python: one file of the standard library, that refuses what is no observation."""

import ast
import importlib.util
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import played
import pytest
from draws import OBSERVATION, sampled_graph
from masked_agents import masked_graph
from sample_graphs import GRAPHS, observations_for
from samples import make_graph

from kd_agent import export
from kd_agent.policies.graph import PolicyGraph


def module(graph: PolicyGraph, folder: Path, name: str = "policy") -> ModuleType:
    """The exported file, imported."""
    [path] = export(graph, folder / f"{name}.py")
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


@pytest.mark.parametrize(
    ("observation", "words"),
    [
        ([1, 2, 3], "obs has 3 numbers, expected 4"),
        ([1, 2, 3, 4, 5], "obs has 5 numbers, expected 4"),
        ([0, float("nan"), 0, 0], r"obs\[1\] is not a finite number"),
        ([0, 0, 1e39, -np.inf], r"obs\[2\] is not a finite number"),
    ],
)
def test_what_is_no_observation_is_refused(observation: list[float], words: str, tmp_path: Path) -> None:
    policy = module(make_graph(), tmp_path)
    with pytest.raises(ValueError, match=words):
        policy.act(observation)


def test_an_observation_is_rounded_as_numpy_s_policy_rounds_it(tmp_path: Path) -> None:
    policy = module(make_graph(), tmp_path)
    wide = [0.1, -0.2, 0.3, 1.7]
    narrow = np.float32(wide).tolist()
    assert narrow != wide
    assert policy.params(wide) == policy.params(narrow)


def test_a_mask_of_another_length_is_refused(tmp_path: Path) -> None:
    policy = module(masked_graph(), tmp_path)
    with pytest.raises(ValueError, match="mask has 1 flags, expected 4"):
        policy.act([0, 0, 0, 0], [True])
    assert policy.act([0, 0, 0, 0], np.array([False, False, True, False])) == 2


@pytest.mark.parametrize("name", GRAPHS)
def test_it_imports_nothing_but_the_standard_library_and_numpy_where_it_is(name: str, tmp_path: Path) -> None:
    [path] = export(GRAPHS[name](), tmp_path / "policy.py")
    text = path.read_text()
    tree = ast.parse(text)
    imported = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom):
            imported.add((node.module or "").partition(".")[0])
    assert imported - {"numpy"} <= sys.stdlib_module_names
    assert ("numpy" in imported) == ("kd_dense" in text)


def test_the_file_has_its_types_and_imports_what_it_uses(tmp_path: Path) -> None:
    graphs = {"masked": masked_graph("bernoulli"), "memory": GRAPHS["lstm"](), "drawn": sampled_graph("diag_gaussian")}
    for name, graph in graphs.items():
        export(graph, tmp_path / f"{name}.py")
    for command in (["mypy", "--strict", "--config-file="], ["ruff", "check", "--isolated", "--select", "F,E9"]):
        done = subprocess.run(
            [sys.executable, "-m", *command, "."], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout


def test_constants_are_the_policy_s_to_the_last_bit(tmp_path: Path) -> None:
    graph = make_graph(hidden=(16,))
    policy = module(graph, tmp_path)
    kept = [np.float32(getattr(policy, name)) for name in vars(policy) if name[0] == "k" and name[1:].isdigit()]
    for op in graph.ops:
        for tensor in op.tensors.values():
            assert any(tensor.size == array.size and (tensor.ravel() == array.ravel()).all() for array in kept)


def test_with_numpy_and_without_it_answers_the_same(tmp_path: Path) -> None:
    graph = make_graph(hidden=(64, 64))
    observations = observations_for(graph, 300)
    asked = [played.ask(runtime, graph, observations, None, tmp_path) for runtime in ("python", "python without numpy")]
    np.testing.assert_allclose(asked[0].params, asked[1].params, rtol=1e-6)
    np.testing.assert_array_equal(asked[0].actions, asked[1].actions)


def test_actions_are_python_s_own_numbers_and_lists(tmp_path: Path) -> None:
    zeros = [0.0, 0.0, 0.0, 0.0]
    assert type(module(make_graph(), tmp_path, "one").act(zeros)) is int
    several = module(make_graph("multi_categorical"), tmp_path, "several").act(zeros)
    assert list(map(type, several)) == [int, int]
    box = module(make_graph("diag_gaussian"), tmp_path, "box").act(zeros)
    assert list(map(type, box)) == [float, float]


def test_a_memory_belongs_to_the_caller(tmp_path: Path) -> None:
    policy = module(GRAPHS["lstm"](), tmp_path)
    state, fresh, obs = policy.new_state(), policy.new_state(), [1.0, 0.0, -1.0, 2.0]
    first, second = policy.params(obs, state), policy.params(obs, state)
    assert len(state) == 10
    assert first == policy.params(obs, fresh)
    assert first != second


def test_a_sample_is_drawn_by_the_caller_s_numbers_or_its_own(tmp_path: Path) -> None:
    policy = module(sampled_graph(), tmp_path)

    def drawn(*random: Any) -> list[int]:
        return [policy.sample(OBSERVATION, *random) for _ in range(100)]

    assert len(set(drawn(lambda: 0.5))) == 1
    assert set(drawn()) == {0, 1, 2, 3}


def test_an_action_is_computed_without_the_standard_deviations(tmp_path: Path) -> None:
    graph = GRAPHS["state-dependent noise"]()
    text = export(replace(graph, provenance={}), tmp_path / "policy.py")[0].read_text()
    assert text.count("_run(obs, False)") == text.count("_run(obs, True)") == 1
