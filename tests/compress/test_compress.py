"""Pruning and int8: smaller policies that answer nearly the same."""

import json
import re
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch
from exported import GRAPHS, by_c, by_numpy, observations_for
from samples import HEADS, ROOT, Agent, flags, labelled, make_graph, settings

from kd_agent import KDError, load_policy, load_teacher, plugins
from kd_agent.commands.cli import run
from kd_agent.compress import prune, quantize
from kd_agent.export.c import cost
from kd_agent.learners.gradient import fit
from kd_agent.losses import Objective
from kd_agent.native.latency import c_loop
from kd_agent.networks.base import Origin
from kd_agent.networks.graph_student import GraphStudent, Int8Grid
from kd_agent.policies import int8
from kd_agent.policies.graph import Op, PolicyGraph
from kd_agent.policies.policy import Policy
from kd_agent.teachers import GraphTeacher


def wide(kind: str = "categorical") -> tuple[PolicyGraph, dict[str, np.ndarray]]:
    graph = make_graph(kind, hidden=(32, 24), activation="tanh")
    return graph, observations_for(graph, 500)


def shapes(graph: PolicyGraph) -> list[tuple[int, ...]]:
    return [op.tensors["weight"].shape for op in graph.ops if op.kind == "linear"]


@pytest.mark.parametrize("kind", HEADS)
@pytest.mark.parametrize("name", plugins.names("compress"))
def test_a_compressor_keeps_the_spaces_and_leaves_the_original_alone(name: str, kind: str) -> None:
    graph, observations = wide(kind)
    before = [tensor.copy() for op in graph.ops for tensor in op.tensors.values()]
    small = plugins.load("compress", name).compress(graph, observations)
    after = [tensor for op in graph.ops for tensor in op.tensors.values()]
    assert all(map(np.array_equal, before, after))
    assert (small.observations, small.head) == (graph.observations, graph.head)
    wanted, found = Policy(graph).params_batch(observations), Policy(small).params_batch(observations)
    acting = graph.head.num_acting
    assert found.dtype == np.float32
    assert np.abs(wanted - found)[:, :acting].mean() < 0.2 * wanted[:, :acting].std()


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


def test_a_quantised_weight_is_what_int8_says() -> None:
    weight = np.random.default_rng(0).normal(size=(6, 9)).astype(np.float32)
    whole, scale = int8.quantise(weight)
    np.testing.assert_array_equal(int8.rounded(weight), whole * scale[:, None])
    assert np.abs(weight - int8.rounded(weight)).max() <= scale.max() / 2 * 1.001
    again, _ = int8.quantise(int8.rounded(weight))
    np.testing.assert_array_equal(again, whole)
    np.testing.assert_allclose(Int8Grid()(torch.tensor(weight)).numpy(), int8.rounded(weight), atol=1e-6)


def test_a_quantised_policy_needs_a_third_of_the_bytes_and_c_in_int8_says_the_same(tmp_path: Path) -> None:
    graph, observations = wide()
    [normalise, *ops] = graph.ops
    bare = PolicyGraph(
        graph.observations,
        tuple(Op(op.kind, tuple("obs" if i == normalise.output else i for i in op.inputs), op.output, op.attributes,
                 op.tensors) for op in ops), graph.head)  # fmt: skip
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
        student = GraphStudent(start, int8=on_grid)
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


@pytest.mark.parametrize("name", ["categorical", "diag_gaussian", "gru"])
def test_an_action_in_c_takes_less_than_a_millisecond(name: str) -> None:
    graph = GRAPHS[name]()
    taken = c_loop(graph, observations_for(graph, 64)["obs"])()
    assert 0 < np.median(taken) < 1e6


def test_the_command_writes_one_table(agents: dict[str, Agent], tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    given = {k: v for k, v in settings(agents["Discrete"], tmp_path / "out").items() if k != "max_episodes"}
    assert run("compress", flags(given)) == 0
    printed = capsys.readouterr().out
    assert printed == (tmp_path / "out" / "compression.md").read_text()
    rows = json.loads((tmp_path / "out" / "compression.json").read_text())["rows"]
    assert [row["name"] for row in rows][:5] == ["teacher", "pruned", "int8", "pruned, distilled", "distilled"]
    assert len(rows) == len(printed.splitlines()) - 2 == 9
    by_name = {row["name"]: row for row in rows}
    assert by_name["pruned"]["bytes"] < by_name["teacher"]["bytes"]
    assert by_name["distilled, then int8"]["bytes"] < by_name["distilled"]["bytes"]
    assert by_name["pruned"]["multiply_adds"] == by_name["pruned, distilled, int8-aware"]["multiply_adds"]
    for row in rows:
        assert len(row["returns"]) == 6
        policy = load_policy(tmp_path / "out" / row["file"])
        assert policy.act(np.zeros(gym.make(policy.env_id).observation_space.shape, np.float32)) in range(10)


@pytest.mark.parametrize(("more", "message"), [
    ({"resume": True}, "neither resumes nor renders"),
    ({"hidden": [0]}, "gives no size to prune to"),
    ({"teacher": "nothing.zip"}, "nothing.zip"),
    ({"env": "CratPole-v1"}, "did you mean"),
])  # fmt: skip
def test_a_wrong_input_is_one_line(
    more: dict, message: str, agents: dict[str, Agent], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert run("compress", flags({**settings(agents["Discrete"], tmp_path / "out"), **more})) == 2
    error = [line for line in capsys.readouterr().err.splitlines() if "error:" in line]
    assert len(error) == 1
    assert re.search(message, error[0])


def test_the_script_is_the_command() -> None:
    assert '"compress"' in (ROOT / "scripts" / "compress_policy.py").read_text()


def test_a_teacher_read_from_a_zip_can_be_pruned(agents: dict[str, Agent]) -> None:
    teacher = load_teacher(str(agents["Box"].path))
    assert isinstance(teacher, GraphTeacher)
    assert [layer.units for layer in prune.hidden_layers(teacher.graph)] == [64, 64]
