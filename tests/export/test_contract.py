"""Every format: what it writes answers as NumPy does, or it refuses in one line; new formats are found by themselves.

A format that can be run has a runtime in `exported.RUNTIMES`; PPO's zip and the folder around it, which hold only some
policies, are run in their own files.
"""

import re
from pathlib import Path

import numpy as np
import played
import pytest
from exported import COMMENT, EVIL, RUNTIMES, assert_same, by_numpy
from sample_graphs import GRAPHS, linear, observations_for
from samples import HEADS, make_graph

from kd_agent import KDError, export, plugins
from kd_agent.export import suffixes
from kd_agent.policies.graph import ObservationSpec, Op, PolicyGraph
from kd_agent.policies.ops import KERNELS
from kd_agent.policies.policy import Policy

FORMATS = plugins.names("export")
SUFFIX_OF = {name: plugins.load("export", name).SUFFIX for name in FORMATS}
every_graph = pytest.mark.parametrize("name", GRAPHS)
every_format = pytest.mark.parametrize("name", FORMATS)


def plain_graph() -> PolicyGraph:
    """An MLP for an environment that is registered nowhere: every format can write it."""
    return make_graph("categorical", {"env": "nowhere-v0"})


def test_every_format_has_a_suffix_and_is_run_by_a_test() -> None:
    assert list(suffixes().values()) == FORMATS  # each another one, in the order of the names
    assert all(re.fullmatch(r"\.\w+", suffix) for suffix in suffixes())
    runnable = {runtime.partition(" ")[0] for runtime in RUNTIMES}
    assert runnable | {"sb3", "zoo"} == set(FORMATS)


@every_format
def test_a_format_says_which_operations_it_writes(name: str) -> None:
    plugin = plugins.load("export", name)
    assert {"linear", "activation"} <= plugin.OPS <= set(KERNELS)


@every_format
def test_a_format_returns_the_files_that_it_wrote_and_leaves_no_others(name: str, tmp_path: Path) -> None:
    target = tmp_path / "deeper" / f"policy{SUFFIX_OF[name]}"
    files = export(plain_graph(), target)
    # Of RL Zoo's folder the run in it is named.
    assert files[0] == (target / "ppo" / "nowhere-v0_1" if name == "zoo" else target)
    assert sorted([target, *files[1:]]) == sorted(target.parent.iterdir())
    assert all(path.stat().st_size for path in files)


@every_format
def test_a_format_leaves_the_graph_as_it_was(name: str, tmp_path: Path) -> None:
    graph = plain_graph()
    before = [tensor.copy() for op in graph.ops for tensor in op.tensors.values()]
    export(graph, tmp_path / "policy.any", name)
    after = [tensor for op in graph.ops for tensor in op.tensors.values()]
    assert all(map(np.array_equal, before, after))


@every_format
def test_an_unknown_option_is_refused_before_anything_is_written(name: str, tmp_path: Path) -> None:
    with pytest.raises(KDError, match=f"unknown {name} option 'colour'"):
        export(plain_graph(), tmp_path / "policy.any", name, colour="red")
    assert list(tmp_path.iterdir()) == []


@every_format
def test_an_operation_that_a_format_lacks_is_named(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plugin = plugins.load("export", name)
    monkeypatch.setattr(plugin, "OPS", plugin.OPS - {"linear"})
    others = ", ".join(other for other in FORMATS if other != name)
    with pytest.raises(KDError, match=f"{name} cannot express the operation 'linear'; formats that can: {others}"):
        export(plain_graph(), tmp_path / "policy.any", name)
    assert list(tmp_path.iterdir()) == []


def test_where_no_format_can_the_error_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in FORMATS:
        monkeypatch.setattr(plugins.load("export", name), "OPS", frozenset())
    with pytest.raises(KDError, match="no format can"):
        export(plain_graph(), tmp_path / "policy.c")


def count_for(graph: PolicyGraph, runtime: str) -> int:
    """10,000 observations, fewer where each is an image or a step of one episode, or the runtime is slow."""
    if np.prod(next(iter(graph.observations.values())).shape) > 1000 and runtime in played.RUNTIMES:
        return 20
    if graph.states or np.prod(next(iter(graph.observations.values())).shape) >= 100:
        return 300
    # leapp is asked through torch, one by one.
    return 1_000 if runtime in played.RUNTIMES or runtime == "leapp" else 10_000


@every_graph
@pytest.mark.parametrize("runtime", RUNTIMES)
def test_an_exported_policy_acts_as_numpy_does(name: str, runtime: str, tmp_path: Path) -> None:
    graph = GRAPHS[name]()
    observations = observations_for(graph, count_for(graph, runtime))
    assert_same(graph, RUNTIMES[runtime](graph, observations, tmp_path), by_numpy(graph, observations))


@pytest.mark.filterwarnings("ignore:overflow", "ignore:invalid")
@pytest.mark.parametrize("activation", ["tanh", "relu", "silu", "softplus"])
@pytest.mark.parametrize("runtime", ["c", "javascript", "onnx", *played.RUNTIMES])
def test_observations_far_out_get_the_same_action_as_long_as_sums_are_floats(
    runtime: str, activation: str, tmp_path: Path
) -> None:
    """Without a normaliser nothing clips them; sums overflow near 3e38 alone, where their order decides when."""
    act = {"function": activation}
    ops = (
        linear("obs", "wide", 16, 4),
        Op("activation", ("wide",), "some", act),
        linear("some", "next", 16, 16, seed=1),
        Op("activation", ("next",), "all", act),
        linear("all", "params", 4, 16, seed=2),
    )
    graph = PolicyGraph({"obs": ObservationSpec((4,), "float32")}, ops, HEADS["categorical"].spec)
    unit = np.random.default_rng(0).uniform(-1, 1, (300, 4))
    scaled = [scale * unit for scale in (1e3, 1e10, 1e20, 1e30)]
    observations = np.concatenate([*scaled, 3.4e38 * np.sign(unit)]).astype(np.float32)
    far = 4 * len(unit)
    found = RUNTIMES[runtime](graph, {"obs": observations}, tmp_path)
    expected = by_numpy(graph, {"obs": observations[:far]})
    largest = np.maximum(np.abs(expected.params).max(axis=1, keepdims=True), 1)
    np.testing.assert_allclose(found.params[:far] / largest, expected.params / largest, atol=2e-6)
    np.testing.assert_array_equal(found.actions[:far], expected.actions)
    assert set(np.unique(found.actions[far:])) <= {0, 1, 2, 3}


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_of_equal_actions_the_first_is_chosen(runtime: str, tmp_path: Path) -> None:
    tensors = {"weight": np.zeros((4, 4), np.float32), "bias": np.float32([0, 2, 1, 2])}
    ops = (Op("linear", ("obs",), "params", {}, tensors),)
    graph = PolicyGraph({"obs": ObservationSpec((4,), "float32")}, ops, HEADS["categorical"].spec)
    assert RUNTIMES[runtime](graph, observations_for(graph, 3), tmp_path).actions.tolist() == [[1], [1], [1]]


def test_the_graphs_use_every_operation() -> None:
    assert {op.kind for make in GRAPHS.values() for op in make().ops} == set(KERNELS)


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


@pytest.mark.parametrize("runtime", ["c", "javascript", "script", *played.RUNTIMES])
def test_no_string_of_a_file_reaches_generated_code(runtime: str, tmp_path: Path) -> None:
    graph = hostile_graph()
    observations = observations_for(graph, 50)
    assert_same(graph, RUNTIMES[runtime](graph, observations, tmp_path), by_numpy(graph, observations))
    sources = [path for path in tmp_path.glob("policy.*") if path.suffix in COMMENT]
    assert sources
    for path in sources:
        code = re.sub(COMMENT[path.suffix], "", path.read_text(), flags=re.DOTALL)
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
