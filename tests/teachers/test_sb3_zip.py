"""Reading an agent of Stable-Baselines3: the same answers as its own library gives."""

import json
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from samples import PROBES, SPACES, Agent, members, pack, refused, train_agent
from stable_baselines3 import A2C

from kd_agent import evaluate, load_teacher
from kd_agent.environments.vector import spaces_of

pytestmark = pytest.mark.filterwarnings("ignore")

VARIANTS: dict[str, dict[str, Any]] = {
    "a2c relu": {
        "env_id": PROBES["Discrete"],
        "algo": A2C,
        "policy_kwargs": {"activation_fn": torch.nn.ReLU, "net_arch": {"pi": [7], "vf": [5, 6]}},
    },
    "ppo elu": {
        "env_id": PROBES["MultiDiscrete"],
        "policy_kwargs": {"activation_fn": torch.nn.ELU, "net_arch": [9, 3]},
    },
    "ppo linear": {"env_id": PROBES["Box"], "policy_kwargs": {"net_arch": []}},
    "ppo gsde": {"env_id": PROBES["Box"], "use_sde": True, "policy_kwargs": {"net_arch": [8]}},
    "a2c gsde": {"env_id": PROBES["Box"], "algo": A2C, "use_sde": True, "policy_kwargs": {"full_std": False}},
}


@pytest.fixture(scope="session")
def variants(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Agent]:
    folder = tmp_path_factory.mktemp("variants")
    return {name: train_agent(folder / f"{name}.zip", **settings) for name, settings in VARIANTS.items()}


def assert_same_answers(agent: Agent) -> None:
    teacher, batch = load_teacher(str(agent.path), env=agent.spaces), agent.observations()
    expected, _ = agent.model.predict(batch, deterministic=True)
    output = teacher({"obs": batch})
    np.testing.assert_allclose(teacher.head.mode(output.params).numpy(), expected, atol=1e-5)
    with torch.no_grad():
        theirs = agent.model.policy.get_distribution(torch.from_numpy(batch))
        value = agent.model.policy.predict_values(torch.from_numpy(batch))[:, 0]
    np.testing.assert_allclose(output.value.numpy(), value.numpy(), atol=1e-5)
    ours = teacher.head.distribution(output.params)
    actions = theirs.sample().detach()
    np.testing.assert_allclose(ours.log_prob(actions), theirs.log_prob(actions).detach(), atol=1e-4, rtol=1e-4)


def test_a_teacher_answers_as_its_own_library_does(agent: Agent) -> None:
    assert_same_answers(agent)
    assert np.ptp(agent.model.predict(agent.observations(), deterministic=True)[0]) > 0


@pytest.mark.parametrize("name", VARIANTS)
def test_layers_activations_and_state_dependent_noise_are_understood(name: str, variants: dict[str, Agent]) -> None:
    assert_same_answers(variants[name])


def test_parameters_count_what_acts_without_the_critic(variants: dict[str, Agent]) -> None:
    origin = load_teacher(str(variants["a2c relu"].path)).origin
    assert (origin.algo, origin.num_parameters) == ("A2C", 4 * 7 + 7 + 7 * 4 + 4)
    assert load_teacher(str(variants["ppo gsde"].path)).origin.algo == "PPO"


def test_queries_change_neither_the_teacher_nor_its_answers(agent: Agent) -> None:
    teacher, batch = load_teacher(str(agent.path)), {"obs": agent.observations()}
    first = teacher(batch).params.clone()
    weights = [t.tobytes() for op in teacher.graph.ops for t in op.tensors.values()]
    for _ in range(5):
        teacher({"obs": agent.observations(7)})
        teacher.predict(agent.observations(3))
    assert torch.equal(teacher(batch).params, first)
    assert [t.tobytes() for op in teacher.graph.ops for t in op.tensors.values()] == weights
    assert not first.requires_grad


@pytest.mark.parametrize("name", [n for n in SPACES if n != "Discrete"])
def test_a_teacher_of_another_action_space_is_refused(name: str, small: Path) -> None:
    box = gym.spaces.Box(-1, 1, (4,), np.float32)
    assert "actions" in refused(small, env=(box, SPACES[name]))


def test_spaces_of_another_size_are_refused(small: Path, variants: dict[str, Agent]) -> None:
    box = gym.spaces.Box(-1, 1, (4,), np.float32)
    assert "observations" in refused(small, env=(gym.spaces.Box(-1, 1, (5,), np.float32), SPACES["Discrete"]))
    assert "actions" in refused(small, env=(box, gym.spaces.Discrete(5)))
    other = gym.spaces.Box(np.float32([-1, -2]), np.float32([1, 4]))
    assert "actions" in refused(variants["ppo linear"].path, env=(box, other))


def test_other_bounds_of_an_observation_are_a_warning_only(small: Path) -> None:
    with pytest.warns(UserWarning, match="other bounds"):
        load_teacher(str(small), env=(gym.spaces.Box(-9, 9, (4,), np.float32), SPACES["Discrete"]))


def test_a_teacher_that_was_normalised_is_refused_without_its_statistics(small: Path, tmp_path: Path) -> None:
    content = members(small)
    data = {**json.loads(content["data"]), "_last_original_obs": {":type:": "<class 'numpy.ndarray'>"}}
    path = pack(tmp_path / "t.zip", {**content, "data": json.dumps(data).encode()})
    assert "--allow-missing-statistics" in refused(path)
    assert load_teacher(str(path), allow_missing_statistics=True).origin.algo == "A2C"
    np.savez(tmp_path / "s.npz", mean=np.ones(4), var=np.ones(4), clip=10.0, epsilon=0.0)
    teacher, plain = load_teacher(str(path), statistics=str(tmp_path / "s.npz")), load_teacher(str(small))
    batch = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    assert torch.allclose(teacher({"obs": batch}).params, plain({"obs": batch - 1}).params, atol=1e-5)
    np.savez(tmp_path / "s.npz", mean=np.ones(3), var=np.ones(3), clip=10.0, epsilon=0.0)
    refused(path, statistics=str(tmp_path / "s.npz"))


def test_a_public_agent_of_the_old_gym_plays_well(public_teachers: Path) -> None:
    source = str(public_teachers / "ppo-LunarLander-v2" / "LunarLander-v2.zip")
    teacher = load_teacher(source, env=spaces_of("LunarLander-v3", {}))
    assert (teacher.origin.algo, teacher.origin.num_parameters) == ("PPO", 4996)
    assert np.median(evaluate(teacher, "LunarLander-v3", seeds=range(20_000, 20_006)).returns) > 150
