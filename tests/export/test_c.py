"""C: compiled strictly, run, and compared with NumPy; int8 stays close, and says what it cannot do."""

import re
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from exported import assert_same, by_c, by_numpy, needs
from sample_graphs import GRAPHS, linear, observations_for
from samples import HEADS, make_graph

from kd_agent import KDError, export, plugins
from kd_agent.export.c import Cost, cost, generate, stack_bytes
from kd_agent.native.latency import c_loop
from kd_agent.policies.graph import ObservationSpec, Op, PolicyGraph
from kd_agent.policies.normalizer import Normalizer


@pytest.mark.parametrize("name", ["categorical", "diag_gaussian"])
def test_int8_is_close_and_mostly_agrees(name: str, tmp_path: Path) -> None:
    graph = make_graph(name, hidden=(32, 32))
    observations = observations_for(graph, 2000)
    found, expected = by_c(graph, observations, tmp_path, int8=True), by_numpy(graph, observations)
    acting = graph.head.num_acting
    assert np.abs(found.params - expected.params).max() < 0.03 * np.ptp(expected.params[:, :acting])
    if name == "categorical":
        assert np.mean(found.actions == expected.actions) > 0.97
    sizes = [int(re.search(r"ROM: (\d+)", generate(graph, "p.h", int8=flag)[1]).group(1)) for flag in (True, False)]
    assert sizes[0] < 0.4 * sizes[1]


@pytest.mark.parametrize("loose", [False, True])
def test_int8_never_overflows(loose: bool, tmp_path: Path) -> None:
    inputs, units = 100, 521  # so many that sums of int16 times int8 could overflow
    signs = np.where(np.arange(inputs) % 2, 1, -1).astype(np.float32)
    same = np.tile(signs, (units, 1))
    middle = np.tile(10 * (-1.0) ** np.arange(units), (units, 1)).astype(np.float32)  # cancels, which no bound knows
    middle[:, 0] = 1
    last = np.float32([[0.5], [-0.5], [0.1], [0]]) * np.ones(units, np.float32)
    for weight in (same, last):
        weight[:, 0] *= 0.99  # else their rows would be ternary, and no int8 at all
    ops = [Normalizer(np.zeros(inputs), np.ones(inputs), clip=1.0).op("obs", "r0")]
    for weight in (same, middle, last) if loose else (same, last):
        tensors = {"weight": weight, "bias": np.zeros(len(weight), np.float32)}
        ops.append(Op("linear", (f"r{len(ops) - 1}",), "params" if weight is last else f"r{len(ops)}", {}, tensors))
    graph = PolicyGraph({"obs": ObservationSpec((inputs,), "float32")}, tuple(ops), HEADS["categorical"].spec)
    far = {"obs": np.float32([signs, -signs, 0 * signs])}  # no random corner is like these
    found, expected = by_c(graph, far, tmp_path, int8=True), by_numpy(graph, far)
    assert (np.sign(found.params) == np.sign(expected.params)).all()
    if loose:
        assert 0.5 < found.params[0, 0] / expected.params[0, 0] < 0.9
    else:
        np.testing.assert_allclose(found.params, expected.params, rtol=1e-3)


def test_int8_needs_to_know_the_range_of_its_input() -> None:
    ops = (linear("obs", "params", 4, 4),)
    graph = PolicyGraph({"obs": ObservationSpec((4,), "float32")}, ops, HEADS["categorical"].spec)
    with pytest.raises(KDError, match="how large observation 'obs' gets"):
        generate(graph, "p.h", int8=True)


def test_int8_needs_a_linear_layer() -> None:
    ops = (Op("clip", ("obs",), "params", {"low": -1.0, "high": 1.0}),)
    graph = PolicyGraph({"obs": ObservationSpec((4,), "float32")}, ops, HEADS["categorical"].spec)
    with pytest.raises(KDError, match="this policy has none"):
        generate(graph, "p.h", int8=True)


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int16"])
def test_int8_knows_the_range_of_a_whole_observation(dtype: str, tmp_path: Path) -> None:
    graph = PolicyGraph(
        {"obs": ObservationSpec((4,), dtype)}, (linear("obs", "params", 4, 4),), HEADS["categorical"].spec
    )
    rng = np.random.default_rng(0)
    limit = 2 if dtype == "bool" else np.iinfo(dtype).max
    observations = {"obs": rng.integers(0, limit, (200, 4)).astype(dtype)}
    found, expected = by_c(graph, observations, tmp_path, int8=True), by_numpy(graph, observations)
    assert np.abs(found.params - expected.params).max() < 0.02 * np.ptp(expected.params)


def test_c_needs_no_library_and_says_what_it_costs(tmp_path: Path) -> None:
    graph = make_graph(hidden=(16, 16))
    source, header = export(graph, tmp_path / "walker.c", prefix="walker")
    text = source.read_text()
    assert re.findall(r"#include (.*)", text) == ['"walker.h"', "<stdint.h>"]
    assert "malloc" not in text
    assert "Multiply-adds: 384 per action" in text  # 4 * 16 + 16 * 16 + 16 * 4
    assert "int walker_act(const float *obs);" in header.read_text()


def test_two_c_policies_fit_into_one_program(tmp_path: Path) -> None:
    for prefix in ("a", "b"):
        export(make_graph(), tmp_path / f"{prefix}.c", prefix=prefix)
    main = '#include "a.h"\n#include "b.h"\nint main(void) { float x[4] = {0}; return a_act(x) - b_act(x); }\n'
    (tmp_path / "main.c").write_text(main)
    subprocess.run(["gcc", "-Wall", "-Werror", "a.c", "b.c", "main.c", "-o", "main"], cwd=tmp_path, check=True)
    assert subprocess.run([tmp_path / "main"], check=False).returncode == 0


@pytest.mark.parametrize("prefix", ["", "9a", "a b", "a;", "é", "_x", "a" * 40])
def test_a_prefix_must_begin_a_c_identifier(prefix: str, tmp_path: Path) -> None:
    with pytest.raises(KDError, match="prefix"):
        export(make_graph(), tmp_path / "p.c", prefix=prefix)
    assert list(tmp_path.iterdir()) == []


def test_a_c_file_has_a_name_that_can_be_included(tmp_path: Path) -> None:
    with pytest.raises(KDError, match="C file's name"):
        export(make_graph(), tmp_path / 'a"b.c')


def test_the_cost_is_that_of_the_text() -> None:
    graph = make_graph(hidden=(16, 16))
    text = generate(graph, "p.h")[1]
    floats, whole = cost(graph), cost(graph, int8=True)
    assert f"ROM: {floats.rom} bytes" in text
    assert f"RAM: {floats.ram} bytes" in text
    assert floats.multiply_adds == whole.multiply_adds == 384  # 4 * 16 + 16 * 16 + 16 * 4
    assert whole.rom < floats.rom
    whole_text = generate(graph, "p.h", int8=True)[1]
    assert re.findall(r"(q|sum)\[(\d+)\];", whole_text) == [("q", "16"), ("sum", "16")]
    buffers = sum(map(int, re.findall(r"float \w+\[(\d+)\];", whole_text)))  # the row of parameters too
    assert whole.ram == 4 * buffers + 2 * 16 + 4 * 16
    assert floats == Cost(floats.rom, floats.ram, 384)
    assert stack_bytes(graph) >= 4 * sum(map(int, re.findall(r"float r\d+\[(\d+)\];", text)))


def test_what_c_cannot_express_has_no_cost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plugins.load("export", "c"), "OPS", frozenset({"linear"}))
    with pytest.raises(KDError, match="c cannot express the operation 'activation'"):
        cost(make_graph())


def test_actions_beyond_an_int_are_refused() -> None:
    graph = make_graph()
    head = replace(graph.head, start=(-(2**30),))
    with pytest.raises(KDError, match="actions from -1073741824 on are too large"):
        generate(PolicyGraph(graph.observations, graph.ops, head), "p.h")
    several = make_graph("multi_categorical")
    head = replace(several.head, start=(5, -(2**30)))
    with pytest.raises(KDError, match="actions from -1073741824 on are too large"):
        generate(PolicyGraph(several.observations, several.ops, head), "p.h")
    near = replace(graph.head, start=(2**30 - 1,))
    assert "+ (1073741823);" in generate(PolicyGraph(graph.observations, graph.ops, near), "p.h")[1]


def test_a_gaussian_acts_without_its_standard_deviations() -> None:
    text = generate(GRAPHS["state-dependent noise"](), "p.h")[1]
    assert "int all" in text
    assert "kd_run(obs, row, 0);" in text
    assert "kd_run(obs, params, 1);" in text
    assert "int all" not in generate(make_graph("categorical"), "p.h")[1]


def test_the_header_names_sizes_and_where_each_observation_lies() -> None:
    several = generate(GRAPHS["several keys"](), "p.h")[0]
    assert "#define KD_OBS_SIZE 6" in several
    assert "#define KD_ACTION_SIZE 2" in several
    assert "obs[0..0]: floor, 1" in several
    assert "obs[1..5]: joints, 5" in several
    recurrent = generate(GRAPHS["lstm"](), "p.h")[0]
    assert "#define KD_STATE_SIZE 10" in recurrent
    assert "int kd_act(const float *obs, float *state);" in recurrent


@pytest.mark.parametrize("prefix", ["kd", "int", "class"])
def test_the_header_is_c_plus_plus_too(prefix: str, tmp_path: Path) -> None:
    """Behind a prefix stands more, so that one that is a word of the language makes names that are none."""
    needs("g++")
    export(make_graph(), tmp_path / "p.c", prefix=prefix)
    main = f'#include "p.h"\nint main() {{ float x[{prefix.upper()}_OBS_SIZE] = {{0}}; return {prefix}_act(x) < 0; }}\n'
    (tmp_path / "main.cpp").write_text(main)
    subprocess.run(["gcc", "-c", "p.c"], cwd=tmp_path, check=True)
    subprocess.run(["g++", "-Wall", "-Werror", "main.cpp", "p.o", "-o", "main"], cwd=tmp_path, check=True)
    assert subprocess.run([tmp_path / "main"], check=False).returncode == 0


def test_the_same_policy_is_the_same_text() -> None:
    for int8 in (False, True):
        assert generate(make_graph(), "p.h", int8=int8) == generate(make_graph(), "p.h", int8=int8)


@pytest.mark.parametrize("name", ["categorical", "diag_gaussian", "gru"])
def test_an_action_in_c_takes_less_than_a_millisecond(name: str) -> None:
    graph = GRAPHS[name]()
    taken = c_loop(graph, observations_for(graph, 64)["obs"])()
    assert 0 < np.median(taken) < 1e6


def test_a_part_of_a_register_is_not_written_over_while_the_whole_is_read(tmp_path: Path) -> None:
    ops = (
        linear("obs", "all", 2, 4),
        Op("slice", ("all",), "part", {"start": 0, "stop": 2}),
        Op("activation", ("part",), "act", {"function": "tanh"}),
        Op("concatenate", ("act", "all"), "params"),
    )
    graph = PolicyGraph({"obs": ObservationSpec((4,), "float32")}, ops, HEADS["categorical"].spec)
    observations = observations_for(graph, 20)
    assert_same(graph, by_c(graph, observations, tmp_path), by_numpy(graph, observations))
