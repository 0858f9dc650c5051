"""The NumPy kernels against torch's and plain Python's, and trees that are none."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from exported import RUNTIMES, by_numpy
from sample_graphs import numbers, tree_op
from samples import HEADS
from torch.nn import functional as F
from trees import edges, graph_of, random_tree

from kd_agent import KDError, export, plugins
from kd_agent.policies.graph import ObservationSpec, Op, PolicyGraph
from kd_agent.policies.head import Array
from kd_agent.policies.ops import ELEMENTWISE, KERNELS, LEARNT, MAX_LEAVES, MAX_SIZE, tree_depth
from kd_agent.policies.policy import Policy


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
    able = ", ".join(name for name in plugins.names("export") if name not in ("sb3", "zoo"))
    with pytest.raises(KDError, match=f"'tree'; formats that can: {able}$"):
        export(random_tree(), tmp_path / "p.zip")
    with pytest.raises(KDError, match="this policy has none; write it without int8"):
        export(random_tree(), tmp_path / "p.c", int8=True)
    assert list(tmp_path.iterdir()) == []


def kernel(kind: str, attributes: dict[str, Any] | None = None, **tensors: Any) -> Callable[..., Array]:
    arrays = {role: np.asarray(tensor) for role, tensor in tensors.items()}
    return KERNELS[kind](Op(kind, ("x",), "y", attributes or {}, arrays))


def test_what_is_learnt_and_what_is_elementwise_are_operations() -> None:
    assert set(KERNELS) >= LEARNT
    assert set(KERNELS) >= ELEMENTWISE
    assert not LEARNT & ELEMENTWISE


@pytest.mark.parametrize(("stride", "padding"), [(1, 0), (2, 0), (1, 1), (3, 2)])
def test_a_convolution_is_torchs(stride: int, padding: int) -> None:
    weight, bias, x = numbers(5, 3, 3, 4), numbers(5), numbers(2, 3, 11, 9, seed=1)
    found = kernel("conv2d", {"stride": stride, "padding": padding}, weight=weight, bias=bias)(x)
    tensors = map(torch.from_numpy, (x, weight, bias))
    np.testing.assert_allclose(found, F.conv2d(*tensors, stride=stride, padding=padding).numpy(), atol=1e-5)


@pytest.mark.parametrize(("stride", "padding"), [(0, 0), (-1, 0), (1, 4), (1, -1)])
def test_a_convolution_that_is_none_is_refused(stride: int, padding: int) -> None:
    with pytest.raises(KDError, match=f"stride {stride} and padding {padding} is not possible"):
        kernel("conv2d", {"stride": stride, "padding": padding}, weight=numbers(5, 3, 3, 4), bias=numbers(5))


def test_windows_that_would_fill_the_memory_are_refused_before_they_do() -> None:
    run = kernel("conv2d", {"stride": 1}, weight=np.zeros((1, 1, 500, 500), np.float32), bias=numbers(1))
    with pytest.raises(KDError, match="too large"):
        run(np.broadcast_to(np.float32(0), (1, 1, 1000, 1000)))


@pytest.mark.parametrize("kind", ["gru", "lstm"])
def test_a_memorys_steps_are_torchs(kind: str) -> None:
    cell = {"gru": torch.nn.GRUCell, "lstm": torch.nn.LSTMCell}[kind](3, 5)
    plain = {name: parameter.detach().numpy() for name, parameter in cell.named_parameters()}
    tensors = {"weight_input": plain["weight_ih"], "weight_hidden": plain["weight_hh"]}
    if kind == "gru":
        tensors |= {"bias_input": plain["bias_ih"], "bias_hidden": plain["bias_hh"]}
    else:
        tensors |= {"bias": plain["bias_ih"] + plain["bias_hh"]}
    x, memory = numbers(4, 3), numbers(4, 5 if kind == "gru" else 10, seed=1)
    state = torch.from_numpy(memory)
    with torch.no_grad():
        expected = cell(torch.from_numpy(x), state if kind == "gru" else tuple(state.split(5, dim=1)))
    wanted = expected if kind == "gru" else torch.cat(expected, dim=1)
    np.testing.assert_allclose(kernel(kind, **tensors)(x, memory), wanted.numpy(), atol=1e-6)


def test_numbers_are_moved_about() -> None:
    x = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    np.testing.assert_array_equal(kernel("flatten")(x), x.reshape(2, 12))
    assert kernel("flatten")(x.astype(np.uint8)).dtype == np.float32
    np.testing.assert_array_equal(kernel("transpose", {"axes": [1, 0]})(x), x.transpose(0, 2, 1))
    np.testing.assert_array_equal(kernel("slice", {"start": 1, "stop": 3})(x), x[:, :, 1:3])
    np.testing.assert_array_equal(kernel("concatenate")(x[0], x[1]), np.hstack([x[0], x[1]]))
    appended = kernel("append", value=np.float32([7, 8]))(x[0])
    np.testing.assert_array_equal(appended, np.hstack([x[0], [[7, 8]] * 3]))


def test_numbers_are_scaled_bounded_and_normalised() -> None:
    x = np.float32([[-4, 0, 4]])
    assert kernel("clip", {"low": -1, "high": 2})(x).tolist() == [[-1, 0, 2]]
    assert kernel("scale", scale=np.float32([2]), shift=np.float32([1, 2, 3]))(x).tolist() == [[-7, 2, 11]]
    normal = kernel("normalise", {"clip": 2.5}, mean=np.float32([0, 1, 3]), scale=np.float32([0.5, 2, 1]))
    assert normal(x).tolist() == [[-2, -2, 1]]
    variance = np.float32([[1, 4], [9, 0]])
    expected = np.log(np.sqrt([[1 * 4 + 9 * 9 + 1e-6, 4 * 4 + 1e-6]]))
    np.testing.assert_allclose(kernel("sde_log_std", variance=variance)(np.float32([[2, 3]])), expected, rtol=1e-6)


def test_categories_are_columns_and_a_number_out_of_range_names_none() -> None:
    run = kernel("one_hot", {"sizes": [2, 3]})
    found = run(np.array([[0, 2], [1, 0], [2, -1]]))
    assert found.tolist() == [[1, 0, 0, 0, 1], [0, 1, 1, 0, 0], [0, 0, 0, 0, 0]]
    assert found.dtype == np.float32
    assert kernel("one_hot", {"sizes": [3]})(np.array([1, 0])).tolist() == [[0, 1, 0], [1, 0, 0]]


@pytest.mark.parametrize("sizes", [[], [0], [2, -1], [MAX_SIZE, 1]])
def test_categories_that_are_none_are_refused(sizes: list[int]) -> None:
    with pytest.raises(KDError, match=r"one-hot parts of sizes .* are not possible"):
        kernel("one_hot", {"sizes": sizes})


def test_an_unknown_activation_is_answered_with_the_nearest() -> None:
    with pytest.raises(KDError, match="unknown activation 'tanhh'; did you mean 'tanh'"):
        kernel("activation", {"function": "tanhh"})


def test_a_tree_finds_the_leaf_that_a_walk_finds() -> None:
    op = tree_op("obs", "params", leaves=40, features=3, width=2)
    x = np.random.default_rng(1).normal(size=(200, 3)).astype(np.float32)
    found = KERNELS["tree"](op)(x)
    for row, observation in zip(found, x, strict=True):
        node = 0
        while node < 39:
            below = observation[op.tensors["feature"][node]] <= op.tensors["threshold"][node]
            node = op.tensors["left" if below else "right"][node]
        np.testing.assert_array_equal(row, op.tensors["value"][node - 39])


def test_splits_that_lead_in_a_circle_apart_from_the_root_are_refused() -> None:
    whole = {"feature": np.int32([0, 0, 0]), "left": np.int32([3, 2, 1]), "right": np.int32([4, 5, 6])}
    real = {"threshold": np.zeros(3, np.float32), "value": np.zeros((4, 4), np.float32)}
    with pytest.raises(KDError, match="do not lead forward"):
        tree_depth(Op("tree", ("obs",), "params", {}, {**whole, **real}))
