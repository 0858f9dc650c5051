"""Evaluation: one episode a seed, the same for everybody, in the order of the seeds."""

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from draws import SAMPLED
from samples import PROBES, Agent, make_student

from kd_agent import KDError, evaluate, load_teacher
from kd_agent.environments.vector import spaces_of
from kd_agent.evaluation.verdict import evaluate_file
from kd_agent.networks.distributions import head_for
from kd_agent.policies.policy import Policy
from kd_agent.settings import EvaluateConfig

SEEDS = [5, 3, 900, 1, 42, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 2, 99, 50]
"""More seeds than parallel environments, in no order."""


def cart_pole_policy(seed: int = 0) -> Policy:
    return make_student(head_for(gym.spaces.Discrete(2)), seed=seed).policy()


class Balance:
    """Falls early on some seeds and late on others."""

    def predict(self, observation: Any, state: Any = None, episode_start: Any = None, deterministic: bool = False):
        return (np.asarray(observation)[..., 2] > 0).astype(int), state


def plain_return(policy: Any, env_id: str, seed: int) -> tuple[float, int]:
    """The return of one seed in a plain Gymnasium loop."""
    env = gym.make(env_id)
    observation, _ = env.reset(seed=seed)
    total, steps, done = 0.0, 0, False
    while not done:
        action, _ = policy.predict(observation[None], deterministic=True)
        observation, reward, terminated, truncated, _ = env.step(action[0])
        total, steps, done = total + float(reward), steps + 1, terminated or truncated
    return total, steps


def test_every_seed_has_the_return_of_a_plain_loop_in_its_place() -> None:
    policy = cart_pole_policy()
    played = evaluate(policy, "CartPole-v1", seeds=SEEDS)
    expected = [plain_return(policy, "CartPole-v1", seed) for seed in SEEDS]
    assert played.returns.tolist() == [r for r, _ in expected]
    assert played.lengths.tolist() == [n for _, n in expected]
    assert len(set(played.returns.tolist())) > 2


def test_short_episodes_are_not_over_represented() -> None:
    expected = [plain_return(Balance(), "CartPole-v1", seed)[0] for seed in range(40)]
    played = evaluate(Balance(), "CartPole-v1", seeds=range(40))
    assert played.returns.tolist() == expected
    assert max(expected) > 1.2 * min(expected)


def test_the_same_seeds_give_the_same_returns_whatever_was_played_before() -> None:
    policy = cart_pole_policy()
    first = evaluate(policy, "CartPole-v1", seeds=SEEDS)
    evaluate(policy, "CartPole-v1", seeds=range(3))
    np.testing.assert_array_equal(evaluate(policy, "CartPole-v1", seeds=SEEDS).returns, first.returns)
    backwards = evaluate(policy, "CartPole-v1", seeds=SEEDS[::-1])
    np.testing.assert_array_equal(backwards.returns[::-1], first.returns)


def test_the_random_policy_is_reproducible_and_bad() -> None:
    first, second = (evaluate(None, PROBES["Discrete"], seeds=range(20)).returns for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert 5 < first.mean() < 20


def test_sampled_actions_differ_from_greedy_ones() -> None:
    policy = cart_pole_policy()
    greedy = evaluate(policy, "CartPole-v1", seeds=range(12)).returns
    sampled = evaluate(policy, "CartPole-v1", seeds=range(12), deterministic=False).returns
    assert not np.array_equal(greedy, sampled)


@pytest.mark.parametrize("seeds", [[], [1, 2, 1]])
def test_no_seed_and_a_repeated_seed_are_refused(seeds: list[int]) -> None:
    with pytest.raises(KDError, match="each seed once"):
        evaluate(cart_pole_policy(), "CartPole-v1", seeds=seeds)


def test_an_unknown_environment_is_answered_with_the_nearest() -> None:
    with pytest.raises(KDError, match="did you mean 'CartPole-v"):
        evaluate(cart_pole_policy(), "CartPoel-v1", seeds=[1])


def test_an_id_that_is_gone_plays_on_the_newest_with_a_warning() -> None:
    with pytest.warns(UserWarning, match="playing on MountainCar-v0"):
        played = evaluate(None, "MountainCar-v7", seeds=[1])
    assert played.returns.tolist() == [-200]


def test_an_agent_of_stable_baselines3_is_a_player_too(agent: Agent) -> None:
    teacher = load_teacher(str(agent.path))
    theirs = evaluate(agent.model, agent.env_id, seeds=range(4)).returns
    ours = evaluate(teacher, agent.env_id, seeds=range(4)).returns
    np.testing.assert_allclose(ours, theirs, atol=1e-4)


def test_what_is_sampled_follows_the_seeds_of_the_episodes() -> None:
    policy = cart_pole_policy()
    teacher = load_teacher(lambda observation: np.zeros((len(observation), 2)), env=spaces_of("CartPole-v1"))
    for player in (policy, teacher):
        first, second, other = (
            evaluate(player, "CartPole-v1", seeds=seeds, deterministic=False).returns.tolist()
            for seeds in (range(6), range(6), range(1, 7))
        )
        assert first == second
        # Samples of their own, not those of the other seeds shifted by one.
        assert first[1:] != other[:-1]


def test_an_evaluation_of_a_file_samples_by_its_seed(tmp_path: Path) -> None:
    student = tmp_path / "s.safetensors"
    make_student(head_for(gym.spaces.Discrete(2))).save(student, {"env": "CartPole-v1"})
    played = []
    for seed in (3, 3, 4):
        config = EvaluateConfig(
            student=str(student), teacher=(str(student),), episodes=8, seed=seed, sampled=True, quiet=True
        )
        played.append(evaluate_file(config))
    assert played[0] == played[1]
    assert played[0]["student"] != played[2]["student"]
    # The same policy on the same seeds draws the same actions, whoever reads it.
    assert played[0]["student"] == played[0][str(student)]


def test_wrappers_of_ones_own_are_around_the_environment() -> None:
    limit = "gymnasium.wrappers:TimeLimit,max_episode_steps=3"
    assert evaluate(None, "CartPole-v1", seeds=range(3), wrapper=[limit]).lengths.tolist() == [3, 3, 3]


def test_a_policy_is_played_as_it_is_meant_to_be_unless_told_otherwise() -> None:
    student = make_student(head_for(gym.spaces.Discrete(2)))
    sampled, greedy = Policy(student.graph(SAMPLED)), student.policy()

    def returns(policy: Policy, deterministic: bool | None = None) -> list[float]:
        return evaluate(policy, "CartPole-v1", seeds=range(8), deterministic=deterministic).returns.tolist()

    assert returns(sampled) == returns(sampled, False) == returns(greedy, False)
    assert returns(greedy) == returns(greedy, True) == returns(sampled, True)
    assert returns(greedy) != returns(sampled)


def test_a_file_is_evaluated_as_it_is_meant_to_be_played_unless_told_otherwise(tmp_path: Path) -> None:
    found = {}
    for name, provenance in (("sampled", SAMPLED), ("greedy", {"env": "CartPole-v1"})):
        path = make_student(head_for(gym.spaces.Discrete(2))).save(tmp_path / f"{name}.safetensors", provenance)
        for asked in (None, True, False):
            config = EvaluateConfig(student=str(path), episodes=6, sampled=asked, quiet=True, teacher=(str(path),))
            found[name, asked] = evaluate_file(config)
            # Who stands beside it is played in the same way.
            assert found[name, asked]["student"] == found[name, asked][str(path)]
    assert [result["deterministic"] for result in found.values()] == [False, False, True, True, False, True]
    assert found["sampled", None]["student"] == found["greedy", True]["student"]
    assert found["greedy", None]["student"] == found["sampled", False]["student"]
    assert found["greedy", None]["student"] != found["sampled", None]["student"]
