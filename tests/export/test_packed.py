"""Packed weights in C: the bits of unpacked ones on this machine and on an AVR, in the bytes that they need."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from avr import by_avr
from exported import by_c, by_numpy
from packed_graphs import on_grid
from sample_graphs import linear, observations_for
from samples import HEADS, make_graph

from kd_agent.compress import ternary
from kd_agent.export import _int8
from kd_agent.export.c import cost, generate
from kd_agent.policies import packed
from kd_agent.policies.graph import ObservationSpec, PolicyGraph
from kd_agent.policies.normalizer import Normalizer
from kd_agent.policies.packed import Packed

every_grid = pytest.mark.parametrize("name", packed.GRIDS)


def unpacked_sums(s: Any, weight: Packed, answer: str) -> list[str]:
    """What `sums` stands for: whole numbers of a byte each."""
    return _int8._sums(s, weight.whole) + s.language.loop("j", len(weight.whole), answer.replace("total", "sum[j]"))


@pytest.mark.parametrize("hidden", [(15, 10), (8, 7), (3, 21)])
@every_grid
def test_packed_weights_answer_bit_for_bit_as_unpacked_ones(
    name: str, hidden: tuple[int, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = on_grid(name, hidden=hidden)
    observations = observations_for(graph, 300)
    found = by_c(graph, observations, tmp_path, int8=True)
    assert "uint8_t *digits" in (tmp_path / "policy.c").read_text()
    monkeypatch.setattr(_int8, "sums", unpacked_sums)
    expected = by_c(graph, observations, tmp_path, int8=True)
    assert "digits" not in (tmp_path / "policy.c").read_text()
    np.testing.assert_array_equal(found.params.view(np.int32), expected.params.view(np.int32))
    np.testing.assert_array_equal(found.actions, expected.actions)


@every_grid
def test_they_are_close_to_what_numpy_says(name: str, tmp_path: Path) -> None:
    graph = on_grid(name, hidden=(32, 24))
    observations = observations_for(graph, 2000)
    found, expected = by_c(graph, observations, tmp_path, int8=True), by_numpy(graph, observations)
    assert np.abs(found.params - expected.params).max() < 0.01 * np.ptp(expected.params)
    assert np.mean(found.actions == expected.actions) > 0.99


@pytest.mark.parametrize(("kind", "activation"), [("categorical", "silu"), ("diag_gaussian", "tanh")])
@every_grid
def test_an_avr_answers_bit_for_bit_as_this_machine_does(name: str, kind: str, activation: str, tmp_path: Path) -> None:
    graph = on_grid(name, kind, hidden=(8, 7), activation=activation)
    observations = observations_for(graph, 100)
    found = by_avr(graph, observations, tmp_path, int8=True)
    expected = by_c(graph, observations, tmp_path, int8=True)
    np.testing.assert_array_equal(found.params.view(np.int32), expected.params.view(np.int32))
    np.testing.assert_array_equal(found.actions, expected.actions)


@pytest.mark.parametrize(("name", "digits"), [("int4", 15 * 2 + 10 * 8 + 4 * 5), ("ternary", 15 * 1 + 10 * 3 + 4 * 2)])
def test_they_take_the_bytes_that_they_need(name: str, digits: int) -> None:
    graph = on_grid(name, hidden=(15, 10))
    numbers = 4 * 15 + 15 * 10 + 10 * 4
    whole, floats = cost(graph, int8=True), cost(graph)
    # A weight of 4 bytes; beside the digits a scale for each of 29 outputs.
    assert floats.rom - whole.rom == 4 * numbers - digits - 4 * 29
    assert cost(make_graph(hidden=(15, 10)), int8=True).rom - whole.rom == numbers - digits


def test_small_weights_leave_a_wide_layer_all_bits_of_its_inputs() -> None:
    inputs = 1000  # of which products with int8 weights would overflow a sum of 32 bits
    ops = [
        Normalizer(np.zeros(inputs), np.ones(inputs), clip=1.0).op("obs", "near"),
        linear("near", "params", 4, inputs),
    ]
    graph = PolicyGraph({"obs": ObservationSpec((inputs,), "float32")}, tuple(ops), HEADS["categorical"].spec)
    states = {"obs": np.zeros((1, inputs), np.float32)}
    assert "kd_saturate" in generate(graph, "p.h", int8=True)[1]
    assert "kd_saturate" not in generate(ternary.compress(graph, states), "p.h", int8=True)[1]


def test_layers_that_are_all_packed_need_no_sums_side_by_side() -> None:
    text = generate(on_grid("int4", hidden=(15, 10)), "p.h", int8=True)[1]
    assert re.findall(r"\b(q|sum)\[(\d+)\];", text) == [("q", "16")]
    assert "const int8_t *w;" not in text


@every_grid
def test_without_whole_numbers_they_are_floats(name: str) -> None:
    text = generate(on_grid(name), "p.h")[1]
    assert "int8_t" not in text
    assert cost(on_grid(name)) == cost(make_graph(hidden=(32, 24)))
