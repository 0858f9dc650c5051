"""Students as modules of RLlib: what they say there is what they say here."""

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from draws import OBSERVATION, chance, row_of, sampled_graph
from sample_graphs import GRAPHS, observations_for
from samples import HEADS, SPACES, make_graph, make_student

from kd_agent import KDError
from kd_agent.networks.distributions import head_for
from kd_agent.policies import file as graph_file
from kd_agent.policies.graph import ObservationSpec, PolicyGraph
from kd_agent.policies.policy import Policy

pytest.importorskip("ray.rllib", reason="the extra rllib is not installed")

from ray.rllib.connectors.module_to_env import GetActions

from kd_agent.adapters.rllib import module_spec

SEES = gym.spaces.Box(-9, 9, (4,))


def rllib_module(graph: PolicyGraph, folder: Path, spaces: tuple[gym.Space[Any], gym.Space[Any]]) -> Any:
    path = graph_file.write(graph, folder / "s.safetensors")
    return module_spec(path, observation_space=spaces[0], action_space=spaces[1]).build()


@pytest.mark.parametrize("kind", ["categorical", "diag_gaussian"])
def test_an_rllib_module_says_what_the_student_says(kind: str, tmp_path: Path) -> None:
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


def test_rllib_refuses_what_it_cannot_say(tmp_path: Path) -> None:
    with pytest.raises(KDError, match="RLlib takes students without a memory"):
        rllib_module(make_graph("bernoulli"), tmp_path, (SEES, SPACES["MultiBinary"]))
    with pytest.raises(KDError, match="expects observation 'obs' of shape"):
        rllib_module(make_graph(), tmp_path, (gym.spaces.Box(-9, 9, (5,)), SPACES["Discrete"]))


def test_rllib_refuses_a_memory_and_actions_that_do_not_start_at_zero(tmp_path: Path) -> None:
    with pytest.raises(KDError, match="RLlib takes students without a memory"):
        rllib_module(GRAPHS["gru"](), tmp_path, (SEES, SPACES["Discrete"]))
    shifted = gym.spaces.Discrete(4, start=1)
    with pytest.raises(KDError, match="from 0 on"):
        rllib_module(make_student(head_for(shifted)).graph(), tmp_path, (SEES, shifted))


def test_rllib_takes_the_path_as_text_and_its_own_settings(tmp_path: Path) -> None:
    spec = module_spec(str(tmp_path / "s.safetensors"), inference_only=True)
    assert spec.model_config == {"student": str(tmp_path / "s.safetensors")}
    assert spec.inference_only


def test_the_critic_reads_every_key_of_a_dict(tmp_path: Path) -> None:
    specs = {"wide": ObservationSpec((3,), "float32"), "arm": ObservationSpec((2, 2), "float32")}
    graph = make_student(HEADS["categorical"], "mlp", specs).graph()
    space = gym.spaces.Dict({key: gym.spaces.Box(-9, 9, spec.shape) for key, spec in specs.items()})
    module = rllib_module(graph, tmp_path, (space, SPACES["Discrete"]))
    zeros = {key: torch.zeros((5, *spec.shape)) for key, spec in specs.items()}
    before = module.compute_values({"obs": zeros})
    assert before.shape == (5,)
    for key in specs:
        moved = {**zeros, key: zeros[key] + 1}
        assert not torch.equal(module.compute_values({"obs": moved}), before)


def test_actor_and_critic_can_both_learn(tmp_path: Path) -> None:
    module = rllib_module(make_graph(), tmp_path, (SEES, SPACES["Discrete"]))
    batch = {"obs": torch.ones(3, 4)}
    (module.forward_train(batch)["action_dist_inputs"].sum() + module.compute_values(batch).sum()).backward()
    assert all(parameter.grad is not None for parameter in module.parameters())


@pytest.mark.parametrize("kind", ["categorical", "diag_gaussian"])
def test_a_sampled_student_is_drawn_from_where_nobody_explores(kind: str, tmp_path: Path) -> None:
    spaces = (SEES, SPACES["Discrete" if kind == "categorical" else "Box"])
    sampled = rllib_module(sampled_graph(kind), tmp_path, spaces)
    batch = {"obs": torch.from_numpy(np.tile(OBSERVATION, (4_000, 1)))}
    torch.manual_seed(0)
    answers = act(sampled, batch)
    assert len(np.unique(act(rllib_module(make_graph(kind), tmp_path, spaces), batch), axis=0)) == 1
    # RLlib clips afterwards, if it is asked to.
    drawn = np.clip(answers, SPACES["Box"].low, SPACES["Box"].high) if kind == "diag_gaussian" else answers
    assert chance(HEADS[kind].spec, row_of(sampled_graph(kind)), drawn) > 1e-3


def act(module: Any, batch: dict[str, Any]) -> np.ndarray:
    """What RLlib does with a module's answer where nobody explores."""
    data = {**batch, **module.forward_inference(batch)}
    done = GetActions()(rl_module=module, batch=data, episodes=[None], explore=False)
    return np.asarray(done["actions"])
