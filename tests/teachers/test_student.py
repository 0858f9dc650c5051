"""A saved student as a teacher."""

from hashlib import sha256
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from samples import SPACES, make_graph
from small_agents import VECTOR, VECTORS

from kd_agent import KDError, load_teacher
from kd_agent.policies import file as graph_file
from kd_agent.policies.policy import Policy


def test_a_saved_student_is_a_teacher(tmp_path: Path) -> None:
    graph = make_graph()
    path = graph_file.write(graph, tmp_path / "s.safetensors")
    teacher = load_teacher(str(path))
    batch = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    np.testing.assert_array_equal(teacher({"obs": batch}).params, Policy(graph).params(batch))


def test_its_origin_is_the_file(tmp_path: Path) -> None:
    graph = make_graph()
    path = graph_file.write(graph, tmp_path / "s.safetensors")
    origin = load_teacher(str(path)).origin
    assert (origin.source, origin.algo, origin.num_parameters) == (str(path), "student", graph.num_parameters)
    assert origin.sha256 == sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("kind", ["diag_gaussian", "squashed_gaussian"])
def test_a_student_of_other_spaces_is_refused_by_name(tmp_path: Path, kind: str) -> None:
    path = str(graph_file.write(make_graph(kind), tmp_path / "s.safetensors"))
    assert load_teacher(path, env=(VECTOR, SPACES["Box"])).head.kind == kind
    with pytest.raises(KDError, match=r"s\.safetensors: expects observation 'obs' of shape \(4,\).* has \(5,\)"):
        load_teacher(path, env=(gym.spaces.Box(-1, 1, (5,)), SPACES["Box"]))
    with pytest.raises(KDError, match=rf"s\.safetensors: acts by {kind}"):
        load_teacher(path, env=(VECTOR, SPACES["Discrete"]))
    with pytest.raises(KDError, match="action bounds are not those"):
        load_teacher(path, env=(VECTOR, gym.spaces.Box(-7, 7, (2,))))


def test_a_student_with_a_memory_is_a_recurrent_teacher(tmp_path: Path) -> None:
    graph = make_graph(name="gru")
    teacher = load_teacher(str(graph_file.write(graph, tmp_path / "s.safetensors")))
    assert teacher.recurrent
    first = teacher(VECTORS)
    second = teacher(VECTORS, first.state, np.zeros(6, bool))
    assert not np.allclose(second.params, first.params)
    anew = teacher(VECTORS, first.state, np.ones(6, bool))
    np.testing.assert_array_equal(anew.params, first.params)
