"""Blocks of observations: the numbers are those that each observation has alone."""

from typing import Any

import numpy as np
import pytest
from sample_graphs import GRAPHS, linear, observations_for
from samples import HEADS, make_graph

from kd_agent.native import batches, compiler
from kd_agent.native.policy import NativePolicy
from kd_agent.policies.graph import ObservationSpec, Op, PolicyGraph

ROWS = 2 * 16 + 5
"""Two blocks at the widest, and what is left."""


def mixed_graph() -> PolicyGraph:
    """What no other sample has: sums of widths that no tile and no four divides, a slice from the end, two keys."""
    ops = (
        Op("flatten", ("places",), "flat"),
        Op("scale", ("flat",), "small", {}, {"scale": np.float32([0.5]), "shift": np.float32(range(6)) * 0.1}),
        Op("clip", ("obs",), "bounded", {"low": -np.inf, "high": 0.8}),
        Op("concatenate", ("bounded", "small"), "joined"),
        Op("slice", ("joined",), "some", {"start": -8, "stop": 8}),
        linear("some", "wide", 19, 7),
        Op("activation", ("wide",), "active", {"function": "prelu", "slope": 0.2}),
        linear("active", "row", 3, 19),
        Op("append", ("row",), "params", {}, {"value": np.float32([0.25])}),
    )
    observations = {"obs": ObservationSpec((3,), "float32"), "places": ObservationSpec((2, 3), "uint8")}
    return PolicyGraph(observations, ops, HEADS["categorical"].spec)


SAMPLES = {**GRAPHS, "mixed": mixed_graph}


def together_and_alone(graph: PolicyGraph) -> tuple[Any, Any]:
    """Rows of one batch, and of each of its observations by itself."""
    policy = NativePolicy(graph)
    observations = observations_for(graph, ROWS)
    together = policy.params_batch(observations)
    alone = [policy.params_batch({key: array[i : i + 1] for key, array in observations.items()}) for i in range(ROWS)]
    return together, np.concatenate(alone)


@pytest.mark.parametrize("name", SAMPLES)
def test_a_row_of_a_batch_is_that_of_its_observation_alone(name: str) -> None:
    together, alone = together_and_alone(SAMPLES[name]())
    np.testing.assert_allclose(together, alone, rtol=1e-6, atol=1e-5)


@pytest.mark.parametrize("name", [*HEADS, "activations", "mixed"])
def test_sums_are_added_in_one_order(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # Without contraction a compiler has no choice left: not a bit may differ.
    monkeypatch.setattr(compiler, "_FLAGS", (*compiler._FLAGS, "-ffp-contract=off"))
    together, alone = together_and_alone(SAMPLES[name]())
    np.testing.assert_array_equal(together.view(np.int32), alone.view(np.int32))


@pytest.mark.parametrize("name", [*HEADS, "student mlp", "activations", "mixed"])
def test_networks_of_layers_have_blocks(name: str) -> None:
    assert "kd_block(const float *obs, float *out)" in batches.text(SAMPLES[name]())


@pytest.mark.parametrize("name", ["pixels", "several keys", "state-dependent noise", "gru", "lstm", "trees"])
def test_an_operation_that_no_block_has_leaves_all_to_the_loop(name: str) -> None:
    assert batches.text(SAMPLES[name]()) == ""


def test_what_would_fill_the_stack_is_left_to_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = make_graph()
    assert batches.text(graph)
    monkeypatch.setattr(batches, "_MAX_NUMBERS", 8)
    assert batches.text(graph) == ""


@pytest.mark.parametrize("rows", [3, 4, 8, 11])
def test_blocks_answer_every_row_of_a_batch_that_fills_one(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    block = """
#define KD_LANES 4
static void kd_block(const float *obs, float *out) {
    for (int i = 0; i < KD_LANES * KD_NUM_PARAMS; i++) out[i] = obs[i / KD_NUM_PARAMS * KD_OBS_SIZE];
}
"""
    graph = make_graph()
    x: Any = observations_for(graph, rows)["obs"]
    by_loop = NativePolicy(graph).params(x)
    monkeypatch.setattr(batches, "text", lambda _: block)
    expected = np.repeat(x[:, :1], graph.head.num_params, axis=1) if rows >= 4 else by_loop
    np.testing.assert_array_equal(NativePolicy(graph).params(x), expected)


def test_nothing_of_a_file_s_strings_reaches_the_text() -> None:
    hostile = make_graph("diag_gaussian", provenance={"env": "*/ system(0); /*"})
    assert "system" not in batches.text(hostile)
