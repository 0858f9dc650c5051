"""Agents of Stable-Baselines3 that are alive in this process."""

import copy
from typing import Any

import numpy as np
import pytest
import torch
from samples import SPACES
from small_agents import BOX, CASES, REPLAY, STEPS, VECTOR, VECTORS, Fake, trained
from stable_baselines3 import PPO, SAC
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from kd_agent import load_teacher
from kd_agent.errors import KDError
from kd_agent.teachers import GraphTeacher

SEVERAL = [
    "ppo box, silu, unequal nets",
    "ppo gsde, expln",
    "ppo dict",
    "sac gsde",
    "qr-dqn",
    "crossq",
    "recurrent ppo",
]


@pytest.mark.parametrize("case", SEVERAL)
def test_a_live_agent_is_the_teacher_that_its_zip_is(case: str) -> None:
    model, env, path = trained(case)
    assert case in CASES
    spaces = env.observation_space, env.action_space
    saved = load_teacher(str(path), env=spaces)
    batch = {key: np.stack([_observation(env, key, i) for i in range(5)]) for key in saved.observations}
    wanted = saved(batch).params
    for source in (model, model.policy, model.predict, model.policy.predict):
        teacher = load_teacher(source, env=spaces)
        assert isinstance(teacher, GraphTeacher)
        torch.testing.assert_close(teacher(batch).params, wanted, rtol=0, atol=0)
    assert load_teacher(model).origin.algo == type(model).__name__
    assert load_teacher(model).origin.num_parameters == saved.origin.num_parameters


def _observation(env: Any, key: str, seed: int) -> Any:
    env.observation_space.seed(seed)
    observation = env.observation_space.sample()
    return observation[key] if isinstance(observation, dict) else observation


def ppo(**settings: Any) -> PPO:
    return PPO("MlpPolicy", Fake(VECTOR, SPACES["Discrete"]), seed=0, device="cpu", **{**STEPS, **settings})


def test_its_weights_are_copied_and_it_is_never_changed() -> None:
    model = ppo()
    model.policy.train()
    before = copy.deepcopy(model.policy.state_dict())
    teacher = load_teacher(model)
    first = teacher(VECTORS).params.clone()
    sha256 = teacher.origin.sha256
    assert model.policy.training
    assert all(torch.equal(before[name], tensor) for name, tensor in model.policy.state_dict().items())
    assert load_teacher(model).origin == teacher.origin
    with torch.no_grad():
        model.policy.action_net.weight.zero_()
    assert torch.equal(teacher(VECTORS).params, first)
    assert load_teacher(model).origin.sha256 != sha256


class Own(ActorCriticPolicy):
    """A policy of one's own, whose code nobody knows."""

    def _predict(self, observation: Any, deterministic: bool = False) -> Any:
        return 3 - super()._predict(observation, deterministic)


class Sine(torch.nn.Module):
    """An activation of one's own."""

    def forward(self, x: Any) -> Any:
        return torch.sin(x)


def test_what_is_not_understood_is_asked_itself_in_a_copy() -> None:
    model = ppo(policy_kwargs={"activation_fn": Sine})
    teacher = load_teacher(model)
    assert not isinstance(teacher, GraphTeacher)
    assert teacher.origin.num_parameters is None
    wanted = model.predict(VECTORS["obs"], deterministic=True)[0]
    with torch.no_grad():
        model.policy.action_net.weight.zero_()
    np.testing.assert_array_equal(teacher.predict(VECTORS["obs"], deterministic=True)[0], wanted)


def test_a_vec_normalize_around_its_environment_counts() -> None:
    env = VecNormalize(DummyVecEnv([lambda: Fake(VECTOR, BOX)]))
    model = SAC("MlpPolicy", env, seed=0, device="cpu", policy_kwargs={"net_arch": [8]}, **REPLAY)
    model.learn(20)
    wanted = model.predict(env.normalize_obs(VECTORS["obs"]), deterministic=True)[0]
    found = load_teacher(model).predict(VECTORS["obs"], deterministic=True)[0]
    np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_an_agent_that_lost_its_statistics_or_has_others_is_refused(tmp_path: Any) -> None:
    env = VecNormalize(DummyVecEnv([lambda: Fake(VECTOR, SPACES["Discrete"])]))
    model = PPO("MlpPolicy", env, seed=0, device="cpu", **STEPS)
    model.learn(16)
    model.save(tmp_path / "a.zip")
    lost = PPO.load(tmp_path / "a.zip", device="cpu")
    with pytest.raises(KDError, match="the PPO in this process: trained under VecNormalize, but"):
        load_teacher(lost)
    assert load_teacher(lost, allow_missing_statistics=True).origin.algo == "PPO"
    env.save(str(tmp_path / "v.pkl"))
    wanted = model.predict(env.normalize_obs(VECTORS["obs"]), deterministic=True)[0]
    found = load_teacher(lost, statistics=str(tmp_path / "v.pkl")).predict(VECTORS["obs"], deterministic=True)[0]
    np.testing.assert_array_equal(found, wanted)
    np.savez(tmp_path / "s.npz", mean=np.ones(3), var=np.ones(3), clip=10.0, epsilon=0.0)
    with pytest.raises(KDError, match=r"statistics of shape \(3,\)"):
        load_teacher(lost, statistics=str(tmp_path / "s.npz"))


def test_a_folder_in_which_it_runs_changes_nothing(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    np.savez(tmp_path / "vecnormalize.npz", mean=np.ones(4), var=np.ones(4), clip=10.0, epsilon=0.0)
    (tmp_path / "config.yml").write_text("normalize: true\n")
    model = ppo()
    wanted = load_teacher(model)(VECTORS).params
    monkeypatch.chdir(tmp_path)
    assert torch.equal(load_teacher(model)(VECTORS).params, wanted)


def test_spaces_that_it_does_not_fit_are_refused() -> None:
    with pytest.raises(KDError, match="the PPO in this process: the teacher's actions"):
        load_teacher(ppo(), env=(VECTOR, SPACES["Box"]))
