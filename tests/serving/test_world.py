"""Students in their environments: the same episodes as an evaluation's, and explanations in names."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from known_policies import graph_of, linear
from masked_agents import IDS, masked_spec
from sample_graphs import memory_graph
from samples import PROBES, make_graph

from kd_agent import KDError, evaluate
from kd_agent.networks.distributions import head_for
from kd_agent.policies import file as graph_file
from kd_agent.policies.graph import ObservationSpec, PolicyGraph
from kd_agent.policies.policy import Policy
from kd_agent.serving.students import ServedStudent, served_students
from kd_agent.serving.world import World
from kd_agent.settings import ServeConfig

PUSH = np.float32([0.2, 0.5, 4, 3])  # the way to which the cart and the pole lean holds it up
TWO = head_for(gym.spaces.Discrete(2)).spec


def pushing(provenance: dict[str, Any] | None = None, strength: float = 1.0) -> PolicyGraph:
    """A policy that holds the pole up."""
    graph = graph_of([-PUSH * strength, PUSH * strength], TWO)
    return replace(graph, provenance=provenance or {"env": "CartPole-v1"})


def served(graph: PolicyGraph, folder: Path, **how: Any) -> tuple[ServedStudent, World]:
    file = str(graph_file.write(graph, folder / "s.safetensors"))
    config = ServeConfig(student=(file,), **how)
    [student] = served_students(config.student, config.env).values()
    return student, World(student, config)


def test_play_is_an_evaluation_and_says_the_mean_and_the_worst(tmp_path: Path) -> None:
    _, world = served(make_graph(provenance={"env": PROBES["Discrete"]}), tmp_path)
    found = world.play(5, 30)
    expected = evaluate(world._student.policy, PROBES["Discrete"], seeds=range(30, 35)).returns
    assert found["returns"] == expected.tolist()
    assert (found["mean"], found["worst"]) == (expected.mean(), expected.min())
    assert found["seeds"] == [30, 34]
    assert len(set(found["returns"])) > 1


def test_play_leaves_the_session_as_it_was(tmp_path: Path) -> None:
    student, world = served(replace(memory_graph("gru"), provenance={"env": PROBES["Discrete"]}), tmp_path)
    here = {"obs": np.float32([0.1, 0.2, 0.3, 0.4])}
    student.act(here, None)
    before = student.rows({"obs": here["obs"][None]}, None)
    world.play(2, 0)
    world.explain(here, None)
    np.testing.assert_array_equal(student.rows({"obs": here["obs"][None]}, None), before)


def test_play_does_not_touch_what_the_session_draws(tmp_path: Path) -> None:
    graph = pushing({"env": "CartPole-v1", "play": "sampled"}, strength=0.02)
    drawn = []
    for plays in (False, True):
        student, world = served(graph, tmp_path)
        actions = []
        for number in range(40):
            if plays and number == 5:
                world.play(2, 0)
            actions.append(int(student.act({"obs": np.zeros(4, np.float32)}, None)))
        drawn.append(actions)
    assert drawn[0] == drawn[1]


def test_an_explanation_names_what_matters_and_the_runner_up(tmp_path: Path) -> None:
    _, world = served(pushing(), tmp_path)
    found = world.explain({"obs": np.float32([0, 0, 0.1, 0.1])}, None)
    assert (found["action"], found["name"]) == (1, "right")
    assert found["runner_up"]["name"] == "left"
    names = [feature["name"] for feature in found["features"]]
    assert set(names[:2]) == {"pole angle", "pole angular velocity"}
    assert sorted(names) == sorted(["cart position", "cart velocity", "pole angle", "pole angular velocity"])
    effects = [feature["kl"] for feature in found["features"]]
    assert effects == sorted(effects, reverse=True)
    assert effects[0] > 0
    references = world._references()["obs"]
    assert references.shape == (128, 4)
    assert len(np.unique(references, axis=0)) == 128
    assert np.abs(references[:, 2]).max() < 0.21  # the pole's angle at which an episode ends
    # Where it comes out clearly nothing changes the action; the references are the states that it visits.
    clear = world.explain({"obs": np.float32([0, 0, 50, 50])}, None)
    assert {feature["changes_the_action"] for feature in clear["features"]} == {0}


def test_a_mask_reaches_the_explanation(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    specs = {"obs": ObservationSpec((6,), "float32")}
    ops = (linear("obs", "params", rng.normal(size=(4, 6))),)
    graph = PolicyGraph(specs, ops, masked_spec("categorical"), {"env": IDS["Discrete"]})
    _, world = served(graph, tmp_path)
    here = {"obs": rng.normal(size=6).astype(np.float32)}
    allowed = np.array([True, False, True, False])
    found = world.explain(here, allowed)
    assert {found["action"], found["runner_up"]["action"]} == {0, 2}


def test_what_is_typed_is_where_it_plays(tmp_path: Path) -> None:
    nowhere = pushing({"env": "nowhere-v0"})
    _, world = served(nowhere, tmp_path, env="CartPole-v1", env_kwargs={"sutton_barto_reward": True})
    # Sutton and Barto pay nothing for a step.
    assert world.play(2, 0) == {
        "environment": "CartPole-v1",
        "seeds": [0, 1],
        "mean": 0,
        "worst": 0,
        "returns": [0, 0],
    }
    with pytest.raises(KDError, match=r"wrapper 'absent_module:Wrapper': its module cannot be imported"):
        served(pushing(), tmp_path, wrapper=("absent_module:Wrapper",))
    with pytest.raises(KDError, match=r"expects observation 'obs' of shape \(4,\), the environment has \(8,\)"):
        served(pushing(), tmp_path, env="LunarLander-v3")


def test_an_environment_that_is_not_to_be_had_is_a_line_and_no_module_of_a_file_is_imported(tmp_path: Path) -> None:
    (tmp_path / "canary.py").write_text("raise SystemExit('imported')")
    recipe = {"env_id": "Canary-v0", "env_kwargs": {}, "wrappers": [], "frame_stack": 1, "module": "canary"}
    graph = pushing({"env": "Canary-v0", "recipe": recipe})
    with pytest.raises(KDError, match=r"'s' cannot be played here: .* --env canary:Canary-v0"):
        served(graph, tmp_path)


def test_the_policy_is_drawn_from_where_it_is_sampled(tmp_path: Path) -> None:
    graph = pushing({"env": "CartPole-v1", "play": "sampled"}, strength=0.02)
    _, world = served(graph, tmp_path)
    found = world.play(4, 0)["returns"]
    assert found == evaluate(Policy(graph), "CartPole-v1", seeds=range(4)).returns.tolist()
    assert (
        np.mean(found)
        < 400
        < np.mean(evaluate(Policy(graph), "CartPole-v1", seeds=range(4), deterministic=True).returns)
    )
