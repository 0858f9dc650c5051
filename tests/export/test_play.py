"""The formats' own players: what a file answers in its runtime is what NumPy does, and what is missing is said."""

from pathlib import Path

import numpy as np
import played
import pytest
from masked_agents import masked_graph, random_masks
from sample_graphs import GRAPHS, observations_for
from samples import HEADS

from kd_agent import KDError, export, plugins
from kd_agent.deployment.agents import Agent
from kd_agent.deployment.parity import compare
from kd_agent.deployment.walk import Walk, answers
from kd_agent.export import RuntimeMissingError, Steps
from kd_agent.policies.graph import PolicyGraph
from kd_agent.policies.policy import Policy

pytestmark = pytest.mark.usefixtures("godot")
PLAYERS = {"python": ".py", "csharp": ".cs", "gdscript": ".gd"}
POLICIES = {
    **{kind: GRAPHS[kind] for kind in HEADS},
    "memory": GRAPHS["lstm"],
    "several keys": GRAPHS["several keys"],
    **{f"masked {kind}": (lambda kind=kind: masked_graph(kind)) for kind in ("categorical", "bernoulli")},
}


def needs_all_of(name: str) -> None:
    for tool in {"csharp": ["mcs", "mono"], "gdscript": ["node", "godot"]}.get(name, []):
        played.needs(tool)


def walked(graph: PolicyGraph) -> tuple[Agent, Walk]:
    """A policy, and what NumPy does in 90 steps of three episodes."""
    observations = observations_for(graph, 90)
    masks = None
    if graph.head.expects_masks:
        parts = [2] * len(graph.head.nvec) if graph.head.kind == "bernoulli" else list(graph.head.nvec)
        masks = random_masks(parts, 90, np.random.default_rng(0))
    steps = Steps(observations, np.arange(90) % 30 == 0, masks)
    policy = Policy(graph)
    return Agent(graph, policy), Walk(steps, answers(policy, bool(graph.states), steps), "drawn")


@pytest.mark.parametrize("kind", POLICIES)
@pytest.mark.parametrize("name", PLAYERS)
def test_a_file_acts_as_numpy_does(name: str, kind: str, tmp_path: Path) -> None:
    needs_all_of(name)
    graph = POLICIES[kind]()
    agent, where = walked(graph)
    [path] = export(graph, tmp_path / f"policy{PLAYERS[name]}")
    found = compare(agent, path, name, where)
    assert found.holds, str(found)
    assert found.played is not None
    assert len(np.unique(where.actions)) > 1


@pytest.mark.parametrize("name", PLAYERS)
def test_another_policy_in_the_file_is_noticed(name: str, tmp_path: Path) -> None:
    needs_all_of(name)
    agent, where = walked(GRAPHS["categorical"]())
    [path] = export(GRAPHS["activations"](), tmp_path / f"policy{PLAYERS[name]}")
    assert not compare(agent, path, name, where).holds


@pytest.mark.parametrize(("name", "missing"), [("csharp", "mcs"), ("gdscript", "godot")])
def test_where_nothing_plays_a_file_it_says_what_is_missing(
    name: str, missing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = GRAPHS["categorical"]()
    [path] = export(graph, tmp_path / f"policy{PLAYERS[name]}")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RuntimeMissingError, match=f"^{missing} is not there"):
        plugins.load("export", name).play(path, graph, walked(graph)[1].steps)


@pytest.mark.parametrize("name", PLAYERS)
def test_a_file_that_cannot_be_played_is_an_error_of_one_line(name: str, tmp_path: Path) -> None:
    needs_all_of(name)
    graph = GRAPHS["categorical"]()
    [path] = export(graph, tmp_path / f"policy{PLAYERS[name]}")
    path.write_text(path.read_text().replace("= kd_clip(", "= kd_no_such("))
    with pytest.raises(KDError) as caught:
        plugins.load("export", name).play(path, graph, walked(graph)[1].steps)
    assert "\n" not in str(caught.value)
