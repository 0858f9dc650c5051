"""Students as modules of TorchRL: greedy by themselves, with a distribution to train where one is wanted."""

import numpy as np
import pytest
import torch
from draws import OBSERVATION, chance, row_of, sampled_graph
from sample_graphs import GRAPHS, observations_for
from samples import HEADS, make_graph

from kd_agent import KDError
from kd_agent.policies.policy import Policy

pytest.importorskip("torchrl", reason="the extra torchrl is not installed")

from tensordict import TensorDict
from torchrl.envs.utils import ExplorationType, set_exploration_type

from kd_agent.adapters.torchrl import actor, module


@pytest.mark.parametrize("kind", HEADS)
def test_a_torchrl_module_acts_as_the_student_does(kind: str) -> None:
    policy = Policy(make_graph(kind))
    student = module(policy)
    obs = observations_for(policy.graph, 60)["obs"]
    data = student(TensorDict({"observation": torch.from_numpy(obs.reshape(5, 12, 4))}, [5, 12]))
    actions = data["action"].detach().numpy()
    assert actions.shape[:2] == (5, 12)
    wanted = policy.predict(obs, deterministic=True)[0]
    np.testing.assert_allclose(actions.reshape(wanted.shape), wanted, atol=1e-5)


@pytest.mark.parametrize("kind", ["categorical", "diag_gaussian"])
def test_a_torchrl_actor_is_greedy_by_itself_and_learns(kind: str) -> None:
    policy = Policy(make_graph(kind))
    student = actor(policy)
    obs = observations_for(policy.graph, 60)["obs"]
    data = student(TensorDict({"observation": torch.from_numpy(obs)}, [60]))
    mean = policy.params(obs)[:, :2] if kind == "diag_gaussian" else policy.predict(obs, deterministic=True)[0]
    np.testing.assert_allclose(data["action"].detach().numpy(), mean, atol=1e-5)
    student.get_dist(data).log_prob(data["action"].detach()).sum().backward()
    assert any(p.grad is not None and p.grad.any() for p in student.parameters())


def test_torchrl_sees_several_keys_and_refuses_a_memory() -> None:
    graph = GRAPHS["several keys"]()
    student = module(Policy(graph))
    assert list(student.in_keys) == ["floor", "joints"]
    for adapter in (module, actor):
        with pytest.raises(KDError, match="memory"):
            adapter(Policy(GRAPHS["gru"]()))
    with pytest.raises(KDError, match="not bernoulli"):
        actor(Policy(make_graph("bernoulli")))


def test_one_observation_without_a_batch_is_answered() -> None:
    policy = Policy(make_graph("diag_gaussian"))
    obs = observations_for(policy.graph, 1)["obs"][0]
    data = module(policy)(TensorDict({"observation": torch.from_numpy(obs)}, []))
    np.testing.assert_allclose(data["action"].detach().numpy(), policy.act(obs), atol=1e-5)
    assert data["params"].shape == (4,)


def test_several_keys_of_different_shapes_keep_the_batch() -> None:
    policy = Policy(GRAPHS["several keys"]())
    observations = observations_for(policy.graph, 6)
    wanted = policy.predict(observations, deterministic=True)[0]
    deep = {key: torch.from_numpy(array.reshape(2, 3, *array.shape[1:])) for key, array in observations.items()}
    data = module(policy)(TensorDict(deep, [2, 3]))
    np.testing.assert_allclose(data["action"].detach().numpy().reshape(wanted.shape), wanted, atol=1e-5)


def test_the_keys_can_be_named() -> None:
    policy = Policy(make_graph())
    assert module(policy).in_keys == ["observation"]
    assert module(policy, ["pixels"]).in_keys == ["pixels"]
    assert actor(policy, ["pixels"]).in_keys == ["pixels"]


def test_an_actor_samples_where_it_is_told_to_explore() -> None:
    graph = make_graph("diag_gaussian")
    greedy = actor(Policy(graph))
    data = TensorDict({"observation": torch.zeros(500, 4)}, [500])
    with set_exploration_type(ExplorationType.RANDOM), torch.no_grad():
        torch.manual_seed(0)
        actions = greedy(data.clone())["action"]
    std = np.exp(graph.ops[-1].tensors["value"])
    np.testing.assert_allclose(actions.std(dim=0).numpy(), std, rtol=0.15)


@pytest.mark.parametrize("kind", HEADS)
def test_a_module_of_a_sampled_student_draws(kind: str) -> None:
    graph = sampled_graph(kind)
    data = TensorDict({"observation": torch.from_numpy(np.tile(OBSERVATION, (4_000, 1)))}, [4_000])
    torch.manual_seed(0)
    drawn = module(Policy(graph))(data)["action"].detach().numpy()
    assert chance(graph.head, row_of(graph), drawn) > 1e-3


@pytest.mark.parametrize("kind", ["categorical", "diag_gaussian"])
def test_an_actor_of_a_sampled_student_draws_unless_told_otherwise(kind: str) -> None:
    student = actor(Policy(sampled_graph(kind)))
    data = TensorDict({"observation": torch.from_numpy(np.tile(OBSERVATION, (500, 1)))}, [500])
    torch.manual_seed(0)
    assert len(torch.unique(student(data.clone())["action"], dim=0)) > 1
    with set_exploration_type(ExplorationType.DETERMINISTIC):
        assert len(torch.unique(student(data.clone())["action"], dim=0)) == 1
