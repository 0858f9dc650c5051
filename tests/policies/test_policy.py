"""A saved student in use: right answers, or one line that says what is wrong with the observation."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from masked_agents import masked_graph, random_masks
from samples import HEADS, SPACES, make_graph, make_student
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy

from kd_agent import KDError, Policy
from kd_agent.networks.distributions import head_for
from kd_agent.policies.graph import ObservationSpec

ONE = [0.1, -0.2, 0.3, 0.4]
DICT = {"image": ObservationSpec((2, 3), "uint8"), "joints": ObservationSpec((3,), "float32")}


def policy_of(kind: str = "categorical") -> Policy:
    return Policy(make_graph(kind), seed=0)


def dict_policy() -> Policy:
    return make_student(HEADS["categorical"], observations=DICT).policy()


@pytest.mark.parametrize(
    ("kind", "shape"),
    [
        ("categorical", ()),
        ("multi_categorical", (2,)),
        ("bernoulli", (3,)),
        ("diag_gaussian", (2,)),
        ("squashed_gaussian", (2,)),
    ],
)
def test_one_observation_gives_one_action_and_a_batch_gives_a_batch(kind: str, shape: tuple[int, ...]) -> None:
    policy = policy_of(kind)
    single, state = policy.predict(ONE, deterministic=True)
    batch, _ = policy.predict([ONE, ONE[::-1]], deterministic=True)
    assert (single.shape, batch.shape, state) == (shape, (2, *shape), None)
    np.testing.assert_array_equal(single, batch[0])
    np.testing.assert_array_equal(policy.act(ONE), single)
    assert policy.params(ONE).shape == (1, HEADS[kind].num_params)
    np.testing.assert_allclose(policy.params([ONE, ONE[::-1]])[:1], policy.params(ONE), atol=1e-6)


def test_act_is_an_int_for_discrete_and_an_array_of_the_space_elsewhere() -> None:
    assert type(policy_of().act(ONE)) is int
    assert SPACES["MultiBinary"].contains(policy_of("bernoulli").act(ONE))
    assert SPACES["MultiDiscrete"].contains(policy_of("multi_categorical").act(ONE))
    assert SPACES["Box"].contains(policy_of("diag_gaussian").act(ONE))


def test_probabilities_sum_to_one_in_each_part_and_are_refused_for_a_density() -> None:
    assert policy_of().probabilities([ONE] * 3).sum(-1) == pytest.approx(np.ones(3))
    assert policy_of("multi_categorical").probabilities(ONE)[0, 3:].sum() == pytest.approx(1)
    assert ((policy_of("bernoulli").probabilities(ONE) > 0) & (policy_of("bernoulli").probabilities(ONE) < 1)).all()
    with pytest.raises(KDError, match="density"):
        policy_of("diag_gaussian").probabilities(ONE)


def test_samples_follow_the_seed_and_the_probabilities() -> None:
    many = np.tile(np.float32(ONE), (5000, 1))
    first, second = (policy_of().predict(many)[0] for _ in range(2))
    np.testing.assert_array_equal(first, second)
    shares = np.bincount(first, minlength=4) / 5000
    np.testing.assert_allclose(shares, policy_of().probabilities(ONE)[0], atol=0.03)


WRONG: dict[str, Any] = {
    "too short": [0.0] * 3,
    "too long": [0.0] * 5,
    "a scalar": 0.5,
    "one number that would broadcast": [0.5],
    "transposed": np.zeros((4, 3)),
    "a batch of batches": np.zeros((1, 2, 4)),
    "a batch of one number that would broadcast": np.zeros((5, 1)),
    "a row too many dimensions": np.zeros((4, 1)),
    "ragged": [[1.0, 2.0], [3.0]],
    "text": "observation",
    "texts": ["a", "b", "c", "d"],
    "None": None,
    "objects": [None, 1, 2, 3],
    "complex numbers": np.zeros(4, complex),
    "a mapping with another key": {"joints": ONE},
    "a mapping with a wrong shape": {"obs": [0.0]},
    "NaN": [0.0, np.nan, 0.0, 0.0],
    "infinite": [0.0, np.inf, 0.0, 0.0],
    "NaN in a batch": [ONE, [np.nan] * 4],
    "both infinities": [np.inf, -np.inf, 0.0, 0.0],
    "beyond float32": [1e300, 0.0, 0.0, 0.0],
}


@pytest.mark.filterwarnings("ignore:overflow")
@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_observation_is_refused_in_one_line(case: str) -> None:
    policy = policy_of()
    for call in (policy.predict, policy.act, policy.params, policy.probabilities):
        with pytest.raises(KDError) as caught:
            call(WRONG[case])
        assert "observation" in str(caught.value)
        assert "\n" not in str(caught.value)


RIGHT: dict[str, Any] = {
    "a list": ONE,
    "a tuple": tuple(ONE),
    "float64": np.array(ONE),
    "float16": np.array(ONE, np.float16),
    "not contiguous": np.array([ONE, ONE]).T.copy().T[0],
    "reversed twice": np.array(ONE[::-1])[::-1],
    "read-only": np.broadcast_to(np.float32(ONE), (4,)),
    "a mapping with its key": {"obs": ONE},
}


@pytest.mark.parametrize("case", RIGHT)
def test_every_usual_form_of_an_observation_gives_the_same_answer(case: str) -> None:
    np.testing.assert_allclose(policy_of().params(RIGHT[case]), policy_of().params(np.float32(ONE)), atol=2e-3)


@pytest.mark.filterwarnings("ignore:overflow")
def test_whole_numbers_and_huge_finite_numbers_are_answered() -> None:
    np.testing.assert_array_equal(policy_of().params([1, 0, 1, 0]), policy_of().params([1.0, 0.0, 1.0, 0.0]))
    assert np.isfinite(policy_of().params([3e38, -3e38, 0, 0])).all()


def test_an_observation_is_not_changed() -> None:
    observation = np.float32(ONE)
    policy_of().predict(observation)
    np.testing.assert_array_equal(observation, np.float32(ONE))


def test_act_refuses_a_batch() -> None:
    with pytest.raises(KDError, match="one observation"):
        policy_of().act([ONE, ONE])


def test_a_dict_observation_needs_its_keys_and_equal_batches() -> None:
    policy = dict_policy()
    image, joints = np.zeros((2, 3), np.uint8), np.zeros(3, np.float32)
    assert type(policy.act({"image": image, "joints": joints, "ignored": 3})) is int
    assert policy.predict({"image": image[None], "joints": joints[None]})[0].shape == (1,)
    with pytest.raises(KDError, match="lacks the key 'joints'"):
        policy.predict({"image": image})
    with pytest.raises(KDError, match="batch sizes"):
        policy.predict({"image": np.stack([image] * 2), "joints": np.stack([joints] * 3)})
    with pytest.raises(KDError, match="batch sizes"):
        policy.predict({"image": image, "joints": joints[None]})
    with pytest.raises(KDError, match="batch sizes"):
        policy.predict({"image": image, "joints": np.stack([joints] * 2)})
    with pytest.raises(KDError, match="mapping"):
        policy.predict(joints)


def test_a_discrete_observation_is_a_scalar_or_a_batch_of_them() -> None:
    policy = make_student(HEADS["categorical"], observations={"obs": ObservationSpec((), "int64")}).policy()
    assert type(policy.act(3)) is int
    assert policy.predict([1, 2, 3])[0].shape == (3,)
    with pytest.raises(KDError, match="shape"):
        policy.predict([[1, 2]])


def test_stable_baselines3_evaluates_the_policy() -> None:
    env = make_vec_env("CartPole-v1", 2, seed=0)
    policy = make_student(head_for(env.action_space)).policy()
    returns, lengths = evaluate_policy(policy, env, n_eval_episodes=4, return_episode_rewards=True, warn=False)
    assert len(returns) == 4
    assert returns == lengths
    assert min(lengths) >= 8


def test_the_policy_plays_a_plain_gymnasium_loop() -> None:
    env = gym.make("CartPole-v1")
    policy = make_student(head_for(env.action_space)).policy()
    observation, _ = env.reset(seed=0)
    steps, done = 0, False
    while not done:
        observation, _, terminated, truncated, _ = env.step(policy.act(observation))
        steps, done = steps + 1, terminated or truncated
    assert steps >= 8


@pytest.mark.parametrize("kind", ["categorical", "multi_categorical", "bernoulli"])
def test_a_mask_reaches_every_way_of_asking(kind: str) -> None:
    policy = Policy(masked_graph(kind))
    spec = policy.graph.head
    assert policy.expects_masks
    rng = np.random.default_rng(0)
    observations = rng.normal(size=(60, 4)).astype(np.float32)
    masks = random_masks({"categorical": [4], "multi_categorical": [3, 4], "bernoulli": [2, 2, 2]}[kind], 60, rng)
    expected = spec.masked(policy.params(observations), masks)
    np.testing.assert_array_equal(policy.params(observations, masks), expected)
    np.testing.assert_array_equal(policy.probabilities(observations, masks), spec.probabilities(expected))
    actions, _ = policy.predict(observations, deterministic=True, action_masks=masks)
    np.testing.assert_array_equal(actions, spec.greedy(expected))
    assert (actions != policy.predict(observations, deterministic=True)[0]).any()
    for observation, mask, action in zip(observations, masks, actions, strict=True):
        np.testing.assert_array_equal(policy.act(observation, mask), action)
        np.testing.assert_array_equal(policy.predict(observation, None, None, True, mask)[0], action)
    with pytest.raises(KDError, match="action_masks has shape"):
        policy.act(observations[0], masks[:2])
