"""Exports of policies that mean harm: nothing of a file's strings becomes code, nothing odd is guessed at."""

import re
from pathlib import Path

import numpy as np
import pytest
from exported import RUNTIMES, assert_same, by_c, by_javascript, by_numpy, linear, observations_for
from samples import HEADS, make_graph

from kd_agent import KDError, export
from kd_agent.policies.graph import ObservationSpec, Op, PolicyGraph
from kd_agent.policies.policy import Policy

EVIL = '*/ evil(); /* ??/\n#include <evil>\r\n"; evil(); // \\'


def hostile_graph() -> PolicyGraph:
    """A policy whose every string tries to break out of a comment or a literal."""
    names = [f"{EVIL}{k}" for k in range(2)]
    ops = (
        Op("concatenate", tuple(names), "int main(void) { evil(); }"),
        linear("int main(void) { evil(); }", "r0[0] = evil(); //", 5, 4),
        Op("activation", ("r0[0] = evil(); //",), "k0", {"function": "tanh"}),
        linear("k0", "params", 4, 5),
    )
    observations = {name: ObservationSpec((2,), "float32") for name in names}
    return PolicyGraph(observations, ops, HEADS["categorical"].spec, {"env": EVIL})


@pytest.mark.parametrize("runtime", [by_c, by_javascript])
def test_no_string_of_a_file_reaches_generated_code(runtime, tmp_path: Path) -> None:
    graph = hostile_graph()
    observations = observations_for(graph, 50)
    assert_same(graph, runtime(graph, observations, tmp_path), by_numpy(graph, observations))
    for path in tmp_path.glob("policy.*"):
        code = re.sub(r"/\*.*?\*/", "", path.read_text(), flags=re.DOTALL)
        code = re.sub(r"//.*", "", code) if path.suffix == ".mjs" else code
        assert "evil" not in code
        assert "??" not in path.read_text()
        assert path.read_text().isascii()


def odd_graph(case: str) -> PolicyGraph:
    """Programs that NumPy's broadcasting allows, and flat loops must not guess at."""
    head, one = HEADS["categorical"].spec, np.float32([1])
    weight = linear("", "", 4, 4).tensors["weight"]
    if case == "rows":  # a product of each row of a matrix
        ops = (linear("obs", "wide", 2, 4), Op("flatten", ("wide",), "flat"), linear("flat", "params", 4, 6))
        return PolicyGraph({"obs": ObservationSpec((3, 4), "float32")}, ops, head)
    if case == "one bias for all":
        ops = (Op("linear", ("obs",), "params", {}, {"weight": weight, "bias": one}),)
    elif case == "bias wider than weight":
        ops = (Op("linear", ("obs",), "params", {}, {"weight": weight[:1], "bias": weight[0]}),)
    elif case == "nothing":
        nothing = Op("slice", ("obs",), "nothing", {"start": 2, "stop": 2})
        ops = (nothing, Op("concatenate", ("obs", "nothing"), "params"))
    elif case == "clip of infinity":
        tensors = {"mean": np.float32([[1, 2, 3, -4]]), "scale": one}
        ops = (Op("normalise", ("obs",), "params", {"clip": 1e300}, tensors),)
    else:  # a clip below zero
        ops = (Op("normalise", ("obs",), "params", {"clip": -1.0}, {"mean": one, "scale": one}),)
    return PolicyGraph({"obs": ObservationSpec((4,), "float32")}, ops, head)


@pytest.mark.filterwarnings("ignore:overflow")
@pytest.mark.parametrize(
    "case", ["rows", "one bias for all", "bias wider than weight", "nothing", "clip of infinity", ""]
)
@pytest.mark.parametrize("runtime", RUNTIMES)
def test_an_odd_program_is_written_right_or_refused(case: str, runtime: str, tmp_path: Path) -> None:
    graph = odd_graph(case)
    observations = observations_for(graph, 50)
    expected = by_numpy(graph, observations)
    single = Policy(graph).act(observations["obs"][0])
    assert single == expected.actions[0]
    try:
        found = RUNTIMES[runtime](graph, observations, tmp_path)
    except KDError:
        assert case in ("rows", "bias wider than weight", "nothing")
        return
    np.testing.assert_allclose(found.params, expected.params, atol=1e-5)


@pytest.mark.parametrize("prefix", ["", "9a", "a b", "a;", "é", "_x", "a" * 40])
def test_a_prefix_must_begin_a_c_identifier(prefix: str, tmp_path: Path) -> None:
    with pytest.raises(KDError, match="prefix"):
        export(make_graph(), tmp_path / "p.c", prefix=prefix)
    assert list(tmp_path.iterdir()) == []


def test_a_c_file_has_a_name_that_can_be_included(tmp_path: Path) -> None:
    with pytest.raises(KDError, match="C file's name"):
        export(make_graph(), tmp_path / 'a"b.c')
