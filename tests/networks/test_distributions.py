"""The five heads: distributions, softening, modes, samples."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from samples import HEADS, SPACES, rows
from stable_baselines3.common.distributions import make_proba_distribution
from torch.distributions import kl_divergence

from kd_agent.errors import KDError
from kd_agent.networks.distributions import ActionHead, head_for
from kd_agent.policies.head import KINDS, HeadSpec

every_head = pytest.mark.parametrize("head", HEADS.values(), ids=HEADS)
gaussian_heads = pytest.mark.parametrize("kind", ["diag_gaussian", "squashed_gaussian"])


def space_of(head: ActionHead) -> gym.Space:
    kinds = {"categorical": "Discrete", "multi_categorical": "MultiDiscrete", "bernoulli": "MultiBinary"}
    return SPACES[kinds.get(head.kind, "Box")]


def test_there_is_a_sample_of_every_head() -> None:
    assert set(HEADS) == set(KINDS)


@every_head
def test_a_row_is_a_distribution_over_a_batch(head: ActionHead) -> None:
    params = rows(head)
    dist = head.distribution(params)
    assert dist.batch_shape == (7,)
    sample = dist.sample()
    assert dist.log_prob(sample).shape == (7,)
    assert torch.isfinite(dist.log_prob(sample)).all()


@every_head
def test_greedy_actions_and_samples_lie_in_the_space(head: ActionHead) -> None:
    params = rows(head, 64, scale=3.0).numpy()
    space = space_of(head)
    for actions in (head.spec.greedy(params), head.spec.sample(params, np.random.default_rng(0))):
        assert actions.shape == (64, *space.shape)
        assert all(space.contains(action if action.shape else np.int64(action)) for action in actions)


@every_head
def test_softening_leaves_its_input_as_it_is(head: ActionHead) -> None:
    params = rows(head)
    before = params.clone()
    first, second = head.soften(params, 3.0), head.soften(params, 3.0)
    assert torch.equal(params, before)
    assert torch.equal(first, second)
    assert not torch.equal(first, params)


@every_head
def test_temperature_one_changes_nothing_and_the_mode_survives_any(head: ActionHead) -> None:
    params = rows(head)
    assert torch.allclose(head.soften(params, 1.0), params)
    for temperature in (0.01, 0.5, 4.0):
        assert torch.equal(head.mode(head.soften(params, temperature)), head.mode(params))


def test_softening_logits_is_softmax_of_z_over_t() -> None:
    z = torch.tensor([[3.0, 1, 0, -1]])
    dist = HEADS["categorical"].distribution(HEADS["categorical"].soften(z, 2.0))
    assert torch.allclose(dist.probs, (z / 2).softmax(-1))
    assert float(dist.entropy()) == pytest.approx(1.110, abs=5e-4)


@gaussian_heads
def test_softening_a_gaussian_keeps_the_mean_and_multiplies_the_variance(kind: str) -> None:
    head = HEADS[kind]
    params = rows(head)
    cold, warm = head.gaussian(params), head.gaussian(head.soften(params, 2.5))
    assert torch.allclose(warm.mean, cold.mean)
    assert torch.allclose(warm.variance, 2.5 * cold.variance)


def test_the_kl_of_squashed_gaussians_is_taken_before_the_squash_and_finite_at_saturation() -> None:
    head = HEADS["squashed_gaussian"]
    p = torch.tensor([[30.0, -30.0, -1.0, -1.0]])
    q = torch.tensor([[25.0, -20.0, -1.0, -1.0]])
    kl = kl_divergence(head.distribution(p), head.distribution(q))
    assert torch.isfinite(kl).all()
    assert torch.allclose(kl, kl_divergence(head.gaussian(p), head.gaussian(q)))


@gaussian_heads
def test_a_zero_standard_deviation_has_a_finite_kl(kind: str) -> None:
    head = HEADS[kind]
    certain = torch.tensor([[0.1, 0.2, -float("inf"), -float("inf")]])
    assert torch.isfinite(kl_divergence(head.distribution(certain), head.distribution(rows(head, 1)))).all()


@pytest.mark.parametrize("name", SPACES)
def test_the_mode_is_that_of_stable_baselines3(name: str) -> None:
    head = head_for(SPACES[name])
    params = rows(head, 50, scale=2.0)
    theirs = make_proba_distribution(SPACES[name])
    if head.spec.is_gaussian:
        mean, log_std = params.chunk(2, dim=-1)
        expected = theirs.proba_distribution(mean, log_std).mode().numpy().clip(SPACES[name].low, SPACES[name].high)
    else:
        expected = theirs.proba_distribution(params).mode().numpy()
    np.testing.assert_array_equal(head.mode(params).numpy(), expected)


def test_a_squashed_mode_fills_the_box_in_the_units_of_the_environment() -> None:
    head = HEADS["squashed_gaussian"]
    actions = head.mode(torch.tensor([[50.0, 50, 0, 0], [-50.0, -50, 0, 0], [0.0, 0, 0, 0]])).numpy()
    np.testing.assert_allclose(actions, [[1, 3], [-1, -2], [0, 0.5]], atol=1e-6)


def test_a_discrete_space_that_does_not_start_at_zero_keeps_its_start() -> None:
    head = head_for(gym.spaces.Discrete(3, start=5))
    assert head.mode(torch.tensor([[0.0, 2.0, 1.0]])).tolist() == [6]


@every_head
def test_samples_follow_the_distribution(head: ActionHead) -> None:
    row = rows(head, 1, seed=4)
    torch.manual_seed(0)
    drawn = head.spec.sample(row.expand(20_000, -1).numpy(), np.random.default_rng(1)).reshape(20_000, -1)
    if head.kind == "squashed_gaussian":
        expected = head.distribution(row).sample((20_000,)).reshape(20_000, -1).mean(0).numpy()
    elif head.kind == "diag_gaussian":
        low, high = torch.tensor(head.spec.low), torch.tensor(head.spec.high)
        expected = head.distribution(row).sample((20_000,)).clamp(low, high).reshape(20_000, -1).mean(0).numpy()
    else:
        probabilities = head.spec.probabilities(row.numpy())
        one_hot = [probabilities] if head.kind == "bernoulli" else head.spec.split(probabilities)
        weights = [np.arange(part.shape[-1]) for part in one_hot]
        expected = (
            probabilities[0]
            if head.kind == "bernoulli"
            else np.array([(p * w).sum() for p, w in zip(one_hot, weights, strict=True)])
        )
    np.testing.assert_allclose(drawn.mean(0), expected, atol=0.05)


def test_probabilities_are_those_of_torch_even_for_huge_logits() -> None:
    head = HEADS["multi_categorical"]
    params = rows(head, 5, scale=1000.0)
    probabilities = head.spec.probabilities(params.numpy())
    expected = torch.cat([part.softmax(-1) for part in params.split([3, 4], dim=-1)], dim=-1)
    np.testing.assert_allclose(probabilities, expected.numpy(), atol=1e-6)


@gaussian_heads
def test_a_gaussian_has_no_probabilities(kind: str) -> None:
    with pytest.raises(KDError, match="density"):
        HEADS[kind].spec.probabilities(rows(HEADS[kind]).numpy())


def test_a_space_without_a_head_is_named() -> None:
    with pytest.raises(KDError, match="no action head for Text"):
        head_for(gym.spaces.Text(3))
    with pytest.raises(KDError, match="bounded Box"):
        head_for(gym.spaces.Box(-np.inf, np.inf, (2,)), squashed=True)


@every_head
def test_the_description_of_a_head_survives_json(head: ActionHead) -> None:
    assert HeadSpec.from_json(head.spec.to_json()) == head.spec


def test_the_unbounded_sides_of_a_box_survive_json() -> None:
    spec = head_for(gym.spaces.Box(-np.inf, np.inf, (2,), np.float64)).spec
    assert spec.to_json()["low"] == [None, None]
    assert HeadSpec.from_json(spec.to_json()) == spec
