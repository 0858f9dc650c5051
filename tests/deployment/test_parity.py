"""Parity: a written file acts as its agent does, whatever the agent, and where it does not that is said."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import small_agents
from exported import needs
from sample_graphs import GRAPHS
from samples import HEADS, make_graph

from kd_agent import KDError, plugins
from kd_agent.deployment.agents import Agent, Reading, read_agent
from kd_agent.deployment.parity import TIE, TOLERANCE, compare, distances, ties
from kd_agent.deployment.walk import Walk, answers, walk
from kd_agent.export import Played, RuntimeMissingError, Steps, export, suffixes
from kd_agent.policies.graph import PolicyGraph
from kd_agent.policies.head import MASKED
from kd_agent.policies.policy import Policy

SUFFIX = {name: suffix for suffix, name in suffixes().items()}
TEACHERS = ["c", "javascript", "onnx"]
"""Formats that every teacher is held against; the others print the same loops."""
ONE_ACTION = {"recurrent ppo, image, critic without memory"}
"""Agents that do the same everywhere; their rows are compared in the tests of teachers."""


class Model:
    """An agent of Stable-Baselines3 as a player: asked by its own `predict`."""

    def __init__(self, model: Any) -> None:
        self._model = model

    def predict(self, observation: Any, state: Any, starts: Any, deterministic: bool, **masks: Any) -> Any:
        shown = observation["obs"] if list(observation) == ["obs"] else observation
        shown = small_agents.as_model_wants(self._model, shown)
        return self._model.predict(shown, state, starts, deterministic=deterministic, **masks)


def walked(graph: PolicyGraph, seed: int = 0) -> tuple[Agent, Walk]:
    agent = Agent(graph, Policy(graph))
    return agent, walk(agent, 200, seed)


@pytest.mark.parametrize("case", small_agents.CASES)
def test_a_file_of_any_agent_acts_as_stable_baselines3_does(case: str, tmp_path: Path) -> None:
    model, env, path = small_agents.trained(case)
    teacher = small_agents.load(case)[2]
    batch = small_agents.observations(env, 60)
    observations = batch if isinstance(batch, dict) else {"obs": batch}
    observations = {key: x.astype(np.float32) if x.dtype == np.float64 else x for key, x in observations.items()}
    steps = Steps(observations, np.arange(60) % 20 == 0)
    expected = Walk(steps, answers(Model(model), teacher.recurrent, steps), "drawn")
    agent = Agent(teacher.to_graph(), teacher)
    assert (len(np.unique(expected.actions)) > 1) == (case not in ONE_ACTION)
    for name in TEACHERS:
        needs({"c": "gcc", "javascript": "node"}.get(name, "python3"))
        files = export(agent.graph, tmp_path / f"policy{SUFFIX[name]}")
        found = compare(agent, files[0], name, expected)
        assert found.holds, str(found)
        assert found.played is not None
        assert len(found.off) == 60
    assert path.is_file()


@pytest.mark.parametrize("name", ["arduino", "c", "javascript", "script", "leapp", "onnx", "torch", "sb3", "wasm"])
def test_another_policy_in_the_file_is_noticed_in_every_format(name: str, tmp_path: Path) -> None:
    graph = make_graph("categorical", {"env": "nowhere-v0"})
    agent, where = walked(graph)
    files = export(graph, tmp_path / f"policy{SUFFIX[name]}")
    same = compare(agent, files[0], name, where)
    assert same.holds
    assert str(same).startswith(f"policy{SUFFIX[name]}: the same action on 200 of 200 random observations (")
    last = graph.ops[-1]
    turned = {**last.tensors, "bias": last.tensors["bias"][::-1] + np.float32([0, 0, 0, 3])}
    other = replace(graph, ops=(*graph.ops[:-1], replace(last, tensors=turned)))
    files = export(other, tmp_path / f"policy{SUFFIX[name]}")
    found = compare(agent, files[0], name, where)
    assert not found.holds
    differ = int((~found.alike).sum())
    first = int(np.argmin(found.alike))
    assert f"another action on {differ} of 200 random observations" in str(found)
    assert f"at the first, number {first}, 3 instead of {where.actions[first, 0]:.0f}" in str(found)


@pytest.mark.parametrize("kind", HEADS)
@pytest.mark.parametrize("name", ["arduino", "c", "javascript", "script", "leapp", "onnx", "torch", "wasm"])
def test_every_head_is_compared_in_its_own_units(kind: str, name: str, tmp_path: Path) -> None:
    graph = make_graph(kind)
    agent, where = walked(graph)
    files = export(graph, tmp_path / f"policy{SUFFIX[name]}")
    found = compare(agent, files[0], name, where)
    assert found.holds, str(found)
    assert where.actions.shape == (200, int(np.prod(graph.head.shape)))
    assert ("of their range" in str(found)) == graph.head.is_gaussian


@pytest.mark.parametrize("name", ["arduino", "c", "javascript", "script", "leapp", "onnx", "wasm"])
@pytest.mark.parametrize("memory", ["gru", "lstm"])
def test_a_memory_begins_anew_with_each_episode(memory: str, name: str, tmp_path: Path) -> None:
    graph = GRAPHS[memory]()
    agent, where = walked(graph)
    assert where.steps.starts.sum() == 4
    files = export(graph, tmp_path / f"policy{SUFFIX[name]}")
    assert compare(agent, files[0], name, where).holds
    # Were the starts not handed on, or the memory not carried, these would be the same too.
    for starts in (np.arange(200) == 0, np.ones(200, bool)):
        assert not compare(agent, files[0], name, replace(where, steps=replace(where.steps, starts=starts))).holds


@pytest.mark.parametrize("name", ["c", "python"])
def test_a_file_of_any_name_is_played(name: str, tmp_path: Path) -> None:
    graph = make_graph("categorical", {"env": "nowhere-v0"})
    agent, where = walked(graph)
    [file, *_] = export(graph, tmp_path / "policy", name)
    assert compare(agent, file, name, where).holds


def test_a_memory_is_refused_by_torch_in_a_line(tmp_path: Path) -> None:
    with pytest.raises(KDError, match="has no memory"):
        export(GRAPHS["gru"](), tmp_path / "policy.pt2")


@pytest.mark.parametrize("name", ["arduino", "c", "javascript", "script", "leapp", "onnx", "torch", "wasm"])
@pytest.mark.parametrize("kind", ["categorical", "multi_categorical", "bernoulli"])
def test_masks_reach_the_file(kind: str, name: str, tmp_path: Path) -> None:
    plain = make_graph(kind)
    graph = replace(plain, head=replace(plain.head, expects_masks=True))
    agent, where = walked(graph)
    assert where.steps.masks is not None
    assert not where.steps.masks.all()
    files = export(graph, tmp_path / f"policy{SUFFIX[name]}")
    assert compare(agent, files[0], name, where).holds
    unmasked = replace(where, steps=replace(where.steps, masks=None))
    assert not compare(agent, files[0], name, unmasked).holds


def test_a_missing_runtime_is_no_fault_of_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    agent, where = walked(make_graph())
    files = export(agent.graph, tmp_path / "policy.mjs")
    monkeypatch.setenv("PATH", str(tmp_path))
    found = compare(agent, files[0], "javascript", where)
    assert found.holds
    assert str(found) == "policy.mjs: not checked: node is not there"


def test_a_runtime_that_fails_is_named(tmp_path: Path) -> None:
    needs("node")
    agent, where = walked(make_graph())
    (tmp_path / "policy.mjs").write_text("throw new RangeError('an error of its own');")
    with pytest.raises(KDError, match=r"node failed: .*an error of its own"):
        compare(agent, tmp_path / "policy.mjs", "javascript", where)
    (tmp_path / "policy.mjs").write_text("export const obsSize = 4; export const act = () => [];")
    with pytest.raises(KDError, match="node answered with 0 numbers, expected 200"):
        compare(agent, tmp_path / "policy.mjs", "javascript", where)


def test_a_format_that_nothing_plays_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    agent, where = walked(make_graph())
    files = export(agent.graph, tmp_path / "policy.c")
    monkeypatch.delattr(plugins.load("export", "c"), "play")
    assert "policy.c: not checked: nothing here plays it (" in str(compare(agent, files[0], "c", where))


def test_a_plug_in_says_by_itself_how_it_is_played(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    agent, where = walked(make_graph())
    told: list[Any] = []

    def play(path: Path, graph: PolicyGraph, steps: Steps) -> Played:
        told.extend([path, graph, steps])
        return Played(where.actions, "by hand")

    monkeypatch.setattr(plugins.load("export", "c"), "play", play)
    found = compare(agent, tmp_path / "policy.c", "c", where)
    assert str(found) == "policy.c: the same action on 200 of 200 random observations (by hand)"
    assert told == [tmp_path / "policy.c", agent.graph, where.steps]

    def missing(*told: Any) -> Played:
        raise RuntimeMissingError("godot is not there")

    monkeypatch.setattr(plugins.load("export", "c"), "play", missing)
    assert str(compare(agent, tmp_path / "policy.c", "c", where)) == "policy.c: not checked: godot is not there"


def test_numbers_of_a_box_count_by_their_range() -> None:
    head = replace(HEADS["diag_gaussian"].spec, shape=(3,), low=(-1.0, -100.0, -np.inf), high=(1.0, 100.0, np.inf))
    expected = np.float64([[0, 0, 1000]] * 5)
    off = np.float64([[2, 0, 0], [0, 200, 0], [0, 0, 1000], [4, 4, 0], [0, 0, 0]]) * 1e-5
    np.testing.assert_allclose(distances(head, expected + off, expected), np.float64([1, 1, 1, 2, 0]) * 1e-5)
    assert distances(head, expected + np.nan, expected).min() > TOLERANCE
    fixed = replace(head, shape=(1,), low=(0.5,), high=(0.5,))
    assert distances(fixed, np.float64([[0.5], [0.6]]), np.float64([[0.5], [0.5]])).tolist()[0] == 0
    assert distances(fixed, np.float64([[0.6]]), np.float64([[0.5]]))[0] > TOLERANCE


def test_a_tie_is_a_choice_as_good_as_the_greedy_one() -> None:
    head = replace(HEADS["categorical"].spec, nvec=(3,), start=(5,))
    near = 100 * TIE * 0.5
    rows = np.float32([[100, 100 - near, 99], [100, 99.9, 99], [MASKED, 1, 0.5]])
    assert ties(head, rows, np.float64([[6], [6], [7]])).tolist() == [True, False, False]
    # What is no action of the space at all is no choice.
    assert ties(head, rows, np.float64([[8], [4], [5]])).tolist() == [False, False, False]
    bits = replace(HEADS["bernoulli"].spec, shape=(2,), nvec=(2, 2), start=(0, 0))
    rows = np.float32([[1e-7, 2], [0.1, 2], [-MASKED, -1]])
    assert ties(bits, rows, np.float64([[0, 1], [0, 1], [0, 0]])).tolist() == [True, False, False]


def test_ties_are_said_and_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two equal logits any choice will do, and of the others none."""
    graph = make_graph()
    last = graph.ops[-1]
    weight, bias = last.tensors["weight"].copy(), last.tensors["bias"].copy()
    weight[1], bias[1] = weight[0], bias[0]
    twins = replace(graph, ops=(*graph.ops[:-1], replace(last, tensors={"weight": weight, "bias": bias})))
    agent, where = walked(twins)
    count = int((where.actions == 0).sum())
    assert 0 < count < 200
    swapped = np.where(where.actions == 0, 1, where.actions)
    monkeypatch.setattr(plugins.load("export", "c"), "play", lambda *told: Played(swapped, "by hand"))
    found = compare(agent, tmp_path / "p.c", "c", where)
    assert found.holds
    assert f"the same action on 200 of 200 random observations (by hand; {count} of them a tie" in str(found)
    monkeypatch.setattr(plugins.load("export", "c"), "play", lambda *told: Played(swapped + 1, "by hand"))
    assert not compare(agent, tmp_path / "p.c", "c", where).holds


def test_statistics_beside_a_zip_are_found(tmp_path: Path) -> None:
    graph = make_graph("categorical", {"env": "nowhere-v0"})
    agent, where = walked(graph)
    files = export(graph, tmp_path / "policy.zip", vecnormalize=True)
    assert len(files) == 2
    assert compare(agent, files[0], "sb3", where).holds


def test_a_policy_that_is_sampled_is_compared_by_its_greedy_actions(tmp_path: Path) -> None:
    agent, where = walked(make_graph("categorical", {"play": "sampled"}))
    for name in ("c", "javascript", "onnx", "torch"):
        files = export(agent.graph, tmp_path / f"policy{SUFFIX[name]}")
        assert compare(agent, files[0], name, where).holds


def test_an_agent_of_several_observations_is_told_each(tmp_path: Path) -> None:
    agent = read_agent(GRAPHS["several keys"](), Reading())
    where = walk(agent, 100)
    for name in ("c", "javascript", "onnx", "torch"):
        files = export(agent.graph, tmp_path / f"policy{SUFFIX[name]}")
        assert compare(agent, files[0], name, where).holds, name
