"""MaskablePPO as a teacher: it plays with masks as sb3_contrib does, alone, in environments and among others."""

import masked_agents
import numpy as np
import pytest
import torch
from masked_agents import IDS, PARTS, SPACES, Tally, share_invalid
from samples import HEADS, make_graph

from kd_agent import KDError, evaluate, load_teacher
from kd_agent.networks.base import Origin
from kd_agent.policies.graph import PolicyGraph
from kd_agent.teachers import EnsembleTeacher, GraphTeacher, KeyedTeacher

every_space = pytest.mark.parametrize("name", SPACES)


@every_space
@pytest.mark.parametrize("with_spaces", [True, False])
def test_its_actions_are_those_of_sb3_contrib_with_masks_and_without(name: str, with_spaces: bool) -> None:
    agent = masked_agents.agent(name)
    teacher = load_teacher(str(agent.path), env=agent.spaces if with_spaces else None)
    observations, masks = masked_agents.states(name)
    assert teacher.expects_masks
    theirs, _ = agent.model.predict(observations, deterministic=True, action_masks=masks)
    ours, _ = teacher.predict(observations, deterministic=True, action_masks=masks)
    np.testing.assert_array_equal(ours, theirs)
    drawn, _ = teacher.predict(observations, action_masks=masks)
    assert share_invalid(ours, masks, name) == share_invalid(drawn, masks, name) == 0
    bare, _ = agent.model.predict(observations, deterministic=True)
    np.testing.assert_array_equal(teacher.predict(observations, deterministic=True)[0], bare)
    assert share_invalid(bare, masks, name) > 0.1, "the test would not see a mask that does nothing"


@every_space
def test_one_observation_takes_one_mask(name: str) -> None:
    agent = masked_agents.agent(name)
    teacher = load_teacher(str(agent.path))
    for observation, mask in zip(*masked_agents.states(name, 20), strict=True):
        theirs, _ = agent.model.predict(observation, deterministic=True, action_masks=mask)
        ours, _ = teacher.predict(observation, deterministic=True, action_masks=mask)
        assert ours.shape == SPACES[name].shape
        np.testing.assert_array_equal(ours, theirs)


@every_space
@torch.no_grad()
def test_its_labels_are_the_masked_distribution_and_finite(name: str) -> None:
    agent = masked_agents.agent(name)
    teacher = load_teacher(str(agent.path))
    observations, masks = masked_agents.states(name)
    masks[0] = False
    label = teacher.label({"obs": observations}, action_masks=masks)
    assert torch.isfinite(label.params).all()
    assert label.params.dtype == torch.float32
    np.testing.assert_array_equal(label.mask, masks)
    policy = agent.model.policy
    theirs = policy.get_distribution(policy.obs_to_tensor(observations)[0], masks)
    parts = theirs.distributions if name != "Discrete" else [theirs.distribution]
    expected = [part.probs for part in parts]
    ours = [log_p.exp() for log_p in teacher.head.log_probabilities(label.params)]
    for probabilities, wanted in zip(ours, expected, strict=True):
        # Of a bit, ours begin with 1 and theirs with 0.
        ordered = wanted.flip(-1) if name == "MultiBinary" else wanted
        torch.testing.assert_close(probabilities, ordered, atol=1e-5, rtol=1e-5)
    assert teacher.label({"obs": observations}).mask is None


@every_space
def test_it_plays_without_an_invalid_action_and_earns_what_it_earns_with_sb3_contrib(name: str) -> None:
    agent = masked_agents.agent(name)
    teacher = load_teacher(str(agent.path))
    for player in (teacher, agent.model):
        with Tally() as tally:
            returns = evaluate(player, IDS[name], seeds=range(20)).returns
        assert (tally.steps > 0, tally.invalid) == (True, 0)
        if player is teacher:
            first = returns
    np.testing.assert_array_equal(first, returns)
    with Tally() as tally:
        evaluate(teacher, IDS[name], seeds=range(20), deterministic=False)
    assert tally.invalid == 0


def test_where_nothing_can_be_asked_it_is_refused_in_one_line() -> None:
    teacher = load_teacher(str(masked_agents.agent("Discrete").path))
    with pytest.raises(
        KDError, match="plays with action masks, and the environment has no method action_masks"
    ) as caught:
        evaluate(teacher, "MaskedNot-v0", seeds=[1])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("mask", [np.ones((2, 4)), np.ones(3), "yes", None])
def test_a_mask_that_does_not_fit_is_refused(mask: object) -> None:
    teacher = load_teacher(str(masked_agents.agent("Discrete").path))
    if mask is None:
        teacher.predict(np.zeros((1, 6), np.float32), action_masks=None)
        return
    with pytest.raises(KDError, match=r"action_masks has shape .*, expected \(1, 4\) flags"):
        teacher.predict(np.zeros((1, 6), np.float32), action_masks=mask)


def graph_teacher(graph: PolicyGraph, name: str = "other") -> GraphTeacher:
    return GraphTeacher(graph, Origin(name, "0" * 64, "PPO", 1))


@pytest.mark.parametrize("combine", ["mixture", "product", "confidence", "routed"])
@pytest.mark.parametrize("kind", ["categorical", "multi_categorical", "bernoulli"])
def test_one_teacher_with_masks_makes_all_of_an_ensemble_keep_to_them(kind: str, combine: str) -> None:
    plain = graph_teacher(make_graph(kind))
    masked = graph_teacher(masked_agents.masked_graph(kind))
    together = EnsembleTeacher([plain, masked], combine)
    assert together.expects_masks
    assert not EnsembleTeacher([plain, plain], combine).expects_masks
    parts = {"categorical": [4], "multi_categorical": [3, 4], "bernoulli": [2, 2, 2]}[kind]
    rng = np.random.default_rng(0)
    observations = rng.normal(size=(200, 4)).astype(np.float32)
    masks = masked_agents.random_masks(parts, 200, rng)
    label = together.label({"obs": observations}, action_masks=masks)
    assert torch.isfinite(label.params).all()
    actions = HEADS[kind].spec.greedy(label.params.numpy())
    assert all(masked_agents.is_allowed(a, m, parts) for a, m in zip(actions, masks, strict=True))


def test_a_teacher_of_some_keys_takes_masks_too() -> None:
    keyed = KeyedTeacher(graph_teacher(masked_agents.masked_graph()), ["state"])
    assert keyed.expects_masks
    mask = np.array([[False, False, True, False]])
    observed = {"state": np.zeros((1, 4), np.float32), "image": np.zeros((1, 2), np.float32)}
    assert keyed.predict(observed, deterministic=True, action_masks=mask)[0].tolist() == [2]
    assert PARTS["Discrete"] == [4]
