"""Students inside other agents: what they say there is what they say here."""

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from exported import GRAPHS, observations_for
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
        given = flat[:, 0] if kind == "categorical" else flat.to(torch.float32)
        wanted = float(distribution.log_prob(given).sum())
        assert log_prob(policy, observation, action) == pytest.approx(wanted, abs=1e-4)


def rllib_module(graph: PolicyGraph, tmp_path: Any, spaces: tuple[gym.Space, gym.Space]) -> Any:
    pytest.importorskip("ray.rllib", reason="the extra rllib is not installed")
    from kd_agent.adapters.rllib import module_spec
    from kd_agent.policies import file as graph_file

    path = graph_file.write(graph, tmp_path / "s.safetensors")
    return module_spec(path, observation_space=spaces[0], action_space=spaces[1]).build()


SEES = gym.spaces.Box(-9, 9, (4,))


@pytest.mark.parametrize("kind", ["categorical", "diag_gaussian"])
def test_an_rllib_module_says_what_the_student_says(kind: str, tmp_path: Any) -> None:
    graph = make_graph(kind)
    space = SPACES["Discrete" if kind == "categorical" else "Box"]
    module = rllib_module(graph, tmp_path, (SEES, space))
    batch = {"obs": torch.from_numpy(observations_for(graph, 50)["obs"])}
    rows = module.forward_inference(batch)["action_dist_inputs"]
    np.testing.assert_allclose(rows.numpy(), Policy(graph).params(batch["obs"].numpy()), atol=1e-5)
    greedy = module.get_inference_action_dist_cls().from_logits(rows).to_deterministic().sample()
    if kind == "categorical":
        np.testing.assert_array_equal(
            greedy.numpy(), Policy(graph).predict(batch["obs"].numpy(), deterministic=True)[0]
        )
    assert module.compute_values(batch).shape == (50,)


def test_rllib_refuses_what_it_cannot_say(tmp_path: Any) -> None:
    with pytest.raises(KDError, match="RLlib takes students without a memory"):
        rllib_module(make_graph("bernoulli"), tmp_path, (SEES, SPACES["MultiBinary"]))
    with pytest.raises(KDError, match="expects observation 'obs' of shape"):
        rllib_module(make_graph(), tmp_path, (gym.spaces.Box(-9, 9, (5,)), SPACES["Discrete"]))


def torchrl_adapter(name: str) -> Callable[..., Any]:
    pytest.importorskip("torchrl", reason="the extra torchrl is not installed")
    from kd_agent.adapters import torchrl

    found: Callable[..., Any] = getattr(torchrl, name)
    return found


@pytest.mark.parametrize("kind", HEADS)
def test_a_torchrl_module_acts_as_the_student_does(kind: str) -> None:
    policy = Policy(make_graph(kind))
    module = torchrl_adapter("module")(policy)
    from tensordict import TensorDict

    obs = observations_for(policy.graph, 60)["obs"]
    data = module(TensorDict({"observation": torch.from_numpy(obs.reshape(5, 12, 4))}, [5, 12]))
    actions = data["action"].detach().numpy()
    assert actions.shape[:2] == (5, 12)
    wanted = policy.predict(obs, deterministic=True)[0]
    np.testing.assert_allclose(actions.reshape(wanted.shape), wanted, atol=1e-5)


@pytest.mark.parametrize("kind", ["categorical", "diag_gaussian"])
def test_a_torchrl_actor_is_greedy_by_itself_and_learns(kind: str) -> None:
    policy = Policy(make_graph(kind))
    actor = torchrl_adapter("actor")(policy)
    from tensordict import TensorDict

    obs = observations_for(policy.graph, 60)["obs"]
    data = actor(TensorDict({"observation": torch.from_numpy(obs)}, [60]))
    mean = policy.params(obs)[:, :2] if kind == "diag_gaussian" else policy.predict(obs, deterministic=True)[0]
    np.testing.assert_allclose(data["action"].detach().numpy(), mean, atol=1e-5)
    actor.get_dist(data).log_prob(data["action"].detach()).sum().backward()
    assert any(p.grad is not None and p.grad.any() for p in actor.parameters())


def test_torchrl_sees_several_keys_and_refuses_a_memory() -> None:
    graph = GRAPHS["several keys"]()
    module = torchrl_adapter("module")(Policy(graph))
    assert list(module.in_keys) == ["floor", "joints"]
    for name in ("module", "actor"):
        with pytest.raises(KDError, match="memory"):
            torchrl_adapter(name)(Policy(GRAPHS["gru"]()))
    with pytest.raises(KDError, match="not bernoulli"):
        torchrl_adapter("actor")(Policy(make_graph("bernoulli")))
