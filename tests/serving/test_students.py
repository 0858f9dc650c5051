"""Served students: names that tell them apart, memories that last from call to call, and rows that leave no trace."""

from pathlib import Path

import numpy as np
import pytest
from masked_agents import masked_graph
from sample_graphs import memory_graph
from samples import make_graph
from task_graphs import make_tasks

from kd_agent import KDError
from kd_agent.policies import file as graph_file
from kd_agent.policies.policy import Policy
from kd_agent.serving.students import ServedStudent, served_students

STEPS = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)


def test_a_student_is_called_by_its_file_or_a_runs_by_its_environment(tmp_path: Path) -> None:
    files = []
    for name in ("lander.safetensors", "student.safetensors", "1/student.safetensors", "2/student.safetensors"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        files.append(str(graph_file.write(make_graph(), tmp_path / name)))
    found = served_students(files)
    assert list(found) == ["lander", "CartPole-v1", "CartPole-v1-2", "CartPole-v1-3"]
    assert [student.file for student in found.values()] == files
    assert [student.describe()["name"] for student in found.values()] == list(found)


def test_each_task_of_a_file_is_one(tmp_path: Path) -> None:
    graph = make_tasks()
    file = str(graph_file.write(graph, tmp_path / "student.safetensors"))
    found = served_students([file])
    assert sorted(found) == sorted(graph.tasks)
    for name, student in found.items():
        assert student.task == name
        assert student.policy.graph.head == graph.task(name).head


def test_a_file_that_is_no_student_is_named(tmp_path: Path) -> None:
    (tmp_path / "broken.safetensors").write_bytes(b"nothing")
    with pytest.raises(KDError, match=r"broken\.safetensors: not a safetensors file"):
        served_students([str(tmp_path / "broken.safetensors")])
    with pytest.raises(KDError, match=r"absent\.safetensors: there is no such file"):
        served_students([str(tmp_path / "absent.safetensors")])


def test_a_typed_environment_gives_the_names(tmp_path: Path) -> None:
    file = str(graph_file.write(make_graph(provenance={"env": "nowhere-v0"}), tmp_path / "s.safetensors"))
    [blank] = served_students([file]).values()
    assert blank.describe()["observation"]["type"] == "array"
    [named] = served_students([file], env="some_module:CartPole-v1").values()
    assert named.env_id == "CartPole-v1"
    assert "pole angle" in named.describe()["observation"]["anyOf"][0]["properties"]


def test_a_memory_lasts_until_it_is_reset() -> None:
    graph = memory_graph("gru")
    student = ServedStudent("gru", "", graph)
    policy = Policy(graph)
    memory = None
    rows = []
    for step in STEPS:
        row, following = policy.step_batch({"obs": step[None]}, memory)
        np.testing.assert_allclose(student.rows({"obs": step[None]}, None), row, atol=1e-6)
        assert int(student.act({"obs": step}, None)) == int(policy.graph.head.greedy(row)[0])
        memory = following
        rows.append(row)
    # What it says first differs from what it says there later, and says again after a reset.
    first = {"obs": STEPS[:1]}
    assert not np.allclose(student.rows(first, None), rows[0])
    student.forget()
    np.testing.assert_allclose(student.rows(first, None), rows[0], atol=1e-6)


def test_what_has_no_memory_is_not_reset() -> None:
    with pytest.raises(KDError, match="reset: 'mlp' has no memory to reset; leave it out"):
        ServedStudent("mlp", "", make_graph()).forget()


def test_a_mask_reaches_actions_and_rows() -> None:
    for graph in (masked_graph(), memory_graph("lstm")):
        student = ServedStudent("s", "", graph)
        own = (
            int(student.act({"obs": STEPS[0]}, None))
            if graph.states
            else int(np.argmax(student.rows({"obs": STEPS[:1]}, None)))
        )
        flags = np.arange(4) != own
        if graph.states:
            student.forget()
        row = student.rows({"obs": STEPS[:1]}, flags)[0]
        assert row[own] < -1e7
        assert int(student.act({"obs": STEPS[0]}, flags)) == int(row.argmax()) != own


def test_a_sampled_student_draws_by_the_seed() -> None:
    graph = make_graph(provenance={"env": "CartPole-v1", "play": "sampled"})
    drawn = []
    for seed in (1, 1, 2):
        student = ServedStudent("s", "", graph, seed=seed)
        drawn.append([int(student.act({"obs": STEPS[0]}, None)) for _ in range(40)])
    assert drawn[0] == drawn[1] != drawn[2]
    assert len(set(drawn[0])) > 1
