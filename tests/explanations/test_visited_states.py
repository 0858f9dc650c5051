"""Visited states: where each stands in its episode, and what a policy says there, its memory held."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from known_policies import FOUR, RECIPE, graph_of, quiet, teacher_of, visited_by
from samples import HEADS, PROBES, make_student

from kd_agent.explanations import visited_states
from kd_agent.explanations.features import Feature, features_of
from kd_agent.explanations.saliency import effects
from kd_agent.explanations.visited_states import VisitedStates, read, typical, visit
from kd_agent.policies.policy import Policy


@pytest.fixture(scope="module")
def probe() -> VisitedStates:
    """States of the Discrete probe: uniform in [-1, 1]^4, episodes of 50 steps."""
    graph = graph_of(5 * np.eye(4))
    return visited_by(teacher_of(graph), Policy(graph))


def test_the_episodes_of_the_states_are_counted_and_begin_at_step_nought(probe: VisitedStates) -> None:
    np.testing.assert_array_equal(probe.step == 0, probe.starts)
    assert probe.step.max() == 49
    assert probe.episode[-1] + 1 == probe.starts.sum() == len(np.unique(probe.seed)) == 16 * 4


def test_a_memory_is_held_while_what_is_read_now_is_exchanged() -> None:
    graph = make_student(HEADS["categorical"], "gru").graph({"env": PROBES["Discrete"]})
    teacher, student = teacher_of(graph), Policy(graph)
    visited = visited_by(teacher, student, states=320)
    for reading in (read(teacher, visited), read(student, visited)):
        rows, memory = [], None
        for step in range(20):
            now = np.arange(16) * 20 + step
            row, memory = student.step_batch({"obs": visited.observations["obs"][now]}, memory, visited.starts[now])
            rows.append(row)
        np.testing.assert_allclose(reading.rows.reshape(16, 20, -1).swapaxes(0, 1), rows, atol=1e-6)
        one = reading.ask({"obs": visited.observations["obs"][[37]]}, np.array([37]))
        np.testing.assert_allclose(one[0], reading.rows[37], atol=1e-6)
        kl, _ = effects(reading, teacher.head, features_of(FOUR), visited, np.arange(320))
        assert (kl.mean(1) > 1e-6).all()


def test_what_is_typical_is_the_median_or_the_most_frequent_category() -> None:
    observations = {"x": np.float32([[1], [2], [9]]), "kind": np.array([4, 0, 4])}
    three = np.arange(3)
    visited = VisitedStates(observations, three == 0, three * 0, three, three, 3)
    assert typical(Feature("x", "x", (0,)), visited) == 2
    assert typical(Feature("kind", "kind", ()), visited) == 4


def test_a_policy_says_the_same_however_many_states_it_is_asked_about_at_once(
    probe: VisitedStates, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = Policy(graph_of(5 * np.eye(4)))
    at_once = read(policy, probe).rows
    monkeypatch.setattr(visited_states, "_CHUNK", 7)
    np.testing.assert_allclose(read(policy, probe).rows, at_once, rtol=1e-6)


def test_each_environment_gives_as_many_states_and_the_last_one_is_not_counted_twice() -> None:
    graph = graph_of(5 * np.eye(4))
    counts: list[int] = []
    teacher = teacher_of(graph)
    visited = visit(
        teacher, Policy(graph), RECIPE, states=33, seed=1, advance=lambda done, **figures: counts.append(done)
    )
    assert (len(visited.starts), visited.steps) == (48, 3)
    assert counts == [16, 32, 48]
    assert visited.step.tolist() == [0, 1, 2] * 16
    assert visited.episode.tolist() == np.repeat(np.arange(16), 3).tolist()


def test_the_states_follow_from_the_seed(probe: VisitedStates) -> None:
    graph = graph_of(5 * np.eye(4))
    other = visit(teacher_of(graph), Policy(graph), RECIPE, states=3200, seed=1, advance=quiet)
    again = visited_by(teacher_of(graph), Policy(graph))
    np.testing.assert_array_equal(again.observations["obs"], probe.observations["obs"])
    assert not set(other.seed) & set(probe.seed)


def test_a_reading_says_what_its_policy_sees(probe: VisitedStates) -> None:
    graph = graph_of(5 * np.eye(4))
    for policy in (Policy(graph), teacher_of(graph)):
        assert read(policy, probe).keys == {"obs"}


def test_what_is_typical_of_a_patch_is_an_image_of_its_type() -> None:
    shades = np.array([[[[10]]], [[[20]]]], np.uint8)
    states = np.arange(2)
    visited = VisitedStates({"image": shades}, states == 0, states, states, states, 2)
    found = typical(Feature("image patch 0, 0", "image", (slice(0, 1), slice(0, 1), slice(None)), (0, 0)), visited)
    assert (found.dtype, found.tolist()) == (np.uint8, [[[15]]])


@pytest.mark.parametrize("play", ["sampled", "greedy"])
def test_a_student_visits_states_as_it_is_meant_to_be_played(play: str, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[bool] = []
    collect = visited_states.collect

    def spied(*who: Any, deterministic: bool, **settings: Any) -> Any:
        told.append(deterministic)
        return collect(*who, deterministic=deterministic, **settings)

    monkeypatch.setattr(visited_states, "collect", spied)
    graph = graph_of(5 * np.eye(4))
    visited_by(teacher_of(graph), Policy(replace(graph, provenance={"play": play})), states=32)
    assert told == [play == "greedy"]
