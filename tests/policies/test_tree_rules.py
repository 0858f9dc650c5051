"""Decision trees: the operation, the student, the learner and the rules."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from exported import RUNTIMES, by_numpy, tree_op
from samples import HEADS

from kd_agent import KDError, export, load_policy
from kd_agent.policies.file import write
from kd_agent.policies.graph import ObservationSpec, Op, PolicyGraph
from kd_agent.policies.head import Array
from kd_agent.policies.ops import MAX_LEAVES, tree_depth
from kd_agent.policies.policy import Policy

SEEN = {"obs": ObservationSpec((3,), "float32")}


def graph_of(op: Op, kind: str = "categorical") -> PolicyGraph:
    log_std = Op("append", (op.output,), "params", {}, {"value": np.zeros(2, np.float32)})
    return PolicyGraph(SEEN, (op, log_std) if HEADS[kind].spec.is_gaussian else (op,), HEADS[kind].spec)


def random_tree(kind: str = "categorical", leaves: int = 12) -> PolicyGraph:
    spec = HEADS[kind].spec
    output = "mean" if spec.is_gaussian else "params"
    return graph_of(tree_op("obs", output, leaves=leaves, features=3, width=spec.num_acting), kind)


def edges(graph: PolicyGraph) -> dict[str, Array]:
    """Observations that lie on thresholds, and their nearest neighbours on either side."""
    thresholds = graph.ops[0].tensors["threshold"]
    near = np.concatenate(
        [thresholds, np.nextafter(thresholds, np.float32(9)), np.nextafter(thresholds, -np.float32(9))]
    )
    return {"obs": np.random.default_rng(0).choice(near, (4000, 3))}


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("kind", ["multi_categorical", "diag_gaussian"])
def test_a_tree_is_the_same_to_the_last_bit_everywhere(runtime: str, kind: str, tmp_path: Path) -> None:
    graph = random_tree(kind)
    observations = edges(graph)
    found, expected = RUNTIMES[runtime](graph, observations, tmp_path), by_numpy(graph, observations)
    np.testing.assert_array_equal(found.params, expected.params)
    assert len(np.unique(expected.params[:, 0])) > 5
    if kind == "multi_categorical":
        np.testing.assert_array_equal(found.actions, expected.actions)


def test_javascript_rounds_numbers_as_everybody_does(tmp_path: Path) -> None:
    graph = random_tree()
    text = export(graph, tmp_path / "policy.mjs")[0].read_text()
    assert "Math.fround(obs[" in text
    wide = {"obs": edges(graph)["obs"].astype(np.float64) + 1e-12}
    np.testing.assert_array_equal(Policy(graph)._run(wide)["params"], Policy(graph).params(wide["obs"]))


@pytest.mark.parametrize("kind", HEADS)
@pytest.mark.parametrize("backend", ["numpy", "native"])
def test_one_observation_is_answered_as_a_batch_is(kind: str, backend: str, tmp_path: Path) -> None:
    graph = random_tree(kind)
    policy = load_policy(write(graph, tmp_path / "s.safetensors"), backend=backend)
    observations = edges(graph)["obs"][:300]
    batch = policy.predict(observations, deterministic=True)[0]
    assert len(np.unique(batch.reshape(len(batch), -1), axis=0)) > 1
    for one, expected in zip(observations, batch, strict=True):
        np.testing.assert_allclose(policy.act(one), expected, atol=1e-6)
        np.testing.assert_allclose(policy.act(one.astype(np.float64)), expected, atol=1e-6)
    assert isinstance(policy.act(observations[0]), int) == (kind == "categorical")


def test_what_is_returned_is_the_callers(tmp_path: Path) -> None:
    policy = Policy(random_tree("diag_gaussian"))
    first = policy.act(np.zeros(3, np.float32))
    first += 100
    assert not np.array_equal(policy.act(np.zeros(3, np.float32)), first)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_an_observation_that_is_no_number_is_refused(bad: float) -> None:
    with pytest.raises(KDError, match="NaN or infinite"):
        Policy(random_tree()).act(np.float32([0, bad, 0]))


def test_the_rows_of_leaves_can_be_fine_tuned() -> None:
    module = Policy(random_tree()).to_torch()
    assert [name for name, _ in module.named_parameters()] == ["ops.0.t_value"]
    module(torch.zeros(5, 3)).square().sum().backward()
    touched = module.ops[0].t_value.grad.abs().sum(dim=1) > 0
    assert touched.sum() == 1


def changed(role: str, change: Callable[[Array], Array]) -> Op:
    op = tree_op("obs", "params", leaves=6, features=3, width=4)
    return Op(op.kind, op.inputs, op.output, {}, {**op.tensors, role: change(op.tensors[role].copy())})


def put(index: int, value: int) -> Callable[[Array], Array]:
    def change(array: Array) -> Array:
        array[index] = value
        return array

    return change


HOSTILE = {
    "a split that leads to itself": ("left", put(3, 3)),
    "a split that leads back": ("right", put(4, 1)),
    "a leaf that is not there": ("left", put(0, 11)),
    "a child below zero": ("left", put(0, -1)),
    "a leaf reached twice": ("right", put(0, 10)),
    "a feature that is not there": ("feature", put(2, 3)),
    "a feature below zero": ("feature", put(2, -1)),
    "features that are floats": ("feature", lambda array: array.astype(np.float32)),
    "children of another type": ("left", lambda array: array.astype(np.int8)),
    "thresholds that are whole": ("threshold", lambda array: array.astype(np.int32)),
    "too few thresholds": ("threshold", lambda array: array[1:]),
    "a matrix of thresholds": ("threshold", lambda array: array[:, None]),
    "thresholds that are no numbers": ("threshold", lambda array: array * np.float32(np.nan)),
    "too few leaves": ("value", lambda array: array[1:]),
    "leaves without rows": ("value", lambda array: array[:, 0]),
    "leaves of another width": ("value", lambda array: array[:, :3]),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_tree_that_is_none_is_refused(what: str) -> None:
    with pytest.raises(KDError) as caught:
        graph_of(changed(*HOSTILE[what]))
    assert "\n" not in str(caught.value)


def test_trees_without_splits_or_without_end_are_refused() -> None:
    nothing = {role: np.zeros(0, np.int32) for role in ("feature", "left", "right")}
    nothing |= {"threshold": np.zeros(0, np.float32), "value": np.zeros((1, 4), np.float32)}
    with pytest.raises(KDError, match="2 to 4096 leaves"):
        graph_of(Op("tree", ("obs",), "params", {}, nothing))
    with pytest.raises(KDError, match="2 to 4096 leaves"):
        graph_of(tree_op("obs", "params", leaves=MAX_LEAVES + 1, features=3, width=4))
    without = {role: array for role, array in nothing.items() if role != "left"}
    with pytest.raises(KDError, match="do not fit"):
        graph_of(Op("tree", ("obs",), "params", {}, without))
    matrix = {"obs": ObservationSpec((3, 3), "float32")}
    with pytest.raises(KDError, match="side by side"):
        PolicyGraph(matrix, (tree_op("obs", "params", leaves=4, features=3, width=4),), HEADS["categorical"].spec)


def test_whatever_is_accepted_ends_at_a_leaf() -> None:
    rng, accepted = np.random.default_rng(0), 0
    x = rng.normal(size=(50, 3)).astype(np.float32)
    for _ in range(2000):
        op = tree_op("obs", "params", leaves=4, features=3, width=4, seed=int(rng.integers(50)))
        role = ("left", "right", "feature")[rng.integers(3)]
        one, other = rng.integers(3, size=2)
        swapped = {**op.tensors, role: op.tensors[role].copy()}
        swapped[role][[one, other]] = swapped[role][[other, one]] + rng.integers(-1, 2, dtype=np.int32)
        try:
            graph = graph_of(Op("tree", ("obs",), "params", {}, swapped))
        except KDError:
            continue
        accepted += 1
        found = graph.compile()({"obs": x})["params"]
        assert all((row == swapped["value"]).all(axis=1).any() for row in found)
    assert 100 < accepted < 1900


def test_the_depth_is_that_of_the_longest_way_down() -> None:
    chain = np.arange(1, 6, dtype=np.int32)
    chain[-1] = 9
    op = changed("left", lambda array: chain)
    op = Op(op.kind, op.inputs, op.output, {}, {**op.tensors, "right": np.int32([5, 6, 7, 8, 10])})
    assert tree_depth(op) == 5
    assert tree_depth(tree_op("obs", "params", leaves=2, features=3, width=4)) == 1


def test_formats_that_have_no_trees_say_which_have(tmp_path: Path) -> None:
    with pytest.raises(KDError, match="'tree'; formats that can: c, javascript, onnx, torch"):
        export(random_tree(), tmp_path / "p.zip")
    with pytest.raises(KDError, match="this policy has none; write it without int8"):
        export(random_tree(), tmp_path / "p.c", int8=True)
    assert list(tmp_path.iterdir()) == []
