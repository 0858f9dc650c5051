"""RL Zoo: its own `enjoy` plays the folder as the student plays, and the folder is a teacher again."""

import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import yaml
from masked_agents import masked_graph
from sample_graphs import linear, observations_for
from samples import PROBES, make_graph, make_student

from kd_agent import KDError, evaluate, load_teacher
from kd_agent.commands import cli
from kd_agent.deployment.export import export
from kd_agent.environments import Recipe
from kd_agent.environments.recipe import TIME_FEATURE
from kd_agent.networks.distributions import head_for
from kd_agent.policies import file as graph_file
from kd_agent.policies.graph import ObservationSpec, PolicyGraph
from kd_agent.policies.policy import Policy
from kd_agent.teachers import recipe_for

ZOO = "KD_AGENT_RL_ZOO"
"""Environment variable: a Python that has rl_zoo3, whose dependencies cannot stand beside the newest of ours."""
needs_zoo = pytest.mark.skipif(ZOO not in os.environ, reason=f"{ZOO} names no Python that has rl_zoo3")


def graph_for(env_id: str, provenance: dict[str, Any] | None = None) -> PolicyGraph:
    """A student of an environment with Box observations, that knows nothing."""
    env = gym.make(env_id)
    specs = {"obs": ObservationSpec(env.observation_space.shape or (), "float32")}
    student = make_student(head_for(env.action_space), observations=specs, hidden=(8, 8))
    return student.graph({"env": env_id, **(provenance or {})})


def written(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The settings of the only run."""
    [config] = folder.glob("ppo/*_1/*/config.yml")
    return yaml.safe_load(config.read_text()), yaml.safe_load(config.with_name("args.yml").read_text())


@pytest.mark.parametrize("env_id", ["CartPole-v1", "Pendulum-v1"])
def test_the_folder_has_what_rl_zoo_expects_and_is_a_teacher_again(env_id: str, tmp_path: Path) -> None:
    graph = graph_for(env_id)
    run = tmp_path / "agents" / "ppo" / f"{env_id}_1"
    assert export(graph, tmp_path / "agents", "zoo") == [run]
    found = sorted(str(path.relative_to(run)) for path in run.rglob("*") if path.is_file())
    names = ("args.yml", "config.yml", "vecnormalize.pkl")
    assert found == sorted([f"{env_id}.zip", *[f"{env_id}/{name}" for name in names]])
    observations = observations_for(graph, 500)
    expected = Policy(graph).predict(observations, deterministic=True)[0]
    for source in (tmp_path / "agents", run):
        teacher = load_teacher(str(source))
        assert recipe_for(str(source), "", {}).env_id == env_id
        actions = teacher.predict(observations["obs"], deterministic=True)[0]
        if graph.head.is_gaussian:
            np.testing.assert_allclose(actions, expected, atol=1e-5)
        else:
            assert np.mean(actions == expected) > 0.999


def test_the_settings_say_what_the_agent_sees(tmp_path: Path) -> None:
    wrapped = Recipe(
        "Pendulum-v1",
        {"g": 9.0},
        (("gymnasium.wrappers.FlattenObservation", {}), (TIME_FEATURE, {"max_steps": 50})),
        1,
        50,
    )
    specs = {"obs": ObservationSpec((4,), "float32")}
    student = make_student(head_for(gym.make("Pendulum-v1").action_space), observations=specs)
    graph = student.graph({"env": "Pendulum-v1", "recipe": wrapped.to_json()})
    export(graph, tmp_path / "wrapped", "zoo")
    config, arguments = written(tmp_path / "wrapped")
    assert config["normalize"] is True
    assert config["env_wrapper"] == ["gymnasium.wrappers.FlattenObservation", {TIME_FEATURE: {"max_steps": 50}}]
    assert arguments == {"algo": "ppo", "env": "Pendulum-v1", "env_kwargs": {"g": 9.0, "max_episode_steps": 50}}
    assert "frame_stack" not in config


def test_statistics_of_stacked_frames_are_folded_in(tmp_path: Path) -> None:
    stacked = Recipe("CartPole-v1", frame_stack=3)
    specs = {"obs": ObservationSpec((12,), "float32")}
    student = make_student(head_for(gym.spaces.Discrete(2)), observations=specs)
    export(student.graph({"env": "CartPole-v1", "recipe": stacked.to_json()}), tmp_path / "zoo", "zoo")
    config, arguments = written(tmp_path / "zoo")
    assert config == {"policy": "MlpPolicy", "normalize": False, "frame_stack": 3}
    assert arguments["env_kwargs"] is None
    assert not list(tmp_path.rglob("vecnormalize.pkl"))
    assert recipe_for(str(tmp_path / "zoo"), "", {}).frame_stack == 3


def test_a_policy_without_statistics_needs_none(tmp_path: Path) -> None:
    graph = PolicyGraph(
        {"obs": ObservationSpec((4,), "float32")},
        (linear("obs", "params", 2, 4),),
        head_for(gym.spaces.Discrete(2)).spec,
        {"env": "CartPole-v1"},
    )
    export(graph, tmp_path / "bare.zoo")
    assert written(tmp_path / "bare.zoo")[0]["normalize"] is False
    assert not list(tmp_path.rglob("vecnormalize.pkl"))
    assert load_teacher(str(tmp_path / "bare.zoo")).origin.algo == "PPO"


def test_a_run_that_is_there_is_never_written_over(tmp_path: Path) -> None:
    first, second = graph_for("CartPole-v1"), graph_for("CartPole-v1")
    last = second.ops[-1]
    turned = {**last.tensors, "bias": np.float32([9, -9])}
    second = replace(second, ops=(*second.ops[:-1], replace(last, tensors=turned)))
    export(first, tmp_path, "zoo")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    (tmp_path / "ppo" / "CartPole-v1_9").mkdir()
    export(second, tmp_path, "zoo")
    assert all(path.read_bytes() == raw for path, raw in before.items())
    assert (tmp_path / "ppo" / "CartPole-v1_10" / "CartPole-v1.zip").is_file()
    # As in RL Zoo, the latest run is the one that is meant.
    assert set(load_teacher(str(tmp_path)).predict(observations_for(second, 50)["obs"], deterministic=True)[0]) == {0}
    export(graph_for("Pendulum-v1"), tmp_path, "zoo")
    with pytest.raises(
        KDError, match=r"expected one agent's \.zip in this folder, found CartPole-v1\.zip, Pendulum-v1"
    ):
        load_teacher(str(tmp_path))


def test_an_id_with_a_slash_is_a_name_with_a_hyphen(tmp_path: Path) -> None:
    graph = make_graph(provenance={"env": PROBES["Discrete"]})
    export(graph, tmp_path, "zoo")
    name = PROBES["Discrete"].replace("/", "-")
    assert (tmp_path / "ppo" / f"{name}_1" / f"{name}.zip").is_file()
    assert recipe_for(str(tmp_path), "", {}).env_id == PROBES["Discrete"]


@pytest.mark.parametrize(
    ("graph", "answer"),
    [
        (masked_graph, "RL Zoo plays no MaskablePPO; formats that keep action masks: sb3, onnx"),
        (lambda: make_graph("squashed_gaussian", {"env": "nowhere-v0"}), "its actions go through tanh"),
        (lambda: replace(make_graph(), provenance={}), r"does not say what its environment is; name it \(--env\)"),
    ],
)
def test_what_has_no_place_in_rl_zoo_is_refused_and_leaves_nothing(graph: Any, answer: str, tmp_path: Path) -> None:
    with pytest.raises(KDError, match=answer):
        export(graph(), tmp_path / "zoo", "zoo")
    assert not list(tmp_path.rglob("*.zip"))
    assert not list(tmp_path.rglob("ppo"))


@pytest.fixture
def handlers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the process's handlers as they were."""
    monkeypatch.setattr(cli.signal, "signal", lambda *arguments: None)
    monkeypatch.setattr(cli.warnings, "showwarning", cli.warnings.showwarning)


@pytest.mark.usefixtures("handlers")
def test_the_command_holds_the_folder_against_the_student(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = graph_file.write(graph_for("CartPole-v1"), tmp_path / "s.safetensors")
    # A run of another environment lies there already: the new one is held against the student.
    export(graph_for("Pendulum-v1"), tmp_path / "agents", "zoo")
    assert cli.run("export", [str(file), "--to", "zoo", "--out", str(tmp_path / "agents")]) == 0
    path, said = capsys.readouterr().out.splitlines()
    assert path == str(tmp_path / "agents" / "ppo" / "CartPole-v1_1")
    assert said == "CartPole-v1_1: the same action on 1,024 of 1,024 visited observations (read back)"


def returns_of(policy: Policy, env_id: str, steps: int, seed: int) -> Iterator[float]:
    """The returns of the episodes within so many steps of one environment, seeded once: as `enjoy` plays."""
    env = gym.make(env_id)
    seen, _ = env.reset(seed=seed)
    total = 0.0
    for _ in range(steps):
        seen, reward, terminated, truncated, _ = env.step(policy.act(np.asarray(seen, np.float32)))
        total += float(reward)
        if terminated or truncated:
            yield total
            total = 0.0
            seen, _ = env.reset()


def enjoyed(folder: Path, env_id: str) -> list[float]:
    """The returns, to two decimals, that `enjoy` prints of the folder `agents`."""
    flags = ["--algo", "ppo", "--env", env_id, "-f", "agents", "-n", "450", "--seed", "7", "--device", "cpu"]
    command = [os.environ[ZOO], "-m", "rl_zoo3.enjoy", *flags, "--no-render"]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return list(map(float, re.findall(r"Episode Reward: (\S+)", done.stdout)))


@needs_zoo
@pytest.mark.parametrize("env_id", ["CartPole-v1", "Pendulum-v1", "LunarLander-v3"])
def test_rl_zoos_own_enjoy_plays_as_the_student(env_id: str, tmp_path: Path) -> None:
    graph = graph_for(env_id)
    export(graph, tmp_path / "agents", "zoo")
    expected = list(returns_of(Policy(graph), env_id, 450, 7))
    assert len(expected) >= 2
    np.testing.assert_allclose(enjoyed(tmp_path, env_id), expected, atol=0.0051)


@needs_zoo
def test_enjoy_puts_wrappers_and_frames_around_it(tmp_path: Path) -> None:
    recipe = Recipe("Pendulum-v1", {"g": 9.0}, ((TIME_FEATURE, {}),), frame_stack=2)
    specs = {"obs": ObservationSpec((8,), "float32")}
    student = make_student(head_for(gym.make("Pendulum-v1").action_space), observations=specs)
    graph = student.graph({"env": "Pendulum-v1", "recipe": recipe.to_json()})
    export(graph, tmp_path / "agents", "zoo")
    # The folder's own agent: folded statistics clip nothing, which this student's do.
    first = evaluate(load_teacher(str(tmp_path / "agents")), recipe, seeds=[7]).returns
    np.testing.assert_allclose(enjoyed(tmp_path, "Pendulum-v1")[0], first, atol=0.0051)
