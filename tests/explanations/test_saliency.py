"""Saliency: known answers on the probes, for what a policy looks at follows from the weights that it was given."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from known_policies import FOUR, graph_of, linear, teacher_of, visited_by
from samples import HEADS, PROBES, rows

from kd_agent.environments.recipe import recipe_of
from kd_agent.explanations.features import features_of, grid
from kd_agent.explanations.saliency import bootstrap_ratios, divergence, effects, rank_correlation, saliency
from kd_agent.explanations.visited_states import VisitedStates, read
from kd_agent.networks.distributions import ActionHead
from kd_agent.policies.graph import ObservationSpec, Op, PolicyGraph
from kd_agent.policies.policy import Policy


def measured(graph: PolicyGraph, visited: VisitedStates) -> Any:
    """KL and changes without each feature, and the saliencies."""
    at = np.arange(len(visited.starts))
    kl, changed = effects(
        read(Policy(graph), visited), ActionHead(graph.head), features_of(graph.observations), visited, at
    )
    return kl, changed, saliency(kl, changed, visited.episode)


@pytest.fixture(scope="module")
def probe() -> VisitedStates:
    """States of the Discrete probe: uniform in [-1, 1]^4."""
    graph = graph_of(5 * np.eye(4))
    return visited_by(teacher_of(graph), Policy(graph))


def test_the_two_features_that_matter_in_the_box_probe_have_the_kl_of_the_formula_and_the_others_none() -> None:
    weight = np.zeros((4, 4))
    weight[0, 0] = weight[1, 1] = 2
    graph = graph_of(weight, HEADS["diag_gaussian"].spec)
    visited = visited_by(teacher_of(graph), Policy(graph), recipe_of(PROBES["Box"]))
    _, _, found = measured(graph, visited)
    for feature in found[:2]:
        assert feature.kl == pytest.approx(4 / 3, rel=0.05)  # E[(2x - 2x')^2] / 2 for x, x' uniform in [-1, 1]
        assert feature.kl_ci[0] < feature.kl < feature.kl_ci[1] < 1.1 * feature.kl
        assert feature.changed > 0.5
    assert [(s.kl, s.kl_ci, s.changed) for s in found[2:]] == [(0, (0, 0), 0)] * 2


def test_features_are_ranked_by_their_weight_and_opposite_students_by_minus_one(probe: VisitedStates) -> None:
    first, _, found = measured(graph_of(np.diag([4, 2, 1, 0.5])), probe)
    second, _, _ = measured(graph_of(np.diag([0.5, 1, 2, 4])), probe)
    kl = [s.kl for s in found]
    assert kl == sorted(kl, reverse=True)
    assert kl[0] > 4 * kl[2]
    assert rank_correlation(first, second, probe.episode) == (-1, (-1, -1))
    assert rank_correlation(first, first, probe.episode) == (1, (1, 1))


def test_a_rank_correlation_needs_three_features_that_differ(probe: VisitedStates) -> None:
    kl, _, _ = measured(graph_of(np.diag([4, 2, 1, 0.5])), probe)
    assert rank_correlation(kl[:2], kl[:2], probe.episode) is None
    assert rank_correlation(kl, np.zeros_like(kl), probe.episode) is None


def test_an_interval_is_as_wide_as_episodes_differ_not_as_states_do() -> None:
    episode = np.repeat(np.arange(10), 100)
    by_episode = (episode % 2).astype(float)[None]
    by_state = (np.arange(1000) % 2).astype(float)[None]
    wide, narrow = (saliency(kl, kl, episode)[0] for kl in (by_episode, by_state))
    assert wide.kl == narrow.kl == 0.5
    assert narrow.kl_ci == (0.5, 0.5)
    assert wide.kl_ci[0] < 0.3
    assert wide.kl_ci[1] > 0.7


def test_only_the_patch_that_a_policy_sees_has_saliency() -> None:
    spec = {"image": ObservationSpec((20, 16, 3), "uint8")}
    weight = np.zeros((4, 960), np.float32)
    pixel = np.ravel_multi_index((11, 5, 2), (20, 16, 3))
    weight[0, pixel] = 0.05
    ops = (Op("flatten", ("image",), "flat"), linear("flat", "params", weight))
    graph = PolicyGraph(spec, ops, HEADS["categorical"].spec)
    image = np.random.default_rng(0).integers(0, 256, (60, 20, 16, 3)).astype(np.uint8)
    states = np.arange(60)
    visited = VisitedStates({"image": image}, states == 0, states // 20, states // 20, states % 20, 60)
    features = features_of(spec)
    kl, _ = effects(read(Policy(graph), visited), HEADS["categorical"], features, visited, states)
    seen = [f.cell for f, effect in zip(features, kl, strict=True) if effect.any()]
    assert seen == [(11 * 8 // 20, 5 * 8 // 16)]
    assert grid(spec["image"]) == (8, 8)


def test_what_a_policy_does_not_see_has_no_effect_and_costs_no_question(probe: VisitedStates) -> None:
    graph = graph_of(np.diag([4, 2, 1, 0.5]))
    reading = replace(read(Policy(graph), probe), keys=frozenset())
    done: list[int] = []
    kl, changed = effects(
        reading, HEADS["categorical"], features_of(FOUR), probe, np.arange(50), advance=lambda n, **_: done.append(n)
    )
    assert kl.shape == changed.shape == (4, 50)
    assert not kl.any()
    assert not changed.any()
    assert done == [1, 2, 3, 4]


def test_effects_follow_from_the_seed(probe: VisitedStates) -> None:
    reading = read(Policy(graph_of(np.diag([4, 2, 1, 0.5]))), probe)
    first, again, other = (
        effects(reading, HEADS["categorical"], features_of(FOUR), probe, np.arange(50), seed=seed)[0]
        for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_ratios_are_of_episodes_and_one_episode_has_one() -> None:
    part, whole = np.array([[1.0, 3.0, 0.0, 0.0]]), np.array([2.0, 2.0, 0.0, 1.0])
    one = bootstrap_ratios(part, whole, np.zeros(4, int), 0)
    np.testing.assert_array_equal(np.unique(one), [4 / 5])
    two = bootstrap_ratios(part, whole, np.array([7, 7, 9, 9]), 0)
    np.testing.assert_array_equal(np.unique(two), [0, 4 / 5, 1])
    assert 0.2 < np.mean(two == 1) < 0.3


def test_a_ratio_of_nothing_is_no_number() -> None:
    drawn = bootstrap_ratios(np.array([[1.0, 0.0]]), np.array([1.0, 0.0]), np.array([0, 1]), 0)
    assert set(np.unique(drawn[~np.isnan(drawn)])) == {1.0}
    assert np.isnan(drawn).any()


@pytest.mark.parametrize("kind", sorted(HEADS))
def test_a_divergence_is_nought_for_equals_alone(kind: str) -> None:
    head = HEADS[kind]
    p, q = (rows(head, seed=seed).numpy() for seed in (0, 1))
    np.testing.assert_allclose(divergence(head, p, p), 0, atol=1e-6)
    assert (divergence(head, p, q) > 1e-3).all()
