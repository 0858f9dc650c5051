"""Pruning: whole units go, those that say the least, and what reads them is refitted."""

import numpy as np
import pytest
from sample_graphs import GRAPHS, linear, observations_for
from samples import HEADS, Agent, make_graph

from kd_agent import KDError, load_teacher
from kd_agent.compress import prune
from kd_agent.policies.graph import ObservationSpec, Op, PolicyGraph
from kd_agent.policies.policy import Policy
from kd_agent.teachers import GraphTeacher


def wide(kind: str = "categorical") -> tuple[PolicyGraph, dict[str, np.ndarray]]:
    graph = make_graph(kind, hidden=(32, 24), activation="tanh")
    return graph, observations_for(graph, 500)


def shapes(graph: PolicyGraph) -> list[tuple[int, ...]]:
    return [op.tensors["weight"].shape for op in graph.ops if op.kind == "linear"]


def test_pruning_removes_whole_units() -> None:
    graph, observations = wide()
    assert shapes(prune.compress(graph, observations, hidden=(7, 5))) == [(7, 4), (5, 7), (4, 5)]
    assert shapes(prune.compress(graph, observations)) == [(16, 4), (12, 16), (4, 12)]
    assert shapes(prune.compress(graph, observations, hidden=(99, 24))) == shapes(graph)


def test_units_that_say_nothing_new_are_pruned_without_loss() -> None:
    """Copies and constants: least squares and the bias stand in for them exactly."""
    graph, observations = wide()
    first = next(op for op in graph.ops if op.kind == "linear")
    first.tensors["weight"][10:] = 0  # constant units
    first.tensors["weight"][5:10], first.tensors["bias"][5:10] = first.tensors["weight"][:5], first.tensors["bias"][:5]
    small = prune.compress(graph, observations, hidden=(10, 24))
    np.testing.assert_allclose(
        Policy(small).params_batch(observations), Policy(graph).params_batch(observations), atol=1e-4
    )


def test_the_units_kept_are_better_than_others() -> None:
    graph, observations = wide()
    layer = prune.hidden_layers(graph)[1]
    active = graph.compile()(observations)[layer.output]
    wanted = Policy(graph).params_batch(observations)

    def error(kept: np.ndarray) -> float:
        [reader] = layer.readers
        again = prune._refitted(graph.ops[reader], active, kept)
        return float(np.square(active[:, kept] @ again.tensors["weight"].T + again.tensors["bias"] - wanted).mean())

    small = Policy(prune.compress(graph, observations, hidden=(32, 8))).params_batch(observations)
    others = [error(np.random.default_rng(seed).permutation(24)[:8]) for seed in range(20)]
    assert np.square(small - wanted).mean() < np.median(others)


@pytest.mark.parametrize("name", ["gru", "several keys", "pixels", "state-dependent noise"])
def test_what_has_no_hidden_layers_is_not_pruned(name: str) -> None:
    graph = GRAPHS[name]()
    with pytest.raises(KDError, match="pruning needs hidden linear layers"):
        prune.compress(graph, observations_for(graph, 10))
    with pytest.raises(KDError, match="1 sizes to prune to, but the policy has 2"):
        prune.compress(*wide(), hidden=(3,))


def test_a_teacher_read_from_a_zip_can_be_pruned(agents: dict[str, Agent]) -> None:
    teacher = load_teacher(str(agents["Box"].path))
    assert isinstance(teacher, GraphTeacher)
    assert [layer.units for layer in prune.hidden_layers(teacher.graph)] == [64, 64]


def test_half_of_an_odd_number_is_rounded_up() -> None:
    graph = make_graph(hidden=(7, 5))
    assert shapes(prune.compress(graph, observations_for(graph, 50))) == [(4, 4), (3, 4), (4, 3)]


def test_a_unit_that_matters_is_kept_however_small_its_weights() -> None:
    """Importance is what a unit says times how much it is listened to, not the size of its own weights."""
    graph, observations = wide()
    first, second = (op for op in graph.ops if op.kind == "linear" and op.output != "params")
    first.tensors["weight"][3] *= 0.05
    second.tensors["weight"][:, 3] *= 1000
    small = prune.compress(graph, observations, hidden=(1, 24))
    rows = next(op for op in small.ops if op.kind == "linear").tensors["weight"]
    np.testing.assert_array_equal(rows[0], first.tensors["weight"][3])


def test_a_layer_that_two_layers_read_is_pruned_for_both() -> None:
    ops = (
        linear("obs", "hidden", 12, 4),
        Op("activation", ("hidden",), "act", {"function": "tanh"}),
        linear("act", "left", 2, 12, seed=1),
        linear("act", "right", 2, 12, seed=2),
        Op("concatenate", ("left", "right"), "params"),
    )
    graph = PolicyGraph({"obs": ObservationSpec((4,), "float32")}, ops, HEADS["categorical"].spec)
    [layer] = prune.hidden_layers(graph)
    assert (layer.position, layer.units, layer.output, layer.readers) == (0, 12, "act", (2, 3))
    observations = observations_for(graph, 400)
    small = prune.compress(graph, observations, hidden=(9,))
    assert shapes(small) == [(9, 4), (2, 9), (2, 9)]
    wanted = Policy(graph).params_batch(observations)
    assert np.abs(Policy(small).params_batch(observations) - wanted).mean() < 0.1 * wanted.std()


def test_one_bias_for_all_units_is_spread_over_those_that_stay() -> None:
    first = linear("obs", "hidden", 6, 4)
    first.tensors["bias"] = np.float32([0.5])
    ops = (first, linear("hidden", "params", 4, 6, seed=1))
    graph = PolicyGraph({"obs": ObservationSpec((4,), "float32")}, ops, HEADS["categorical"].spec)
    small = prune.compress(graph, observations_for(graph, 50), hidden=(4,))
    np.testing.assert_array_equal(small.ops[0].tensors["bias"], np.full(4, 0.5, np.float32))
