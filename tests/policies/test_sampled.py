"""Policies that are meant to be played by samples: what their files say, and how they act."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from draws import OBSERVATION, SAMPLED, chance, row_of, sampled_graph, sampled_masked_graph
from samples import HEADS, make_graph
from task_graphs import make_tasks

from kd_agent import load_policy
from kd_agent.native.policy import NativePolicy
from kd_agent.policies import file as graph_file
from kd_agent.policies.policy import Policy

GOLDEN = Path(__file__).parents[1] / "golden"
MASKS = {"categorical": [1, 0, 1, 1], "multi_categorical": [0, 1, 1, 1, 0, 1, 1], "bernoulli": [1, 1, 0, 1, 1, 1]}
BACKENDS = {"numpy": Policy, "native": NativePolicy}
every_kind = pytest.mark.parametrize("kind", HEADS)
every_backend = pytest.mark.parametrize("backend", BACKENDS)


def test_a_file_says_that_its_policy_is_sampled_and_other_files_do_not_mention_it(tmp_path: Path) -> None:
    sampled = load_policy(graph_file.write(sampled_graph(), tmp_path / "s.safetensors"))
    greedy = load_policy(graph_file.write(make_graph(), tmp_path / "g.safetensors"))
    assert (sampled.sampled, greedy.sampled) == (True, False)
    assert b"play" not in (tmp_path / "g.safetensors").read_bytes()
    # A reader of before would play greedily: it must not read the file.
    assert b'"format\\": 4' in (tmp_path / "s.safetensors").read_bytes()
    assert b'"format\\": 1' in (tmp_path / "g.safetensors").read_bytes()


def test_a_sampled_policy_with_masks_or_of_a_task_is_read_again() -> None:
    masked = sampled_masked_graph("categorical")
    again = graph_file.from_bytes(graph_file.to_bytes(masked))
    assert (again.sampled, again.head.expects_masks) == (True, True)
    tasks = make_tasks()
    one, *others = sorted(tasks.tasks)
    tasks.tasks[one].provenance["play"] = "sampled"
    raw = graph_file.to_bytes(tasks)
    assert b'"format\\": 4' in raw
    assert graph_file.from_bytes(raw, task=one).sampled
    assert not any(graph_file.from_bytes(raw, task=other).sampled for other in others)


def test_a_file_of_format_4_is_read_for_ever() -> None:
    expected = json.loads((GOLDEN / "student-format-4.json").read_text())
    policy = load_policy(GOLDEN / "student-format-4.safetensors")
    assert policy.sampled
    observations = np.array(expected["observations"], np.float32)
    np.testing.assert_allclose(policy.params(observations), expected["params"], atol=2e-6)
    assert policy.predict(observations, deterministic=True)[0].tolist() == expected["greedy"]


@every_kind
@every_backend
def test_act_draws_from_the_distribution(kind: str, backend: str) -> None:
    policy = BACKENDS[backend](sampled_graph(kind), seed=1)
    actions = [policy.act(OBSERVATION) for _ in range(4_000)]
    assert chance(policy.graph.head, row_of(policy.graph), actions) > 1e-3


@pytest.mark.parametrize("kind", MASKS)
@every_backend
def test_act_keeps_to_a_mask_and_draws_from_what_is_left(kind: str, backend: str) -> None:
    policy = BACKENDS[backend](sampled_masked_graph(kind), seed=1)
    actions = [policy.act(OBSERVATION, MASKS[kind]) for _ in range(4_000)]
    assert chance(policy.graph.head, row_of(policy.graph, MASKS[kind]), actions) > 1e-3


@every_backend
def test_the_same_seed_draws_the_same_actions_and_another_one_others(backend: str) -> None:
    policy = BACKENDS[backend](sampled_graph(), seed=1)

    def drawn() -> list[int]:
        return [policy.act(OBSERVATION) for _ in range(30)]

    first = drawn()
    assert drawn() != first
    policy.reseed(1)
    assert drawn() == first
    policy.reseed(2)
    assert drawn() != first
    assert all(type(action) is int for action in first)


@every_kind
@every_backend
def test_who_asks_for_the_greedy_action_gets_it(kind: str, backend: str) -> None:
    sampled, greedy = BACKENDS[backend](sampled_graph(kind)), Policy(make_graph(kind))
    for _ in range(5):
        action, _ = sampled.predict(OBSERVATION, deterministic=True)
        np.testing.assert_allclose(action, greedy.act(OBSERVATION), atol=1e-5)


@every_kind
def test_torch_draws_from_the_distribution_where_the_policy_is_sampled(kind: str) -> None:
    graph = sampled_graph(kind)
    many = torch.from_numpy(np.tile(OBSERVATION, (4_000, 1)))
    torch.manual_seed(0)
    with torch.no_grad():
        actions = Policy(graph).to_torch().act(many)
        alike = Policy(make_graph(kind)).to_torch().act(many)
    assert chance(graph.head, row_of(graph), actions.numpy()) > 1e-3
    assert len(torch.unique(alike, dim=0)) == 1
    assert actions.dtype == alike.dtype


def test_the_test_of_draws_notices_another_distribution() -> None:
    for kind, head in HEADS.items():
        row = row_of(sampled_graph(kind))
        rng = np.random.default_rng(0)
        other = row.copy()
        other[0] += 0.3
        actions = head.spec.sample(np.tile(other, (4_000, 1)), rng)
        assert chance(head.spec, row, actions) < 1e-3, kind


def test_a_sampled_provenance_is_all_that_differs() -> None:
    assert graph_file.from_bytes(graph_file.to_bytes(sampled_graph())).provenance == SAMPLED
