"""A saved student as a teacher."""

from pathlib import Path

import numpy as np
from samples import make_graph

from kd_agent import load_teacher
from kd_agent.policies import file as graph_file
from kd_agent.policies.policy import Policy


def test_a_saved_student_is_a_teacher(tmp_path: Path) -> None:
    graph = make_graph()
    path = graph_file.write(graph, tmp_path / "s.safetensors")
    teacher = load_teacher(str(path))
    batch = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    np.testing.assert_array_equal(teacher({"obs": batch}).params, Policy(graph).params(batch))
