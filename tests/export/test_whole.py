"""int8 in whole numbers, as Arduino libraries have it: close to NumPy, and on an AVR the bits of this machine."""

import re
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from avr import BOARD, by_avr
from exported import by_arduino, by_c, by_numpy, needs
from sample_graphs import linear, observations_for
from samples import HEADS, make_graph

from kd_agent import export
from kd_agent.compress import int4, quantize, ternary
from kd_agent.export._whole import tanh_table
from kd_agent.export.c import cost
from kd_agent.policies.graph import ObservationSpec, Op, PolicyGraph
from kd_agent.policies.normalizer import Normalizer

WHOLE = ["relu", "silu", "tanh"]
EVERY = [*WHOLE, "sigmoid", "gelu", "elu"]


def text_of(graph: PolicyGraph, folder: Path) -> str:
    """The library's C."""
    [library] = export(graph, folder / "policy.arduino", int8=True)
    return (library / "src/policy.c").read_text()


def running(text: str) -> str:
    """What is computed for an action."""
    return text[text.index("static void kd_run") :].partition("\n}\n")[0]


def arrays_of(text: str) -> list[int]:
    """The lengths of the working arrays of whole numbers."""
    return sorted(map(int, re.findall(r"    static int16_t q\d+\[(\d+)\];", text)))


def graph_of(*layers: Op, normalise: Op, shape: tuple[int, ...] = (4,)) -> PolicyGraph:
    return PolicyGraph({"obs": ObservationSpec(shape, "float32")}, (normalise, *layers), HEADS["categorical"].spec)


def activated(function: str) -> PolicyGraph:
    """Two layers around an activation of which there is no student."""
    return graph_of(
        linear("r0", "r1", 8, 4),
        Op("activation", ("r1",), "r2", {"function": function}),
        linear("r2", "params", 4, 8, seed=1),
        normalise=Normalizer(np.zeros(4), np.ones(4)).op("obs", "r0"),
    )


@pytest.mark.parametrize("function", EVERY)
def test_it_is_close_to_numpy(function: str, tmp_path: Path) -> None:
    graph = activated(function)
    observations = observations_for(graph, 2000)
    found = by_arduino(graph, observations, tmp_path, int8=True)
    exact = by_numpy(graph, observations)
    assert np.abs(found.params - exact.params).max() < 0.02 * np.ptp(exact.params)
    # No farther from it than the arithmetic with floats, but for what a table and 15 bits cost.
    floats = by_c(graph, observations, tmp_path, int8=True)
    beside = np.abs(found.params - floats.params).max() / np.ptp(exact.params)
    assert beside < 0.005
    assert (floats.params != found.params).any()


@pytest.mark.parametrize("kind", HEADS)
def test_every_head_is_close_to_numpy(kind: str, tmp_path: Path) -> None:
    graph = make_graph(kind, hidden=(16, 16))
    observations = observations_for(graph, 1000)
    found, exact = by_arduino(graph, observations, tmp_path, int8=True), by_numpy(graph, observations)
    acting = graph.head.num_acting
    assert np.abs(found.params - exact.params).max() < 0.03 * np.ptp(exact.params[:, :acting])
    if kind == "categorical":
        assert np.mean(found.actions == exact.actions) > 0.97


@pytest.mark.parametrize("function", EVERY)
def test_an_avr_computes_the_same_bits(function: str, tmp_path: Path) -> None:
    graph = activated(function)
    observations = observations_for(graph, 150)
    here = by_arduino(graph, observations, tmp_path, int8=True)
    # With its own instructions for products, and as any C compiler has it.
    for standard in ("gnu11", "c99"):
        found = by_avr(graph, observations, tmp_path, standard, library=True, int8=True)
        np.testing.assert_array_equal(found.params.view(np.int32), here.params.view(np.int32))
        np.testing.assert_array_equal(found.actions, here.actions)


@pytest.mark.parametrize(("compress", "room"), [(int4.compress, [8, 12]), (ternary.compress, [10, 15])])
def test_packed_weights_are_packed_and_the_same_on_an_avr(compress: Any, room: list[int], tmp_path: Path) -> None:
    graph = make_graph(hidden=(12, 7), activation="relu")
    observations = observations_for(graph, 150)
    packed = compress(graph, observations)
    here = by_arduino(packed, observations, tmp_path, int8=True)
    exact = by_numpy(packed, observations)
    assert np.abs(here.params - exact.params).max() < 0.01 * np.ptp(exact.params)
    for standard in ("gnu11", "c99"):
        found = by_avr(packed, observations, tmp_path, standard, library=True, int8=True)
        np.testing.assert_array_equal(found.params.view(np.int32), here.params.view(np.int32))
    # 140 weights of one byte, or two or five to it.
    saved = cost(graph, int8=True, board=True).rom - cost(packed, int8=True, board=True).rom
    assert saved > 60
    # The last byte of a row speaks of numbers beyond the last, which are there.
    assert arrays_of(text_of(packed, tmp_path)) == room


@pytest.mark.parametrize("level", ["-O0", "-Og", "-O3"])
def test_an_avr_has_the_registers_at_every_level_of_optimisation(level: str, tmp_path: Path) -> None:
    needs("avr-gcc")
    for compress in (quantize.compress, int4.compress, ternary.compress):
        text_of(compress(make_graph(hidden=(8, 8), activation="silu"), {}), tmp_path)
        command = ["avr-gcc", "-std=gnu11", f"-mmcu={BOARD}", level, "-Wall", "-Werror", "-c", "policy.c"]
        subprocess.run(command, cwd=tmp_path / "policy.arduino/src", check=True)


def test_units_are_chosen_so_that_sums_need_no_shift(tmp_path: Path) -> None:
    """Where a bit of the outputs is enough for that; an AVR takes 18 cycles an output for it."""
    text = text_of(make_graph(hidden=(8, 8), activation="relu"), tmp_path)
    assert re.findall(r"    kd_layer16\(.*, (\d)\);", text) == ["0", "0", "0"]


def test_an_activation_far_beyond_its_table_is_the_same_on_an_avr(tmp_path: Path) -> None:
    graph = activated("silu")
    first = graph.ops[1]
    steep = replace(first, tensors={name: 1e6 * tensor for name, tensor in first.tensors.items()})
    graph = replace(graph, ops=(graph.ops[0], steep, *graph.ops[2:]))
    observations = observations_for(graph, 100)
    here, exact = by_arduino(graph, observations, tmp_path, int8=True), by_numpy(graph, observations)
    assert np.abs(here.params - exact.params).max() < 0.02 * np.ptp(exact.params)
    for standard in ("gnu11", "c99"):
        found = by_avr(graph, observations, tmp_path, standard, library=True, int8=True)
        np.testing.assert_array_equal(found.params.view(np.int32), here.params.view(np.int32))


def extremes() -> Any:
    """Observations `[N, 4]` of every size, some of them no numbers at all."""
    sizes = np.float32([0, 1e-45, 1e-30, 1e-3, 0.1, 0.99999994, 1, 7.77, 127.5, 1e3, 1e5, 1e9, 3e38, np.inf])
    return np.concatenate([sizes, -sizes, [np.float32(np.nan)]])[:, None] * np.float32([[1, -1, 0.3, -0.77]])


@pytest.mark.filterwarnings("ignore:overflow", "ignore:invalid")
def test_extremes_are_the_same_on_an_avr_and_clipped_as_ever(tmp_path: Path) -> None:
    mean, var = np.array([0.0, 5.0, -100.0, 0.01]), np.array([1.0, 0.01, 4.0, 1e-6])
    normalise = Normalizer(mean, var).op("obs", "r0")
    graph = graph_of(linear("r0", "params", 4, 4), normalise=normalise)
    observations = {"obs": extremes()}
    here = by_arduino(graph, observations, tmp_path, int8=True)
    found = by_avr(graph, observations, tmp_path, "gnu11", library=True, int8=True)
    np.testing.assert_array_equal(found.params.view(np.int32), here.params.view(np.int32))
    numbers = np.isfinite(observations["obs"]).all(axis=1)
    exact = by_numpy(graph, {"obs": observations["obs"][numbers]})
    assert np.abs(here.params[numbers] - exact.params).max() < 0.02 * np.ptp(exact.params)


@pytest.mark.parametrize("far", [1.0, 30.0, 150.0, 2000.0, 1e6])
def test_a_mean_far_beyond_the_spread_costs_no_precision(far: float, tmp_path: Path) -> None:
    """Up to some 150 standard deviations it is subtracted in whole numbers, and beyond in floats."""
    normalise = Normalizer(np.full(4, far), np.ones(4)).op("obs", "r0")
    graph = graph_of(linear("r0", "params", 4, 4), normalise=normalise)
    observations = {"obs": (far + np.random.default_rng(0).normal(size=(500, 4))).astype(np.float32)}
    assert ("kd_normal16" in text_of(graph, tmp_path)) == (far < 200)
    found, exact = by_arduino(graph, observations, tmp_path, int8=True), by_numpy(graph, observations)
    assert np.abs(found.params - exact.params).max() < 0.02 * np.ptp(exact.params)


def test_sums_never_overflow(tmp_path: Path) -> None:
    inputs = 254
    signs = np.where(np.arange(inputs) % 2, 1, -1).astype(np.float32)
    tensors = {"weight": np.tile(signs, (4, 1)), "bias": np.float32([0, 1e3, -1e3, 0])}
    tensors["weight"][3] = 1e-9  # an output that is its bias alone
    tensors["bias"][3] = 77
    last = Op("linear", ("r0",), "params", {}, tensors)
    graph = graph_of(last, normalise=Normalizer(np.zeros(inputs), np.ones(inputs)).op("obs", "r0"), shape=(inputs,))
    far = {"obs": np.float32([20 * signs, -20 * signs, 0 * signs])}
    found, exact = by_arduino(graph, far, tmp_path, int8=True), by_numpy(graph, far)
    assert "kd_layer16" in text_of(graph, tmp_path)
    np.testing.assert_allclose(found.params, exact.params, atol=0.002 * np.ptp(exact.params))


def test_a_layer_too_wide_for_its_sums_has_the_arithmetic_of_c(tmp_path: Path) -> None:
    inputs = 255
    normalise = Normalizer(np.zeros(inputs), np.ones(inputs)).op("obs", "r0")
    graph = graph_of(linear("r0", "params", 4, inputs), normalise=normalise, shape=(inputs,))
    observations = observations_for(graph, 50)
    found = by_arduino(graph, observations, tmp_path, int8=True)
    np.testing.assert_array_equal(found.params, by_c(graph, observations, tmp_path, int8=True).params)


@pytest.mark.parametrize("function", WHOLE)
def test_an_action_among_several_takes_no_floating_point(function: str, tmp_path: Path) -> None:
    code = running(text_of(make_graph(hidden=(8, 8), activation=function), tmp_path))
    assert code.startswith("static void kd_run(const float *obs, int16_t *out)")
    assert not re.search(r"float|\d\.\d", code.partition("{")[2])


def test_a_number_read_twice_is_not_written_over(tmp_path: Path) -> None:
    graph = graph_of(
        linear("r0", "r1", 4, 4),
        Op("activation", ("r1",), "r2", {"function": "relu"}),
        Op("concatenate", ("r1", "r2", "r0"), "r3"),
        linear("r3", "params", 4, 12, seed=2),
        normalise=Normalizer(np.zeros(4), np.ones(4)).op("obs", "r0"),
    )
    observations = observations_for(graph, 300)
    found, exact = by_arduino(graph, observations, tmp_path, int8=True), by_numpy(graph, observations)
    assert np.abs(found.params - exact.params).max() < 0.02 * np.ptp(exact.params)


def test_layers_share_their_working_memory_which_is_told(tmp_path: Path) -> None:
    graph = make_graph(hidden=(16, 12, 10))
    text = text_of(graph, tmp_path)
    assert arrays_of(text) == [12, 16]
    told = 2 * (12 + 16) + 2 * 4  # the row of parameters too
    assert f"RAM: {told} bytes" in text
    assert cost(graph, int8=True, board=True).ram == told
    tables = 65 * 2
    constants = 4 * (1 + 2 + 1) + (4 * 16 + 16 * 12 + 12 * 10 + 10 * 4) + (16 + 12 + 10 + 4) * (4 + 2)
    assert cost(graph, int8=True, board=True).rom == constants + tables


def test_the_table_is_tanh_to_two_parts_in_ten_thousand() -> None:
    x = np.linspace(0, 4, 10_000, endpoint=False)
    lines = np.interp(16 * x, np.arange(65), tanh_table()) / 32767
    assert np.abs(lines - np.tanh(x)).max() < 2.1e-4
