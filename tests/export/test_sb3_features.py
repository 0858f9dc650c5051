"""Stable-Baselines3 zips of students that see images, categories or several things: exact, trained on, read back."""

import warnings
import zipfile
from dataclasses import replace
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch
from samples import HEADS, make_student
from sb3_contrib import MaskablePPO
from sb3_worlds import IDS, IMAGES, SPACES, World, seen, student_of, zip_of
from stable_baselines3 import PPO
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from kd_agent import KDError, export, load_teacher
from kd_agent.deployment.agents import Reading, read_agent
from kd_agent.deployment.parity import compare
from kd_agent.deployment.walk import walk
from kd_agent.environments import observation_specs
from kd_agent.networks.distributions import ActionHead
from kd_agent.networks.sb3_features import ProgramFeatures
from kd_agent.policies.policy import Policy

every_space = pytest.mark.parametrize("name", SPACES)


@pytest.mark.parametrize("kind", ["categorical", "multi_categorical", "bernoulli", "diag_gaussian"])
@every_space
def test_a_zip_acts_as_the_student_does(name: str, kind: str, tmp_path: Path) -> None:
    graph = student_of(name, HEADS[kind], env="nowhere-v0")
    model = PPO.load(zip_of(graph, tmp_path), device="cpu")
    observations = seen(name)
    expected = Policy(graph).predict(observations, deterministic=True)[0]
    np.testing.assert_allclose(model.predict(observations, deterministic=True)[0], expected, atol=1e-5)
    assert np.ptp(Policy(graph).params(observations), axis=0).max() > 0.1
    assert isinstance(model.policy.features_extractor, ProgramFeatures) == (name in IMAGES)


@every_space
def test_it_acts_so_where_it_has_been_and_plays_alike(name: str, tmp_path: Path) -> None:
    graph = student_of(name)
    path = zip_of(graph, tmp_path)
    agent = read_agent(graph, Reading())
    found = compare(agent, path, "sb3", walk(agent, 100))
    assert found.holds, str(found)
    assert "visited observations (read back" in str(found)
    venv = DummyVecEnv([lambda: World(name)])
    returns = []
    for player in (PPO.load(path, env=venv, device="cpu"), Policy(graph)):
        venv.seed(0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            returns.append(evaluate_policy(player, venv, 4, return_episode_rewards=True)[0])
    assert returns[0] == returns[1]


@every_space
def test_it_goes_on_learning_and_is_read_back(name: str, tmp_path: Path) -> None:
    graph = student_of(name)
    venv = DummyVecEnv([lambda: World(name)])
    model = PPO.load(zip_of(graph, tmp_path), env=venv, device="cpu", n_steps=16, batch_size=16, n_epochs=2)
    before = {key: tensor.clone() for key, tensor in model.policy.state_dict().items()}
    model.learn(32)
    after = model.policy.state_dict()
    changed = {key for key in after if not torch.equal(before[key], after[key])}
    # What is fitted is trained on, convolutions too; a normaliser stays as it was.
    assert {key for key in after if key.endswith((".weight", ".t_weight"))} <= changed
    assert not any("t_mean" in key or "t_scale" in key for key in changed)
    assert any("t_weight" in key for key in changed) == (name in IMAGES)
    model.save(tmp_path / "learnt.zip")
    teacher = load_teacher(str(tmp_path / "learnt.zip"), env=(SPACES[name], gym.spaces.Discrete(4)))
    observations = seen(name)
    shown = observations if isinstance(observations, dict) else {"obs": observations}
    with torch.no_grad():
        tensors, _ = model.policy.obs_to_tensor(observations)
        logits = model.policy.get_distribution(tensors).distribution.logits.numpy()
    rows = teacher(shown).params.numpy()
    rows = rows - np.log(np.exp(rows).sum(axis=1, keepdims=True))
    np.testing.assert_allclose(rows, logits, atol=1e-5)


@pytest.mark.parametrize("name", ["image", "image and all", "categories"])
def test_an_untouched_zip_is_read_back_as_the_student(name: str, tmp_path: Path) -> None:
    graph = student_of(name)
    teacher = load_teacher(str(zip_of(graph, tmp_path)), env=(SPACES[name], gym.spaces.Discrete(4)))
    observations = seen(name)
    shown = observations if isinstance(observations, dict) else {"obs": observations}
    np.testing.assert_allclose(teacher(shown).params.numpy(), Policy(graph).params(observations), atol=1e-5)
    # And so it can be written again, as a student of ours.
    assert {"conv2d", "one_hot"} & {op.kind for op in teacher.to_graph().ops}


@pytest.mark.parametrize(("key", "kind"), [("camera", "cnn"), ("vector", "mlp"), ("room", "mlp")])
def test_a_student_may_see_a_part_of_what_its_environment_shows(key: str, kind: str, tmp_path: Path) -> None:
    name = "image and all"
    spec = {key: observation_specs(SPACES[name])[key]}
    graph = make_student(HEADS["categorical"], kind, spec, hidden=(6, 5)).graph({"env": IDS[name]})
    path = zip_of(graph, tmp_path)
    model = PPO.load(path, env=DummyVecEnv([lambda: World(name)]), device="cpu", n_steps=16, batch_size=16)
    observations = seen(name)
    shown = {key: observations[key]}
    expected = Policy(graph).predict(shown, deterministic=True)[0]
    np.testing.assert_array_equal(model.predict(observations, deterministic=True)[0], expected)
    agent = read_agent(graph, Reading())
    found = compare(agent, path, "sb3", walk(agent, 64))
    assert found.holds, str(found)
    teacher = load_teacher(str(path), env=(SPACES[name], gym.spaces.Discrete(4)))
    assert list(teacher.observations) == [key]
    np.testing.assert_allclose(teacher(observations).params.numpy(), Policy(graph).params(shown), atol=1e-5)
    model.learn(16)


def test_who_needs_kd_agent_to_load_a_zip_is_told(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match=r"p\.zip: whoever loads it needs kd_agent, which computes its features"):
        export(student_of("image"), tmp_path / "p.zip")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        [path] = export(student_of("vectors and categories"), tmp_path / "q.zip")
    # Nothing of ours is named in it.
    with zipfile.ZipFile(path) as archive:
        assert b"kd_agent" not in archive.read("data")


def test_masks_and_images_go_together(tmp_path: Path) -> None:
    head = ActionHead(replace(HEADS["categorical"].spec, expects_masks=True))
    graph = student_of("image", head, env="nowhere-v0")
    model = MaskablePPO.load(zip_of(graph, tmp_path), device="cpu")
    observations = seen("image")
    masks = np.random.default_rng(0).random((64, 4)) < 0.5
    masks[:, 0] = True
    expected = Policy(graph).predict(observations, deterministic=True, action_masks=masks)[0]
    found = model.predict(observations, deterministic=True, action_masks=masks)[0]
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("name", ["vectors and categories"])
def test_statistics_beside_a_zip_are_those_of_what_is_normalised(name: str, tmp_path: Path) -> None:
    graph = student_of(name, env="nowhere-v0")
    path, statistics = export(graph, tmp_path / "p.zip", vecnormalize=True)
    model = PPO.load(path, device="cpu")

    class Spaces(gym.Env):
        observation_space, action_space = model.observation_space, model.action_space

    normalize = VecNormalize.load(str(statistics), DummyVecEnv([Spaces]))
    assert sorted(normalize.norm_obs_keys) == ["table", "vector"]
    observations = seen(name)
    expected = Policy(graph).predict(observations, deterministic=True)[0]
    np.testing.assert_array_equal(model.predict(normalize.normalize_obs(observations), deterministic=True)[0], expected)
    teacher = load_teacher(str(path), env=(SPACES[name], gym.spaces.Discrete(4)))
    np.testing.assert_allclose(teacher(observations).params.numpy(), Policy(graph).params(observations), atol=1e-5)


def test_an_image_has_no_statistics_to_write(tmp_path: Path) -> None:
    with pytest.raises(KDError, match="its normaliser is part of its features, and vecnormalize has nothing to write"):
        export(student_of("image"), tmp_path / "p.zip", vecnormalize=True)
    assert list(tmp_path.iterdir()) == []
