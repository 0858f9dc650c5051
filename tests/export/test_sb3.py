"""Stable-Baselines3: the zip acts as the student, goes on learning, and is refused where PPO has no such policy."""

import json
import warnings
import zipfile
from dataclasses import replace
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch
from sample_graphs import GRAPHS, linear, observations_for
from samples import HEADS, make_graph, make_student
from stable_baselines3 import PPO
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from kd_agent import KDError, export, load_teacher
from kd_agent.networks.distributions import head_for
from kd_agent.policies.graph import ObservationSpec, Op, PolicyGraph
from kd_agent.policies.normalizer import Normalizer
from kd_agent.policies.policy import Policy

PPO_HEADS = [kind for kind in HEADS if kind != "squashed_gaussian"]
FOUR = {"obs": ObservationSpec((4,), "float32")}


def venv_of(model: PPO) -> DummyVecEnv:
    """An environment that has the spaces of a model and nothing else."""

    class Spaces(gym.Env):
        observation_space, action_space = model.observation_space, model.action_space

    return DummyVecEnv([Spaces])


@pytest.mark.parametrize("kind", PPO_HEADS)
@pytest.mark.parametrize("vecnormalize", [False, True])
def test_an_sb3_zip_acts_as_the_student_does(kind: str, vecnormalize: bool, tmp_path: Path) -> None:
    graph = make_graph(kind, {"env": "nowhere-v0"}, hidden=(16, 14), activation="elu")
    observations = observations_for(graph, 2000)["obs"]
    normalise = graph.ops[0]
    files = export(graph, tmp_path / "policy.zip", vecnormalize=vecnormalize)
    model = PPO.load(files[0], device="cpu")
    if vecnormalize:
        statistics = VecNormalize.load(str(files[1]), venv_of(model))
        assert not statistics.training
        what_it_sees = statistics.normalize_obs(observations)
    else:  # exact where nothing is clipped
        inside = np.abs((observations - normalise.tensors["mean"]) * normalise.tensors["scale"]).max(axis=1) < 3
        observations = what_it_sees = observations[inside]
    found = model.predict(what_it_sees, deterministic=True)[0]
    expected = Policy(graph).predict(observations, deterministic=True)[0]
    if graph.head.is_gaussian:
        np.testing.assert_allclose(found, expected, atol=1e-5)
    else:
        assert np.mean(found.reshape(len(found), -1) == expected.reshape(len(found), -1)) > 0.999
    assert not list(tmp_path.glob(".*"))


def two_action_graph(graph: PolicyGraph) -> PolicyGraph:
    *rest, last = graph.ops
    tensors = {role: tensor[:2] for role, tensor in last.tensors.items()}
    narrow = Op(last.kind, last.inputs, last.output, {}, tensors)
    return PolicyGraph(
        graph.observations, (*rest, narrow), head_for(gym.spaces.Discrete(2)).spec, {"env": "CartPole-v1"}
    )


def test_an_sb3_zip_plays_as_the_student_and_goes_on_learning(tmp_path: Path) -> None:
    graph = two_action_graph(make_graph())
    [path] = export(graph, tmp_path / "policy.zip")
    venv = DummyVecEnv([lambda: gym.make("CartPole-v1")])
    model = PPO.load(path, env=venv, device="cpu", n_steps=64)
    returns = []
    for player in (model, Policy(graph)):
        venv.seed(0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            returns.append(evaluate_policy(player, venv, 4, return_episode_rewards=True)[0])
    assert returns[0] == returns[1]
    before = model.policy.action_net.weight.clone()
    model.learn(64)
    assert not torch.equal(before, model.policy.action_net.weight)


def test_ppo_refuses_what_it_cannot_be(tmp_path: Path) -> None:
    ops = (linear("obs", "a", 2, 4), linear("obs", "b", 2, 4), Op("concatenate", ("a", "b"), "params"))
    joined = PolicyGraph(FOUR, ops, HEADS["categorical"].spec)
    with pytest.raises(KDError, match="PPO has no policy like this: it ends in the operation 'concatenate'"):
        export(joined, tmp_path / "p.zip")
    with pytest.raises(KDError, match="its actions go through tanh; formats that can: onnx"):
        export(make_graph("squashed_gaussian", {"env": ""}), tmp_path / "p.zip")
    with pytest.raises(KDError, match=r"sb3 cannot express the operation 'gru'; formats that can: .*c, csharp, "):
        export(GRAPHS["gru"](), tmp_path / "p.zip")
    assert list(tmp_path.iterdir()) == []


def wide_range(clip: float = 3.0, mean: float = 0.0) -> Op:
    return Normalizer(np.full(4, mean), np.ones(4), clip=clip).op("obs", "unit")


def test_a_mean_far_out_is_not_folded_in(tmp_path: Path) -> None:
    ops = (wide_range(mean=1001.0), linear("unit", "params", 4, 4))
    graph = PolicyGraph(FOUR, ops, HEADS["categorical"].spec)
    with pytest.raises(KDError, match="use vecnormalize"):
        export(graph, tmp_path / "p.zip")
    names = [path.name for path in export(graph, tmp_path / "p.zip", vecnormalize=True)]
    assert names == ["p.zip", "vecnormalize.pkl"]


def test_the_statistics_of_another_export_are_not_written_over(tmp_path: Path) -> None:
    one, other = make_graph(provenance={"env": "nowhere-v0"}), make_graph(provenance={"env": "nowhere-v0"}, seed=5)
    changed = replace(other.ops[0], tensors={**other.ops[0].tensors, "mean": other.ops[0].tensors["mean"] + 1})
    other = replace(other, ops=(changed, *other.ops[1:]))
    [_, statistics] = export(one, tmp_path / "one.zip", vecnormalize=True)
    before = statistics.read_bytes()
    with pytest.raises(KDError, match=r"vecnormalize\.pkl: other statistics are there"):
        export(other, tmp_path / "other.zip", vecnormalize=True)
    assert statistics.read_bytes() == before
    assert {path.name for path in tmp_path.iterdir()} == {"one.zip", "vecnormalize.pkl"}
    export(one, tmp_path / "again.zip", vecnormalize=True)  # the same statistics may lie there
    export(other, tmp_path / "elsewhere" / "other.zip", vecnormalize=True)
    assert (tmp_path / "elsewhere" / "vecnormalize.pkl").read_bytes() != before


@pytest.mark.parametrize("vecnormalize", [False, True])
def test_a_zip_says_whether_it_needs_statistics_and_is_read_back_as_the_student(
    vecnormalize: bool, tmp_path: Path
) -> None:
    graph = two_action_graph(make_graph())
    [path, *_] = export(graph, tmp_path / "policy.zip", vecnormalize=vecnormalize)
    with zipfile.ZipFile(path) as archive:
        told = json.loads(archive.read("data"))["_last_original_obs"]
    assert (told is not None) == vecnormalize
    teacher = load_teacher(str(path))
    observations = np.random.default_rng(0).normal(size=(300, 4)).astype(np.float32)
    expected = Policy(graph).predict(observations, deterministic=True)[0]
    np.testing.assert_array_equal(teacher.predict(observations, deterministic=True)[0], expected)


LUNAR = {"obs": ObservationSpec((8,), "float32")}


@pytest.mark.parametrize(
    ("kind", "observations", "env", "words"),
    [
        ("categorical", FOUR, "LunarLander-v3", r"observation 'obs' of shape \(4,\), the environment has \(8,\)"),
        ("categorical", FOUR, "CartPole-v1", r"acts by categorical \(4,\), the environment has Discrete\(2\)"),
        ("diag_gaussian", LUNAR, "LunarLander-v3", r"acts by diag_gaussian \(2,\), the environment has Discrete\(4\)"),
        ("categorical", LUNAR, "LunarLanderContinuous-v3", r"acts by categorical \(4,\), the environment has Box"),
        ("diag_gaussian", LUNAR, "LunarLanderContinuous-v3", "its action bounds are not those of the environment"),
        ("bernoulli", FOUR, "CartPole-v1", "acts by bernoulli"),
    ],
)
def test_an_environment_with_other_spaces_is_refused_with_what_differs(
    kind: str, observations: dict[str, ObservationSpec], env: str, words: str, tmp_path: Path
) -> None:
    graph = make_student(HEADS[kind], "mlp", observations).graph({"env": "nowhere-v0"})
    for vecnormalize in (False, True):
        with pytest.raises(KDError, match=words) as caught:
            export(graph, tmp_path / "p.zip", env=env, vecnormalize=vecnormalize)
        assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_student_that_names_an_environment_with_other_spaces_is_refused_too(tmp_path: Path) -> None:
    graph = make_student(HEADS["categorical"], "mlp", FOUR).graph({"env": "LunarLander-v3"})
    with pytest.raises(KDError, match=r"expects observation 'obs' of shape \(4,\), the environment has \(8,\)"):
        export(graph, tmp_path / "p.zip")
    assert list(tmp_path.iterdir()) == []


def test_standard_deviations_are_carried_over(tmp_path: Path) -> None:
    graph = make_graph("diag_gaussian", {"env": "nowhere-v0"})
    model = PPO.load(export(graph, tmp_path / "p.zip")[0], device="cpu")
    np.testing.assert_array_equal(model.policy.log_std.detach().numpy(), graph.ops[-1].tensors["value"])


def test_a_student_without_statistics_or_hidden_layers_is_a_zip_alone(tmp_path: Path) -> None:
    graph = PolicyGraph(FOUR, (linear("obs", "params", 4, 4),), HEADS["categorical"].spec)
    [path] = export(graph, tmp_path / "p.zip", vecnormalize=True)
    model = PPO.load(path, device="cpu")
    observations = observations_for(graph, 200)["obs"]
    expected = Policy(graph).predict(observations, deterministic=True)[0]
    np.testing.assert_array_equal(model.predict(observations, deterministic=True)[0], expected)


@pytest.mark.parametrize("vecnormalize", [False, True])
def test_a_dict_observation_keeps_the_order_of_its_keys(vecnormalize: bool, tmp_path: Path) -> None:
    observations = {"wide": ObservationSpec((3,), "float32"), "arm": ObservationSpec((2, 2), "float32")}
    graph = make_student(HEADS["diag_gaussian"], "mlp", observations, hidden=(6,)).graph({"env": "nowhere-v0"})
    files = export(graph, tmp_path / "p.zip", vecnormalize=vecnormalize)
    model = PPO.load(files[0], device="cpu")
    assert list(model.observation_space.spaces) == ["wide", "arm"]
    near = {key: np.zeros((2, *spec.shape), np.float32) for key, spec in observations.items()}
    near["wide"][1] = 0.1
    expected = Policy(graph).predict(near, deterministic=True)[0]
    if vecnormalize:
        statistics = VecNormalize.load(str(files[1]), venv_of(model))
        near = statistics.normalize_obs(near)
    np.testing.assert_allclose(model.predict(near, deterministic=True)[0], expected, atol=1e-5)


def test_an_environment_with_other_keys_is_refused(tmp_path: Path) -> None:
    observations = {"wide": ObservationSpec((3,), "float32"), "arm": ObservationSpec((2,), "float32")}
    graph = make_student(HEADS["categorical"], "mlp", observations).graph({"env": "CartPole-v1"})
    with pytest.raises(KDError, match=r"reads \['wide', 'arm'\], the environment gives \['obs'\]"):
        export(graph, tmp_path / "p.zip")
    assert list(tmp_path.iterdir()) == []
