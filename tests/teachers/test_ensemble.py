"""Several teachers that are one: each is asked, each remembers for itself, and a run goes on with their weights."""

import json
import shutil
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
import torch
from fixed_teachers import Fixed, good
from rule_answers import RULES
from samples import HEADS, PROBES, TINY, Agent, make_student
from stable_baselines3 import DQN

from kd_agent import KDError, distill, load_teacher
from kd_agent.evaluation.teacher_selection import TeacherSelection
from kd_agent.networks.base import Origin, Teacher
from kd_agent.settings import DistillConfig, resolve
from kd_agent.teachers import GraphTeacher, load_named
from kd_agent.teachers._ensemble import EnsembleTeacher


def test_teachers_of_several_algorithms_are_asked_and_stay_bit_identical(
    agents: dict[str, Agent], small: Path, tmp_path: Path
) -> None:
    dqn = train_dqn(tmp_path / "dqn.zip")
    sources = [agents["Discrete"].path, small, dqn]
    teachers = [load_teacher(str(path)) for path in sources]
    ensemble = EnsembleTeacher(teachers)
    states = {"obs": agents["Discrete"].observations()}
    before = [weights_of(teacher) for teacher in teachers]
    found = ensemble(states)
    rows = [teacher(states).params for teacher in teachers]
    mean = sum(row.softmax(-1) for row in rows) / 3
    torch.testing.assert_close(found.params.softmax(-1), mean)
    assert found.params.dtype == torch.float32
    assert [weights_of(teacher) for teacher in teachers] == before
    assert found.value is None
    assert ensemble.origin.num_parameters == sum(teacher.origin.num_parameters for teacher in teachers)
    assert ensemble.origin.algo == "PPO + A2C + DQN"
    assert ensemble.origin.source == " + ".join(map(str, sources))
    assert ensemble.widest_layer == max(teacher.widest_layer for teacher in teachers)
    assert ensemble.last_layer is None


def train_dqn(path: Path) -> Path:
    model = DQN("MlpPolicy", PROBES["Discrete"], seed=0, learning_starts=8, policy_kwargs={"net_arch": [9]})
    model.learn(32)
    model.save(path)
    return path


def weights_of(teacher: Teacher) -> list[bytes]:
    assert isinstance(teacher, GraphTeacher)
    return [tensor.tobytes() for op in teacher.graph.ops for tensor in op.tensors.values()]


def test_values_of_critics_are_averaged_where_all_have_one(agents: dict[str, Agent]) -> None:
    teacher = load_teacher(str(agents["Discrete"].path))
    states = {"obs": agents["Discrete"].observations()}
    found = EnsembleTeacher([teacher, teacher])(states)
    assert found.value is not None
    torch.testing.assert_close(found.value, teacher(states).value)
    assert EnsembleTeacher([teacher, good()])(states).value is None


def test_each_teacher_carries_its_own_memory() -> None:
    observations = {"obs": np.random.default_rng(0).normal(size=(6, 3, 4)).astype(np.float32)}
    starts = np.zeros((6, 3), bool)
    starts[0] = starts[4, 1] = True
    memories = [make_student(HEADS["categorical"], "gru", hidden=(5,), seed=s) for s in range(2)]
    origin = Origin("gru", "0" * 64, "student", 1)
    teachers: list[Teacher] = [GraphTeacher(student.graph(), origin) for student in memories]
    teachers.insert(1, good())
    ensemble, state, alone = EnsembleTeacher(teachers), None, [None] * 3
    assert ensemble.recurrent
    for step in range(6):
        now = {"obs": observations["obs"][step]}
        outputs = [t(now, s, starts[step]) for t, s in zip(teachers, alone, strict=True)]
        alone = [output.state for output in outputs]
        found = ensemble(now, state, starts[step])
        state = found.state
        mean = sum(output.params.softmax(-1) for output in outputs) / 3
        torch.testing.assert_close(found.params.softmax(-1), mean)
    again = ensemble({"obs": observations["obs"][5]}).params
    assert not torch.allclose(again, found.params)


def test_a_run_with_several_teachers_reports_their_weights_and_resumes_with_them(
    agents: dict[str, Agent], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = agents["Discrete"]
    teacher = make_student(HEADS["categorical"], hidden=())
    with torch.no_grad():
        teacher.layers[0].weight.copy_(3 * torch.eye(4) / teacher.get_buffer("scale_obs"))
        teacher.layers[0].bias.copy_(3 * teacher.get_buffer("mean_obs"))
    best = str(teacher.save(tmp_path / "best.safetensors"))
    settings = {**TINY, "env": agent.env_id, "teacher": [best, str(agent.path)], "out": str(tmp_path / "run")}
    result = distill(settings)
    folder = tmp_path / "run"
    known = json.loads((folder / "teacher.json").read_text())
    assert [(r["source"], r["weight"]) for r in result["teachers"]] == [(best, 1.0), (str(agent.path), 0.0)]
    assert result["teachers"] == known["teachers"]
    assert result["teachers"][0]["sha256"] == sha256(Path(best).read_bytes()).hexdigest()
    assert result["teachers"][0]["mean"] == 50 > result["teachers"][1]["mean"]
    assert result["cost"]["selection_steps"] == 3 * 48 * 50 == known["gate_steps"]
    assert result["teacher"]["sha256"] == known["sha256"]
    before = (folder / "student.safetensors").read_bytes()
    for name in ("best.npz", "driver.npz", "round-2.npz"):
        (folder / "checkpoint" / name).unlink()
    monkeypatch.setattr(TeacherSelection, "weigh", None)
    again = distill({"env": agent.env_id, "out": str(folder), "resume": True, "quiet": True})
    assert again["teachers"] == result["teachers"]
    assert (folder / "student.safetensors").read_bytes() == before
    with pytest.raises(KDError, match="was begun with teacher"):
        distill({**settings, "teacher": [str(agent.path), best], "resume": True})


def test_without_teacher_selection_every_teacher_has_the_same_weight(agents: dict[str, Agent], tmp_path: Path) -> None:
    agent = agents["Discrete"]
    copy = str(shutil.copy(agent.path, tmp_path / "copy.zip"))
    settings = {**TINY, "env": agent.env_id, "teacher": [str(agent.path), copy], "out": str(tmp_path / "run")}
    result = distill({**settings, "teacher_gate": False, "combine": "product"})
    assert [record["weight"] for record in result["teachers"]] == [0.5, 0.5]
    assert result["cost"]["selection_steps"] == 0
    assert result["teacher"]["parameters"] == 2 * load_teacher(copy).origin.num_parameters


def test_a_pair_is_checked_and_one_must_have_a_weight() -> None:
    with pytest.raises(KDError, match="good and bits cannot teach together: one acts by categorical"):
        EnsembleTeacher([good(), Fixed("bits", lambda x: x, "bernoulli")])
    weightless = [{"weight": 0.0}, {"weight": 0.0}]
    with pytest.raises(KDError, match="every teacher has weight 0"):
        EnsembleTeacher([good(), good()]).with_weights(weightless)
    with pytest.raises(KDError, match="unknown combine 'mixtrue'; did you mean 'mixture'"):
        EnsembleTeacher([good()], "mixtrue")
    assert load_named(resolve(DistillConfig, {"env": PROBES["Discrete"]}), None) is None
    assert set(RULES) >= {"mixture", "product", "confidence", "routed"}
