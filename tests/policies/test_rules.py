"""A tree as rules that a person can read."""

import re
from typing import Any

import numpy as np
import pytest
from sample_graphs import tree_op
from samples import HEADS, make_graph
from tree_samples import TWO, small_graph

from kd_agent import KDError
from kd_agent.policies.graph import ObservationSpec, Op, PolicyGraph
from kd_agent.policies.tree_rules import rules


def test_rules_leave_out_what_decides_nothing() -> None:
    assert rules(small_graph()).splitlines() == [
        "# A tree of 3 leaves, at most 2 comparisons an action.",
        "if x[1] <= 0.1:",
        "    action 0 (p 0.60 to 0.70)",
        "else:  # x[1] > 0.1",
        "    action 1 (p 0.80)",
    ]
    assert "if angle <= 0.1:\n    left (p" in rules(small_graph(), ["height", "angle"], ["left", "right"])
    for names in ({"features": ["height"]}, {"actions": ["left"]}):
        with pytest.raises(KDError, match=r"1 names"):
            rules(small_graph(), **names)


@pytest.mark.parametrize("kind", HEADS)
def test_the_rules_are_the_policy(kind: str) -> None:
    spec = HEADS[kind].spec
    tree = tree_op("obs", "mean" if spec.is_gaussian else "params", leaves=30, features=3, width=spec.num_acting)
    noise = Op("append", ("mean",), "params", {}, {"value": np.zeros(2, np.float32)})
    graph = PolicyGraph({"obs": ObservationSpec((3,), "float32")}, (tree, noise) if spec.is_gaussian else (tree,), spec)
    text = re.sub(r"action (\S.*?)( \(p .*\))?$", r"return \1", rules(graph), flags=re.MULTILINE)
    space: dict[str, Any] = {}
    exec("def act(x):\n" + "\n".join(f"    {line}" for line in text.splitlines()), space)
    x = np.random.default_rng(0).normal(size=(500, 3)).astype(np.float32)
    expected = spec.greedy(graph.compile()({"obs": x})["params"]).reshape(500, -1)
    np.testing.assert_allclose([np.ravel(space["act"](row)) for row in x], expected, rtol=1e-3)
    assert len(np.unique(expected, axis=0)) > 1


def test_a_chain_deeper_than_python_recurses_is_written_too() -> None:
    splits = 1500
    ends = np.arange(splits, 2 * splits + 1, dtype=np.int32)
    tensors = {
        "feature": np.zeros(splits, np.int32),
        "threshold": -np.arange(splits, dtype=np.float32),
        "left": np.append(np.arange(1, splits, dtype=np.int32), ends[-1]),
        "right": ends[:-1],
        "value": np.eye(2, dtype=np.float32)[np.arange(splits + 1) % 2],
    }
    graph = PolicyGraph(
        {"obs": ObservationSpec((1,), "float32")}, (Op("tree", ("obs",), "params", {}, tensors),), TWO.spec
    )
    assert rules(graph).count("action") >= splits


def test_rules_of_a_network_are_refused_and_nothing_of_a_files_strings_is_printed_raw() -> None:
    with pytest.raises(KDError, match="made of normalise, linear, activation; distil with --student tree"):
        rules(make_graph())
    tree = tree_op("e\x1b[2J\n", "params", leaves=4, features=2, width=2)
    assert "\x1b" not in rules(PolicyGraph({"e\x1b[2J\n": ObservationSpec((2,), "float32")}, (tree,), TWO.spec))
