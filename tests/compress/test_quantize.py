"""Quantisation: weights that int8 can say, the same in every runtime, and what fitting on their grid is worth."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from exported import by_c, by_numpy
from sample_graphs import GRAPHS, linear, observations_for
from samples import HEADS, labelled, make_graph

from kd_agent import KDError
from kd_agent.compress import prune, quantize
from kd_agent.export.c import cost
from kd_agent.learners.gradient import fit
from kd_agent.losses import Objective
from kd_agent.networks.base import Origin
from kd_agent.networks.graph_student import GraphStudent, OnGrid
from kd_agent.policies import int8
from kd_agent.policies.graph import ObservationSpec, Op, PolicyGraph
from kd_agent.policies.policy import Policy
from kd_agent.teachers import GraphTeacher


def wide(kind: str = "categorical") -> tuple[PolicyGraph, dict[str, np.ndarray]]:
    graph = make_graph(kind, hidden=(32, 24), activation="tanh")
    return graph, observations_for(graph, 500)


def test_a_quantised_weight_is_what_int8_says() -> None:
    weight = np.random.default_rng(0).normal(size=(6, 9)).astype(np.float32)
    whole, scale = int8.quantise(weight)
    np.testing.assert_array_equal(int8.rounded(weight), whole * scale[:, None])
    assert np.abs(weight - int8.rounded(weight)).max() <= scale.max() / 2 * 1.001
    again, _ = int8.quantise(int8.rounded(weight))
    np.testing.assert_array_equal(again, whole)
    np.testing.assert_allclose(OnGrid("int8")(torch.tensor(weight)).numpy(), int8.rounded(weight), atol=1e-6)


def test_a_quantised_policy_needs_a_third_of_the_bytes_and_c_in_int8_says_the_same(tmp_path: Path) -> None:
    graph, observations = wide()
    [normalise, *ops] = graph.ops
    without: list[Op] = []
    for op in ops:
        inputs = tuple("obs" if name == normalise.output else name for name in op.inputs)
        without.append(replace(op, inputs=inputs))
    bare = PolicyGraph(graph.observations, tuple(without), graph.head)
    small = quantize.compress(bare, observations)
    assert cost(small, int8=True).rom < 0.42 * cost(bare).rom
    found, expected = by_c(small, observations, tmp_path, int8=True), by_numpy(small, observations)
    assert np.mean(found.actions == expected.actions) > 0.99


def test_fitting_on_the_grid_beats_rounding_afterwards() -> None:
    graph, observations = wide()
    teacher = GraphTeacher(graph, Origin("", "", "", 0))
    rollout = labelled(teacher, observations)
    pruned = prune.compress(graph, observations, hidden=(6, 6))

    def fitted(start: PolicyGraph, on_grid: bool) -> PolicyGraph:
        student = GraphStudent(start, grid="int8" if on_grid else None)
        fit(student, [rollout], Objective({"kl": 1.0}), steps=150, learning_rate=3e-3)
        return student.graph()

    def loss(policy: PolicyGraph) -> float:
        rows = torch.from_numpy(Policy(policy).params_batch(observations))
        return float(teacher.head.kl(torch.from_numpy(rollout.params[0]), rows).mean())

    both = fitted(pruned, False)
    assert loss(both) < 0.5 * loss(pruned)
    assert loss(quantize.compress(fitted(both, True), observations)) < loss(quantize.compress(both, observations))


def test_a_memory_cannot_be_fitted_as_a_graph() -> None:
    with pytest.raises(KDError, match="memory"):
        GraphStudent(GRAPHS["gru"]())


def test_every_linear_weight_is_on_the_grid_and_nothing_else_moves() -> None:
    graph, observations = wide()
    small = quantize.compress(graph, observations)
    assert [op.kind for op in small.ops] == [op.kind for op in graph.ops]
    for before, after in zip(graph.ops, small.ops, strict=True):
        for role, tensor in before.tensors.items():
            if (before.kind, role) == ("linear", "weight"):
                np.testing.assert_array_equal(after.tensors[role], int8.rounded(tensor))
                assert not np.array_equal(after.tensors[role], tensor)
            else:
                np.testing.assert_array_equal(after.tensors[role], tensor)


def test_an_observation_of_any_size_is_clipped_at_twice_the_largest() -> None:
    ops = (linear("obs", "params", 4, 4),)
    graph = PolicyGraph({"obs": ObservationSpec((4,), "float32")}, ops, HEADS["categorical"].spec)
    small = quantize.compress(graph, {"obs": np.float32([[1, -3, 0, 2], [0, 0, 0, 0]])})
    assert [op.kind for op in small.ops] == ["normalise", "linear"]
    assert small.ops[0].attributes["clip"] == 6.0
    policy = Policy(small)
    np.testing.assert_array_equal(policy.params([6, -6, 6, 6]), policy.params([60, -60, 60, 60]))
    assert not np.array_equal(policy.params([5, 0, 0, 0]), policy.params([6, 0, 0, 0]))


def test_an_observation_that_has_bounds_is_not_clipped_again() -> None:
    ops = (linear("obs", "params", 4, 4),)
    graph = PolicyGraph({"obs": ObservationSpec((4,), "uint8")}, ops, HEADS["categorical"].spec)
    assert len(quantize.compress(graph, {"obs": np.zeros((1, 4), np.uint8)}).ops) == 1


def test_a_policy_without_linear_layers_is_refused() -> None:
    ops = (Op("clip", ("obs",), "params", {"low": -1.0, "high": 1.0}),)
    graph = PolicyGraph({"obs": ObservationSpec((4,), "float32")}, ops, HEADS["categorical"].spec)
    with pytest.raises(KDError, match="this policy has none"):
        quantize.compress(graph, {"obs": np.zeros((1, 4), np.float32)})
