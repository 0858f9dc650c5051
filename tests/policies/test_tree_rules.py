"""The rules of a tree as text: names, categories, probabilities, and nothing that a tree is not."""

import re
from itertools import pairwise

import numpy as np
import pytest
from sample_graphs import GRAPHS
from samples import HEADS
from trees import graph_of, random_tree

from kd_agent import KDError
from kd_agent.policies.graph import ObservationSpec, Op, PolicyGraph
from kd_agent.policies.tree_rules import rules


def stump(value: np.ndarray, threshold: float = 0.5, source: str = "obs", output: str = "params") -> Op:
    """One split by the first number."""
    tensors = {"feature": np.int32([0]), "threshold": np.float32([threshold]), "left": np.int32([1])}
    return Op("tree", (source,), output, {}, {**tensors, "right": np.int32([2]), "value": np.float32(value)})


@pytest.mark.parametrize("kind", HEADS)
def test_each_condition_has_its_opposite_and_each_way_ends_in_an_action(kind: str) -> None:
    lines = rules(random_tree(kind)).splitlines()
    assert re.fullmatch(r"# A tree of 12 leaves, at most \d+ comparisons an action\.", lines[0])
    conditions = [line for line in lines if line.endswith(":")]
    opposites = [line for line in lines if "else:  # " in line]
    actions = [line for line in lines if line.lstrip().startswith("action ")]
    assert len(conditions) == len(opposites) == len(actions) - 1
    assert len(lines) == 1 + len(conditions) + len(opposites) + len(actions)
    for condition, action in pairwise(lines[1:]):
        if condition.endswith(":") or "else:" in condition:
            assert len(action) - len(action.lstrip()) == len(condition) - len(condition.lstrip()) + 4


def test_a_threshold_is_the_very_float32() -> None:
    threshold = np.nextafter(np.float32(0.1), np.float32(1))
    text = rules(graph_of(stump(np.eye(2, 4), float(threshold))))
    [found] = re.findall(r"if x\[0\] <= (\S+):", text)
    assert np.float32(found) == threshold
    assert f"else:  # x[0] > {found}" in text


@pytest.mark.parametrize(
    ("kind", "value", "lines"),
    [
        (
            "categorical",
            np.log([[0.7, 0.1, 0.1, 0.1], [0.1, 0.2, 0.6, 0.1]]),
            ["action 0 (p 0.70)", "action 2 (p 0.60)"],
        ),
        ("bernoulli", [[50, -50, 0], [0, 0, -50]], ["action (1, 0, 0) (p 0.50)", "action (0, 0, 0) (p 0.25)"]),
        ("diag_gaussian", [[0.5, 9], [-2, 0.123456]], ["action (0.5, 3)", "action (-1, 0.1235)"]),
    ],
)
def test_an_action_is_written_with_its_probability_where_it_has_one(
    kind: str, value: np.ndarray, lines: list[str]
) -> None:
    output = "mean" if kind == "diag_gaussian" else "params"
    text = rules(graph_of(stump(np.asarray(value), output=output), kind))
    assert [line.strip() for line in text.splitlines() if line.startswith("    ")] == lines


def test_a_split_that_changes_nothing_of_continuous_actions_is_left_out() -> None:
    graph = graph_of(stump(np.ones((2, 2)), output="mean"), "diag_gaussian")
    assert rules(graph).splitlines()[1:] == ["action (1, 1)"]


def test_names_take_the_place_of_numbers() -> None:
    graph = graph_of(stump(np.eye(2, 4)))
    text = rules(graph, ["height", "speed", "angle"], ["left", "right", "up", "down"])
    assert "if height <= 0.5:" in text
    assert "    left (p " in text
    assert "    right (p " in text


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ({"features": ["height"]}, "1 names for the 3 numbers that the tree sees"),
        ({"features": list("abcd")}, "4 names for the 3 numbers that the tree sees"),
        ({"actions": ["left"]}, "1 names of actions for a categorical head of 4"),
    ],
)
def test_names_too_few_or_too_many_are_refused(names: dict[str, list[str]], message: str) -> None:
    with pytest.raises(KDError, match=message):
        rules(random_tree(), **names)


def test_actions_have_names_in_a_discrete_space_alone() -> None:
    with pytest.raises(KDError, match="3 names of actions for a bernoulli head of 3"):
        rules(random_tree("bernoulli"), actions=["a", "b", "c"])


@pytest.mark.parametrize(
    ("threshold", "condition", "opposite"),
    [
        (0.5, "word != 0", "word == 0"),
        (0.0, "word != 0", "word == 0"),
        (1.0, "(word == 0) <= 1.0", "(word == 0) > 1.0"),
        (-0.5, "(word == 0) <= -0.5", "(word == 0) > -0.5"),
    ],
)
def test_a_category_is_compared_with_its_number(threshold: float, condition: str, opposite: str) -> None:
    ops = (Op("one_hot", ("word",), "hot", {"sizes": [3]}), stump(np.eye(2, 4), threshold, "hot"))
    graph = PolicyGraph({"word": ObservationSpec((), "int64", (3,))}, ops, HEADS["categorical"].spec)
    text = rules(graph)
    assert f"if {condition}:" in text
    assert f"else:  # {opposite}" in text


def test_keys_that_are_no_names_are_quoted_and_numbers_of_a_matrix_have_two_indices() -> None:
    ops = (
        Op("flatten", ("größe",), "first"),
        Op("flatten", ("map",), "second"),
        Op("concatenate", ("second", "first"), "all"),
        stump(np.eye(2, 4), source="all"),
    )
    observations = {"größe": ObservationSpec((1,), "float32"), "map": ObservationSpec((1, 2), "float32")}
    graph = PolicyGraph(observations, ops, HEADS["categorical"].spec)
    assert "if map[0, 0] <= 0.5:" in rules(graph)
    turned = (*ops[:2], Op("concatenate", ("first", "second"), "all"), ops[3])
    assert r"if 'gr\xf6\xdfe'[0] <= 0.5:" in rules(PolicyGraph(observations, turned, HEADS["categorical"].spec))


@pytest.mark.parametrize(
    ("name", "kinds"),
    [
        ("trees", "tree, activation, concatenate"),
        ("state-dependent noise", "linear, activation, concatenate"),
        ("categorical", "normalise, linear, activation"),
    ],
)
def test_what_is_no_single_tree_says_what_it_is_made_of(name: str, kinds: str) -> None:
    with pytest.raises(KDError, match=f"this policy is made of {kinds}; distil with --student tree"):
        rules(GRAPHS[name]())
