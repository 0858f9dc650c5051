"""Exports: what was written is compiled, run, and compared with NumPy."""

import re
import subprocess
import sys
import warnings
from pathlib import Path

import gymnasium as gym
import numpy as np
import onnx
import pytest
import torch
from exported import (
    GRAPHS,
    RUNTIMES,
    assert_same,
    by_c,
    by_numpy,
    linear,
    metadata,
    observations_for,
)
from samples import HEADS, ROOT, make_graph
from stable_baselines3 import PPO
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from kd_agent import KDError, export, load_policy
from kd_agent.commands.cli import run
from kd_agent.export.c import generate
from kd_agent.networks.distributions import head_for
from kd_agent.policies import file as graph_file
from kd_agent.policies.graph import ObservationSpec, Op, PolicyGraph
from kd_agent.policies.normalizer import Normalizer
from kd_agent.policies.ops import KERNELS
from kd_agent.policies.policy import Policy

every_graph = pytest.mark.parametrize("name", GRAPHS)
PPO_HEADS = [kind for kind in HEADS if kind != "squashed_gaussian"]


def count_for(graph: PolicyGraph) -> int:
    """10,000 observations, fewer where each is an image or a step of one episode."""
    return 10_000 if not graph.states and np.prod(next(iter(graph.observations.values())).shape) < 100 else 300


@every_graph
@pytest.mark.parametrize("runtime", RUNTIMES)
def test_an_exported_policy_acts_as_numpy_does(name: str, runtime: str, tmp_path: Path) -> None:
    graph = GRAPHS[name]()
    observations = observations_for(graph, count_for(graph))
    assert_same(graph, RUNTIMES[runtime](graph, observations, tmp_path), by_numpy(graph, observations))


def test_the_graphs_use_every_operation() -> None:
    assert {op.kind for make in GRAPHS.values() for op in make().ops} == set(KERNELS)


@pytest.mark.parametrize("name", ["categorical", "diag_gaussian"])
def test_int8_is_close_and_mostly_agrees(name: str, tmp_path: Path) -> None:
    graph = make_graph(name, hidden=(32, 32))
    observations = observations_for(graph, 2000)
    found, expected = by_c(graph, observations, tmp_path, int8=True), by_numpy(graph, observations)
    acting = graph.head.num_acting
    assert np.abs(found.params - expected.params).max() < 0.03 * np.ptp(expected.params[:, :acting])
    if name == "categorical":
        assert np.mean(found.actions == expected.actions) > 0.97
    sizes = [int(re.search(r"ROM: (\d+)", generate(graph, "p.h", int8=flag)[1]).group(1)) for flag in (True, False)]
    assert sizes[0] < 0.4 * sizes[1]


@pytest.mark.parametrize("loose", [False, True])
def test_int8_never_overflows(loose: bool, tmp_path: Path) -> None:
    inputs, units = 100, 521  # so many that sums of int16 times int8 could overflow
    signs = np.where(np.arange(inputs) % 2, 1, -1).astype(np.float32)
    same = np.tile(signs, (units, 1))
    middle = np.tile(10 * (-1.0) ** np.arange(units), (units, 1)).astype(np.float32)  # cancels, which no bound knows
    middle[:, 0] = 1
    last = np.float32([[0.5], [-0.5], [0.1], [0]]) * np.ones(units, np.float32)
    ops = [Normalizer(np.zeros(inputs), np.ones(inputs), clip=1.0).op("obs", "r0")]
    for weight in (same, middle, last) if loose else (same, last):
        tensors = {"weight": weight, "bias": np.zeros(len(weight), np.float32)}
        ops.append(Op("linear", (f"r{len(ops) - 1}",), "params" if weight is last else f"r{len(ops)}", {}, tensors))
    graph = PolicyGraph({"obs": ObservationSpec((inputs,), "float32")}, tuple(ops), HEADS["categorical"].spec)
    far = {"obs": np.float32([signs, -signs, 0 * signs])}  # no random corner is like these
    found, expected = by_c(graph, far, tmp_path, int8=True), by_numpy(graph, far)
    assert (np.sign(found.params) == np.sign(expected.params)).all()
    if loose:
        assert 0.5 < found.params[0, 0] / expected.params[0, 0] < 0.9
    else:
        np.testing.assert_allclose(found.params, expected.params, rtol=1e-3)


def test_int8_needs_to_know_the_range_of_its_input() -> None:
    ops = (linear("obs", "params", 4, 4),)
    graph = PolicyGraph({"obs": ObservationSpec((4,), "float32")}, ops, HEADS["categorical"].spec)
    with pytest.raises(KDError, match="how large observation 'obs' gets"):
        generate(graph, "p.h", int8=True)


def test_c_needs_no_library_and_says_what_it_costs(tmp_path: Path) -> None:
    graph = make_graph(hidden=(16, 16))
    source, header = export(graph, tmp_path / "walker.c", prefix="walker")
    text = source.read_text()
    assert re.findall(r"#include (.*)", text) == ['"walker.h"', "<stdint.h>"]
    assert "malloc" not in text
    assert "Multiply-adds: 384 per action" in text  # 4 * 16 + 16 * 16 + 16 * 4
    assert "int walker_act(const float *obs);" in header.read_text()


def test_two_c_policies_fit_into_one_program(tmp_path: Path) -> None:
    for prefix in ("a", "b"):
        export(make_graph(), tmp_path / f"{prefix}.c", prefix=prefix)
    main = '#include "a.h"\n#include "b.h"\nint main(void) { float x[4] = {0}; return a_act(x) - b_act(x); }\n'
    (tmp_path / "main.c").write_text(main)
    subprocess.run(["gcc", "-Wall", "-Werror", "a.c", "b.c", "main.c", "-o", "main"], cwd=tmp_path, check=True)
    assert subprocess.run([tmp_path / "main"], check=False).returncode == 0


def test_onnx_states_environment_spaces_and_head(tmp_path: Path) -> None:
    [path] = export(make_graph("multi_categorical"), tmp_path / "policy.onnx")
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    found = metadata(path)
    assert found["env"] == "CartPole-v1"
    assert found["observations"]["obs"].items() >= {"shape": [4], "dtype": "float32"}.items()
    assert found["head"]["nvec"] == [3, 4]
    assert [value.name for value in model.graph.output] == ["params", "action"]
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"


@pytest.mark.parametrize("kind", PPO_HEADS)
@pytest.mark.parametrize("vecnormalize", [False, True])
def test_an_sb3_zip_acts_as_the_student_does(kind: str, vecnormalize: bool, tmp_path: Path) -> None:
    graph = make_graph(kind, {"env": "nowhere-v0"}, hidden=(16, 14), activation="elu")
    observations = observations_for(graph, 2000)["obs"]
    normalise = graph.ops[0]
    files = export(graph, tmp_path / "policy.zip", vecnormalize=vecnormalize)
    model = PPO.load(files[0], device="cpu")
    if vecnormalize:

        class Spaces(gym.Env):
            observation_space, action_space = model.observation_space, model.action_space

        statistics = VecNormalize.load(str(files[1]), DummyVecEnv([Spaces]))
        assert not statistics.training
        given = statistics.normalize_obs(observations)
    else:  # exact where nothing is clipped
        inside = np.abs((observations - normalise.tensors["mean"]) * normalise.tensors["scale"]).max(axis=1) < 3
        observations = given = observations[inside]
    found, expected = (
        model.predict(given, deterministic=True)[0],
        Policy(graph).predict(observations, deterministic=True)[0],
    )
    if graph.head.is_gaussian:
        np.testing.assert_allclose(found, expected, atol=1e-5)
    else:
        assert np.mean(found.reshape(len(found), -1) == expected.reshape(len(found), -1)) > 0.999
    assert not list(tmp_path.glob(".*"))


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


def two_action_graph(graph: PolicyGraph) -> PolicyGraph:
    *rest, last = graph.ops
    tensors = {role: tensor[:2] for role, tensor in last.tensors.items()}
    narrow = Op(last.kind, last.inputs, last.output, {}, tensors)
    return PolicyGraph(
        graph.observations, (*rest, narrow), head_for(gym.spaces.Discrete(2)).spec, {"env": "CartPole-v1"}
    )


def test_ppo_refuses_what_it_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(KDError, match="squashed_gaussian; formats that can: onnx"):
        export(make_graph("squashed_gaussian", {"env": ""}), tmp_path / "p.zip")
    with pytest.raises(KDError, match="sb3 cannot express the operation 'gru'; formats that can: c, javascript"):
        export(GRAPHS["gru"](), tmp_path / "p.zip")
    with pytest.raises(KDError, match="'activation' comes before the first layer"):
        export(GRAPHS["activations"](), tmp_path / "p.zip")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["categorical", "several keys"])
def test_a_torch_program_runs_without_kd_agent(name: str, tmp_path: Path) -> None:
    graph = GRAPHS[name]()
    [path] = export(graph, tmp_path / "policy.pt2")
    observations = observations_for(graph, 7)
    given = {key: torch.from_numpy(array) for key, array in observations.items()}
    params, actions = torch.export.load(path).module()(given["obs"] if list(given) == ["obs"] else given)
    expected = by_numpy(graph, observations)
    np.testing.assert_allclose(params.detach().numpy(), expected.params, atol=1e-5)
    assert actions.shape == (7, *graph.head.shape)


def test_a_torch_module_can_be_fine_tuned() -> None:
    module = Policy(make_graph("diag_gaussian")).to_torch()
    obs = torch.randn(8, 4)
    before = module(obs).detach()
    optimiser = torch.optim.SGD(module.parameters(), lr=0.1)
    module(obs).square().sum().backward()
    assert all(parameter.grad is not None for parameter in module.parameters())
    optimiser.step()
    assert (module(obs) != before).all(dim=1).any()
    assert module.act(obs).shape == (8, 2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["s.safetensors", "--out", "p"], "name the format"),
        (["s.safetensors", "--out", "p.c", "--to", "javscript"], "did you mean 'javascript'"),
        (["s.safetensors", "--out", "p.onnx", "--int8"], "unknown onnx option 'int8'"),
        (["nothing.safetensors", "--out", "p.c"], "no such file"),
        (["s.safetensors"], "out is missing"),
        (["s.safetensors", "--out", "s.safetensors/p.c"], "cannot be written"),
    ],
)
def test_a_wrong_command_is_answered_in_one_line(
    arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    graph_file.write(make_graph(), "s.safetensors")
    assert run("export", arguments) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["s.safetensors"]


def test_the_script_writes_the_file(tmp_path: Path) -> None:
    student = graph_file.write(make_graph(), tmp_path / "s.safetensors")
    command = [sys.executable, str(ROOT / "scripts/export_policy.py"), str(student), "--to", "c", "--out"]
    done = subprocess.run([*command, str(tmp_path / "policy.c")], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(tmp_path / "policy.c"), str(tmp_path / "policy.h")]
    same = export(load_policy(student), tmp_path / "again" / "policy.c")
    assert same[0].read_text() == (tmp_path / "policy.c").read_text()
