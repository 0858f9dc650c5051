"""Disagreements: a student that is wrong in a known region is found there, and near-ties are told apart."""

import gymnasium as gym
import numpy as np
import pytest
from known_policies import FOUR, RECIPE, graph_of, linear, teacher_of, visited_by
from samples import HEADS, PROBES

from kd_agent.environments.recipe import recipe_of
from kd_agent.explanations.disagreements import NearTies, decision_gap, disagreements, near_ties
from kd_agent.explanations.features import features_of
from kd_agent.explanations.saliency import divergence
from kd_agent.explanations.visited_states import read
from kd_agent.networks.distributions import head_for
from kd_agent.policies.graph import Op, PolicyGraph
from kd_agent.policies.policy import Policy


def wrong_where_the_last_is_large() -> PolicyGraph:
    """The Discrete probe's answer, but action 0 where the last number passes 0.9."""
    hidden = linear("obs", "sums", [*np.eye(4), [0, 0, 0, 1]], np.float32([1, 1, 1, 1, -0.9]))
    positive = Op("activation", ("sums",), "parts", {"function": "relu"})
    out = np.hstack([5 * np.eye(4), [[300], [0], [0], [0]]])
    return PolicyGraph(FOUR, (hidden, positive, linear("parts", "params", out)), HEADS["categorical"].spec)


def test_a_student_that_is_wrong_in_one_region_is_found_there() -> None:
    teacher, student = teacher_of(graph_of(5 * np.eye(4))), Policy(wrong_where_the_last_is_large())
    visited = visited_by(teacher, student)
    p, q = read(teacher, visited), read(student, visited)
    found = disagreements(p, q, teacher.head, features_of(FOUR), visited, top=20)
    assert len(found) == 20
    assert all(d.observation["x[3]"] > 0.9 for d in found)
    assert {d.feature for d in found} == {"x[3]"}
    assert all((d.student.action, d.value) == (0, d.observation["x[3]"]) for d in found)
    assert [d.differs for d in found] == [d.teacher.action != 0 for d in found]
    assert all(abs(d.typical or 0) < 0.1 and d.kl_without < 1e-6 < d.kl for d in found)
    kl = divergence(teacher.head, p.rows, q.rows)
    assert [d.kl for d in found] == sorted(kl, reverse=True)[:20]
    outside = visited.observations["obs"][:, 3] <= 0.9
    assert kl[outside].max() < 1e-5
    assert 0.02 < 1 - outside.mean() < 0.08


def test_a_disagreement_is_found_again_by_its_seed_and_step() -> None:
    teacher, student = teacher_of(graph_of(5 * np.eye(4))), Policy(wrong_where_the_last_is_large())
    visited = visited_by(teacher, student)
    found = disagreements(
        read(teacher, visited), read(student, visited), teacher.head, features_of(FOUR), visited, top=5
    )
    assert max(d.step for d in found) > 0
    for d in found:
        env = gym.make(RECIPE.env_id)
        observation, _ = env.reset(seed=d.seed)
        for _ in range(d.step):
            observation, *_ = env.step(student.act(observation))
        np.testing.assert_allclose(observation, list(d.observation.values()), rtol=1e-6)


def test_the_gap_is_that_between_the_teachers_two_best_actions() -> None:
    p = np.log(np.float32([[0.5, 0.3, 0.15, 0.05], [0.26, 0.25, 0.25, 0.24]]))
    q = np.log(np.float32([[0.1, 0.8, 0.05, 0.05], [0.26, 0.25, 0.25, 0.24]]))
    np.testing.assert_allclose(decision_gap(HEADS["categorical"], p, q), [0.2, 0.01], atol=1e-6)
    assert decision_gap(HEADS["diag_gaussian"], p, q) is None


def test_the_gap_of_several_parts_is_the_clearest_that_the_student_misses_else_the_least_clear() -> None:
    head = HEADS["bernoulli"]
    logit = np.log(np.float32([0.9, 0.6, 0.51]) / np.float32([0.1, 0.4, 0.49]))
    other = np.stack([logit, logit * [1, -1, -1], logit * [-1, 1, 1]]).astype("f")
    gap = decision_gap(head, np.stack([logit] * 3), other)
    np.testing.assert_allclose(gap, [0.02, 0.2, 0.8], atol=1e-5)


def test_shares_of_near_ties_are_those_of_states_of_kl_and_of_disagreements() -> None:
    gap, kl = np.array([0.05, 0.05, 0.5, 0.5]), np.array([1.0, 0, 3, 0])
    differs, episode = np.array([True, True, True, False]), np.arange(4)
    ties = near_ties(gap, kl, differs, episode)
    assert (ties.states, ties.kl, ties.disagreements, ties.differing) == (0.5, 0.25, pytest.approx(2 / 3), 3)
    assert ties.disagreements_ci is not None
    assert 0 <= ties.disagreements_ci[0] < 2 / 3 < ties.disagreements_ci[1] <= 1
    none = near_ties(gap, 0 * kl, differs & False, episode)
    assert none == NearTies(0.5, none.states_ci, None, None, None, None, 0)


def test_parts_of_a_single_value_decide_nothing() -> None:
    head = head_for(gym.spaces.MultiDiscrete([1, 2]))
    logit = np.log(np.float32([[1, 0.7, 0.3], [1, 0.55, 0.45]]))
    np.testing.assert_allclose(decision_gap(head, logit, logit), [0.4, 0.1], atol=1e-6)
    alone = head_for(gym.spaces.Discrete(1))
    np.testing.assert_array_equal(decision_gap(alone, np.zeros((3, 1), "f"), np.zeros((3, 1), "f")), np.ones(3))


def test_policies_that_are_equal_disagree_nowhere_and_come_in_the_order_of_the_visit() -> None:
    teacher = teacher_of(graph_of(5 * np.eye(4)))
    student = Policy(graph_of(5 * np.eye(4)))
    visited = visited_by(teacher, student, states=160)
    reading = read(student, visited)
    found = disagreements(reading, reading, teacher.head, features_of(FOUR), visited, top=7)
    assert [(d.kl, d.differs, d.kl_without) for d in found] == [(0, False, 0)] * 7
    assert [(d.seed, d.step) for d in found] == [(int(visited.seed[0]), step) for step in range(7)]


def test_more_disagreements_than_states_are_all_states() -> None:
    teacher = teacher_of(graph_of(5 * np.eye(4)))
    student = Policy(wrong_where_the_last_is_large())
    visited = visited_by(teacher, student, states=32)
    found = disagreements(
        read(teacher, visited), read(student, visited), teacher.head, features_of(FOUR), visited, top=99
    )
    assert len(found) == 32
    kl = [d.kl for d in found]
    assert kl == sorted(kl, reverse=True)


def test_a_decision_of_a_box_shows_means_and_standard_deviations() -> None:
    head = HEADS["diag_gaussian"]
    graph = PolicyGraph(FOUR, (linear("obs", "params", np.zeros((4, 4)), np.float32([0.5, -0.25, 0, -1])),), head.spec)
    teacher = teacher_of(graph)
    visited = visited_by(teacher, Policy(graph), recipe_of(PROBES["Box"]), states=16)
    reading = read(teacher, visited)
    [first, *_] = disagreements(reading, reading, head, features_of(FOUR), visited, top=1)
    assert first.gap is None
    assert first.teacher.action == [0.5, -0.25]
    assert first.teacher.distribution == pytest.approx([0.5, -0.25, 1, np.exp(-1)])
