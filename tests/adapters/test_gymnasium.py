"""Students as parts of an environment: skills to choose from, and a reference to stay near."""

from dataclasses import replace
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from draws import SAMPLED
from gymnasium.utils.env_checker import check_env
from samples import HEADS, SPACES, make_graph, make_student

from kd_agent import KDError
from kd_agent.adapters.gymnasium import NearReference, Skills, log_prob
from kd_agent.networks.distributions import head_for
from kd_agent.policies.graph import PolicyGraph
from kd_agent.policies.policy import Policy


def always(action: int) -> Policy:
    """A CartPole policy that always pushes one way."""
    graph = make_student(head_for(gym.spaces.Discrete(2))).graph({"env": "CartPole-v1"})
    last = graph.ops[-1]
    last.tensors["weight"][:] = 0
    last.tensors["bias"][:] = np.eye(2)[action]
    return Policy(PolicyGraph(graph.observations, graph.ops, graph.head, graph.provenance))


class Recorder(gym.Wrapper):
    """Remembers the actions."""

    def __init__(self) -> None:
        super().__init__(gym.make("CartPole-v1"))
        self.actions: list[int] = []

    def step(self, action: Any) -> Any:
        self.actions.append(int(action))
        return self.env.step(action)


def test_a_skill_plays_for_its_steps_and_its_rewards_are_summed() -> None:
    recorder = Recorder()
    env = Skills(recorder, [always(0), always(1)], steps=3)
    env.reset(seed=0)
    assert env.action_space == gym.spaces.Discrete(2)
    _, first, *_ = env.step(0)
    _, second, *_ = env.step(1)
    assert (first, second) == (3.0, 3.0)
    assert recorder.actions == [0, 0, 0, 1, 1, 1]


def test_a_skill_stops_where_the_episode_ends() -> None:
    env = Skills(gym.make("CartPole-v1"), [always(1)], steps=1000)
    env.reset(seed=0)
    _, total, terminated, truncated, _ = env.step(0)
    assert terminated
    assert not truncated
    assert 5 < total < 20


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_the_wrappers_are_proper_environments() -> None:
    check_env(Skills(gym.make("CartPole-v1"), [always(0), always(1)]), skip_render_check=True)
    check_env(NearReference(gym.make("CartPole-v1"), always(0), coefficient=0.1), skip_render_check=True)


def test_a_skill_with_a_memory_begins_with_an_empty_one() -> None:
    skill = Policy(make_student(head_for(gym.spaces.Discrete(2)), "gru").graph({"env": "CartPole-v1"}))
    recorder = Recorder()
    env = Skills(recorder, [skill], steps=4)
    observation, _ = env.reset(seed=0)
    env.step(0)
    fresh, memory, actions = gym.make("CartPole-v1"), None, []
    fresh.reset(seed=0)
    for _ in range(4):
        action, memory = skill.predict(observation, memory, deterministic=True)
        actions.append(int(action))
        observation, *_ = fresh.step(action)
    assert recorder.actions == actions


def test_a_library_of_nothing_is_refused() -> None:
    with pytest.raises(KDError, match="at least one skill"):
        Skills(gym.make("CartPole-v1"), [])
    with pytest.raises(KDError, match="at least one step"):
        Skills(gym.make("CartPole-v1"), [always(0)], steps=0)


def test_the_reference_pays_for_what_it_finds_likely() -> None:
    env = NearReference(gym.make("CartPole-v1"), always(1), coefficient=0.5)
    env.reset(seed=0)
    _, reward, _, _, info = env.step(1)
    assert info["reference_log_prob"] == pytest.approx(-np.log1p(np.exp(-1)))
    assert reward == pytest.approx(1 + 0.5 * info["reference_log_prob"])
    with pytest.raises(KDError, match="density"):
        NearReference(gym.make("CartPole-v1"), Policy(make_graph("squashed_gaussian")), coefficient=1)


@pytest.mark.parametrize("kind", [kind for kind in HEADS if kind != "squashed_gaussian"])
def test_log_probabilities_are_those_of_torch(kind: str) -> None:
    policy, head = Policy(make_graph(kind)), HEADS[kind]
    space = next(space for name, space in SPACES.items() if head_for(space).spec == head.spec)
    observation = np.float32([0.1, -0.4, 0.3, 0.9])
    distribution = head.distribution(torch.from_numpy(policy.params(observation)))
    for seed in range(5):
        space.seed(seed)
        action = space.sample()
        flat = torch.as_tensor(np.asarray(action).reshape(1, -1) - (np.asarray(head.spec.start or 0)))
        actions = flat[:, 0] if kind == "categorical" else flat.to(torch.float32)
        wanted = float(distribution.log_prob(actions).sum())
        assert log_prob(policy, observation, action) == pytest.approx(wanted, abs=1e-4)


def test_a_seed_reaches_the_environment() -> None:
    plain, _ = gym.make("CartPole-v1").reset(seed=7)
    for env in (
        Skills(gym.make("CartPole-v1"), [always(0)]),
        NearReference(gym.make("CartPole-v1"), always(0), coefficient=1.0),
    ):
        np.testing.assert_array_equal(env.reset(seed=7)[0], plain)


def test_the_reference_is_asked_about_what_the_learner_saw() -> None:
    """The observation before the step, not the one after it."""
    reference = Policy(make_student(head_for(gym.spaces.Discrete(2))).graph({"env": "CartPole-v1"}))
    env = NearReference(gym.make("CartPole-v1"), reference, coefficient=1.0)
    observation, _ = env.reset(seed=3)
    for action in (1, 0, 1):
        expected = log_prob(reference, observation, action)
        observation, _, _, _, info = env.step(action)
        assert info["reference_log_prob"] == expected
        assert log_prob(reference, observation, action) != expected


def test_a_reference_with_a_memory_is_refused() -> None:
    reference = Policy(make_student(head_for(gym.spaces.Discrete(2)), "gru").graph())
    with pytest.raises(KDError, match="no memory"):
        NearReference(gym.make("CartPole-v1"), reference, coefficient=1.0)


def test_the_probabilities_of_all_actions_add_up_to_one() -> None:
    observation = np.float32([0.1, -0.4, 0.3, 0.9])
    one = Policy(make_graph("categorical"))
    assert sum(np.exp(log_prob(one, observation, a)) for a in range(4)) == pytest.approx(1)
    two = Policy(make_graph("multi_categorical"))
    pairs = [(a, b) for a in range(3) for b in range(4)]
    assert sum(np.exp(log_prob(two, observation, pair)) for pair in pairs) == pytest.approx(1)
    three = Policy(make_graph("bernoulli"))
    assert sum(np.exp(log_prob(three, observation, bits)) for bits in np.ndindex(2, 2, 2)) == pytest.approx(1)


def test_a_skill_plays_as_its_file_says() -> None:
    graph = always(1).graph
    for provenance, moves in (({}, {1}), (SAMPLED, {0, 1})):
        recorder = Recorder()
        env = Skills(recorder, [Policy(replace(graph, provenance=provenance), seed=0)], steps=8)
        for seed in range(5):
            env.reset(seed=seed)
            env.step(0)
        assert set(recorder.actions) == moves
