"""Any source becomes an agent: its program, who plays it here, and where it plays."""

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from samples import PROBES, SPACES, Agent, make_graph
from saved_policies import BY_FILE
from small_agents import VECTOR
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize
from zoo_folders import agent as zoo_agent
from zoo_folders import zoo

import kd_agent
from kd_agent import KDError, load_teacher
from kd_agent.deployment.agents import Reading, read_agent
from kd_agent.environments.vector import spaces_of
from kd_agent.policies import file as graph_file
from kd_agent.policies.policy import Policy
from kd_agent.teachers import EnsembleTeacher, GraphTeacher, KeyedTeacher

PROBE = PROBES["Discrete"]


def test_a_zoo_folder_names_its_environment_and_the_program_says_so(tmp_path: Path) -> None:
    config = {"frame_stack": 2}
    folder = zoo(tmp_path, config)
    venv = DummyVecEnv([lambda: gym.make("CartPole-v1")])
    from stable_baselines3.common.vec_env import VecFrameStack

    zoo_agent(folder / "CartPole-v1.zip", VecFrameStack(venv, 2))
    agent = read_agent(str(folder), Reading())
    assert agent.recipe is not None
    assert agent.graph.observations["obs"].shape == (8,)
    provenance = agent.graph.provenance
    assert provenance["env"] == "CartPole-v1"
    assert provenance["recipe"]["frame_stack"] == 2
    assert provenance["teacher_algo"] == "PPO"
    assert provenance["teacher_sha256"] == load_teacher(str(folder / "CartPole-v1.zip")).origin.sha256
    assert provenance["kd_agent"] == kd_agent.__version__


def test_statistics_are_inside(tmp_path: Path) -> None:
    venv = VecNormalize(DummyVecEnv([lambda: gym.make("CartPole-v1")]), clip_obs=0.7)
    model = PPO("MlpPolicy", venv, n_steps=64, seed=0, device="cpu", policy_kwargs={"net_arch": [8]})
    model.learn(64)
    model.save(tmp_path / "a.zip")
    venv.save(str(tmp_path / "vecnormalize.pkl"))
    agent = read_agent(str(tmp_path / "a.zip"), Reading(env="CartPole-v1"))
    assert agent.graph.ops[0].kind == "normalise"
    raw = np.float32([[2, 1, 0.1, -1], [0, 0, 0, 0.2]])
    expected = model.predict(venv.normalize_obs(raw), deterministic=True)[0]
    np.testing.assert_array_equal(Policy(agent.graph).predict(raw, deterministic=True)[0], expected)
    (tmp_path / "elsewhere").mkdir()
    elsewhere = (tmp_path / "vecnormalize.pkl").rename(tmp_path / "elsewhere" / "other.pkl")
    with pytest.raises(KDError, match="VecNormalize"):
        read_agent(str(tmp_path / "a.zip"), Reading(env="CartPole-v1"))
    told = read_agent(str(tmp_path / "a.zip"), Reading(env="CartPole-v1", statistics=str(elsewhere)))
    assert told.graph.ops[0].attributes["clip"] == pytest.approx(0.7)
    lost = read_agent(str(tmp_path / "a.zip"), Reading(env="CartPole-v1", allow_missing_statistics=True))
    assert lost.graph.ops[0].kind == "linear"


def test_a_zip_that_names_no_environment_has_its_own_spaces(agents: dict[str, Agent]) -> None:
    agent = read_agent(str(agents["Discrete"].path), Reading())
    assert agent.recipe is None
    assert "does not say what its environment is" in agent.reason
    assert "env" not in agent.graph.provenance
    typed = read_agent(str(agents["Discrete"].path), Reading(env=PROBE))
    assert typed.recipe is not None
    assert typed.graph.provenance["env"] == PROBE


def test_what_is_typed_must_fit(agents: dict[str, Agent], tmp_path: Path) -> None:
    student = graph_file.write(make_graph(provenance={"env": PROBE}), tmp_path / "s.safetensors")
    for source in (str(agents["Discrete"].path), str(student), load_teacher(str(agents["Discrete"].path))):
        with pytest.raises(KDError, match="environment"):
            read_agent(source, Reading(env="LunarLander-v3"))
        with pytest.raises(KDError, match="did you mean 'CartPole-v1'"):
            read_agent(source, Reading(env="CartPol-v1"))


def test_arguments_and_wrappers_that_are_typed_need_an_environment(agents: dict[str, Agent], tmp_path: Path) -> None:
    student = str(graph_file.write(make_graph(provenance={"env": "nowhere-v0"}), tmp_path / "s.safetensors"))
    for source, words in ((str(agents["Discrete"].path), "name it"), (student, "nowhere-v0")):
        with pytest.raises(KDError, match=words):
            read_agent(source, Reading(env_kwargs={"a": 1}))
        with pytest.raises(KDError, match=words):
            read_agent(source, Reading(wrapper=("gymnasium.wrappers:FlattenObservation",)))


def test_a_student_read_as_a_teacher_keeps_what_it_says_of_itself(tmp_path: Path) -> None:
    provenance = {"env": PROBE, "teacher_sha256": "its own teacher's"}
    student = str(graph_file.write(make_graph(provenance=provenance), tmp_path / "s.safetensors"))
    found = read_agent(load_teacher(student), Reading()).graph.provenance
    assert (found["env"], found["teacher_sha256"]) == (PROBE, "its own teacher's")


def test_a_student_is_read_also_where_its_environment_is_not(tmp_path: Path) -> None:
    student = graph_file.write(make_graph(provenance={"env": "nowhere-v0"}), tmp_path / "s.safetensors")
    agent = read_agent(student, Reading())
    assert agent.recipe is None
    assert "nowhere-v0" in agent.reason
    assert agent.graph.provenance == {"env": "nowhere-v0"}
    assert isinstance(agent.player, Policy)


def test_a_student_placed_elsewhere_says_so(tmp_path: Path) -> None:
    graph = make_graph(provenance={"env": "nowhere-v0"})
    agent = read_agent(graph, Reading(env=PROBE, env_kwargs={"action": "Discrete"}))
    assert agent.graph.provenance["env"] == PROBE
    assert agent.graph.provenance["recipe"]["env_kwargs"] == {"action": "Discrete"}


def test_wrappers_reach_the_environment(tmp_path: Path) -> None:
    flat = "gymnasium.wrappers:FlattenObservation"
    agent = read_agent(make_graph(), Reading(env=PROBE, wrapper=(flat,)))
    assert agent.recipe is not None
    assert [name for name, _ in agent.recipe.wrappers] == ["gymnasium.wrappers.FlattenObservation"]


def test_a_teacher_a_model_and_its_zip_are_the_same_program(agents: dict[str, Agent]) -> None:
    path = str(agents["Box"].path)
    graphs = [read_agent(source, Reading()).graph for source in (path, load_teacher(path), agents["Box"].model)]
    for graph in graphs[1:]:
        assert [op.kind for op in graph.ops] == [op.kind for op in graphs[0].ops]
        for op, other in zip(graph.ops, graphs[0].ops, strict=True):
            for role, tensor in op.tensors.items():
                np.testing.assert_array_equal(tensor, other.tensors[role])


def test_a_teacher_of_some_keys_reads_them_by_their_names() -> None:
    inner = GraphTeacher(make_graph(), load_teacher(make_function(), env=(VECTOR, SPACES["Discrete"])).origin)
    keyed = KeyedTeacher(inner, ["arm"])
    graph = keyed.to_graph()
    assert list(graph.observations) == ["arm"]
    arms = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
    expected = inner.predict({"obs": arms}, deterministic=True)[0]
    np.testing.assert_array_equal(Policy(graph).predict({"arm": arms}, deterministic=True)[0], expected)


def make_function() -> Any:
    def act(observations: Any) -> Any:
        return np.zeros(len(observations), np.int64)

    return act


def test_a_function_says_that_it_is_one() -> None:
    spaces = (VECTOR, SPACES["Discrete"])
    module = torch.nn.Linear(4, 4)
    for source in (make_function(), module):
        teacher = load_teacher(source, env=spaces)
        with pytest.raises(KDError, match="its policy is a function, so that there is no program of it to write"):
            read_agent(teacher, Reading())
    with pytest.raises(KDError, match="its policy is a function"):
        read_agent(make_function(), Reading(env=PROBE))


def test_several_teachers_as_one_say_so(agents: dict[str, Agent]) -> None:
    one = load_teacher(str(agents["Discrete"].path))
    with pytest.raises(KDError, match="several teachers answer as one, so that there is no program"):
        read_agent(EnsembleTeacher([one, one]), Reading())


def test_what_does_not_concern_a_source_is_refused(agents: dict[str, Agent], tmp_path: Path) -> None:
    student = str(graph_file.write(make_graph(), tmp_path / "s.safetensors"))
    with pytest.raises(KDError, match="carries its statistics inside"):
        read_agent(student, Reading(statistics="s.pkl"))
    for said in ({"teacher_activation": "relu"}, {"teacher_squash": "tanh"}):
        with pytest.raises(KDError, match="says its network itself"):
            read_agent(student, Reading(**said))
    with pytest.raises(KDError, match="only a saved student holds several tasks"):
        read_agent(str(agents["Discrete"].path), Reading(task="CartPole-v1"))
    with pytest.raises(KDError, match="not a teacher; expected"):
        read_agent(str(tmp_path / "nothing.txt"), Reading())


def test_the_spaces_of_a_typed_environment_are_the_program_s(agents: dict[str, Agent]) -> None:
    agent = read_agent(str(agents["Box"].path), Reading(env=PROBES["Box"]))
    box = spaces_of(PROBES["Box"])[1]
    np.testing.assert_array_equal(agent.graph.head.low, np.ravel(box.low))
    np.testing.assert_array_equal(agent.graph.head.high, np.ravel(box.high))


def test_parameters_of_flax_are_a_teacher_and_no_student() -> None:
    saved = BY_FILE["flax/actor_critic.safetensors"]
    how = Reading(env="Pendulum-v1", teacher_activation="tanh", teacher_squash="none")
    agent = read_agent(str(saved.path), how)
    answers = saved.answers()
    found, _ = Policy(agent.graph).predict(answers["observations"], deterministic=True)
    np.testing.assert_allclose(found, np.clip(answers["actions"], -2, 2), atol=1e-5)
    with pytest.raises(KDError, match=r"name the environment \(--env\)"):
        read_agent(str(saved.path), Reading())
