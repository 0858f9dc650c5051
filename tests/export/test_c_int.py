"""C where an int has 16 bits: on an AVR the same bits as on this machine, and wider indices where arrays are long."""

import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from avr import by_avr
from exported import assert_same, by_c, by_numpy, needs
from sample_graphs import linear, observations_for
from samples import HEADS, make_graph

from kd_agent.export import _c_int
from kd_agent.export.c import generate
from kd_agent.policies.graph import ObservationSpec, PolicyGraph


@pytest.mark.parametrize("int8", [False, True])
@pytest.mark.parametrize(
    ("kind", "activation"), [("categorical", "silu"), ("multi_categorical", "relu"), ("diag_gaussian", "tanh")]
)
def test_an_avr_answers_bit_for_bit_as_this_machine_does(
    kind: str, activation: str, int8: bool, tmp_path: Path
) -> None:
    graph = make_graph(kind, hidden=(8, 8), activation=activation)
    observations = observations_for(graph, 300)
    found = by_avr(graph, observations, tmp_path, int8=int8)
    expected = by_c(graph, observations, tmp_path, int8=int8)
    np.testing.assert_array_equal(found.params.view(np.int32), expected.params.view(np.int32))
    np.testing.assert_array_equal(found.actions, expected.actions)
    exact = by_numpy(graph, observations)
    if not int8:
        assert_same(graph, found, exact)
    elif kind != "diag_gaussian":
        assert np.mean(found.actions == exact.actions) > 0.97


def test_what_saturates_and_what_is_far_out_is_the_same_on_an_avr(tmp_path: Path) -> None:
    graph = make_graph(hidden=(8,))
    far = {"obs": np.float32([10.0, -1e3, 1e9, -3e38])[:, None] * np.float32([[1, -1, 1, 1]])}
    for int8 in (False, True):
        found = by_avr(graph, far, tmp_path, int8=int8)
        expected = by_c(graph, far, tmp_path, int8=int8)
        np.testing.assert_array_equal(found.params.view(np.int32), expected.params.view(np.int32))


@pytest.mark.parametrize("int8", [False, True])
def test_wide_indices_change_no_answer(int8: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    graph = make_graph(hidden=(8, 8))
    observations = observations_for(graph, 50)
    short = by_c(graph, observations, tmp_path, int8=int8)
    monkeypatch.setattr(_c_int, "_LONGEST", 0)
    assert "for (int32_t i = 0;" in generate(graph, "p.h", int8=int8)[1]
    for run in (by_c, by_avr):
        found = run(graph, observations, tmp_path, int8=int8)
        np.testing.assert_array_equal(found.params, short.params)


@pytest.mark.parametrize(("inputs", "counter"), [(4, "int "), (4096, "int "), (4097, "int32_t ")])
def test_indices_are_as_wide_as_the_longest_array_needs(inputs: int, counter: str) -> None:
    ops = (linear("obs", "params", 4, inputs),)
    graph = PolicyGraph({"obs": ObservationSpec((inputs,), "uint8")}, ops, HEADS["categorical"].spec)
    for int8 in (False, True):
        text = generate(graph, "p.h", int8=int8)[1]
        loops = text[text.index("static void kd_run") :].split("for (")[1:]
        assert loops
        assert all(loop.startswith(counter) for loop in loops)


def test_an_int_too_small_for_the_actions_is_refused_by_its_compiler(tmp_path: Path) -> None:
    graph = make_graph()
    for start, refused in ((32763, False), (32764, True), (-32764, True)):
        head = replace(graph.head, start=(start,))
        header, source = generate(PolicyGraph(graph.observations, graph.ops, head), "policy.h")
        assert ("#error" in source) == refused
        (tmp_path / "policy.h").write_text(header)
        (tmp_path / "policy.c").write_text(source)
        subprocess.run(["gcc", "-std=c99", "-Werror", "-c", "policy.c"], cwd=tmp_path, check=True)
    needs("avr-gcc")
    done = subprocess.run(["avr-gcc", "-c", "policy.c"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "does not hold every action" in done.stderr
