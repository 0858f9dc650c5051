"""An ONNX file as a teacher."""

from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from samples import SPACES
from small_agents import VECTOR, VECTORS

from kd_agent import load_teacher
from kd_agent.errors import KDError


@pytest.mark.parametrize("kind", ["rows", "actions"])
def test_an_onnx_file_is_a_teacher(tmp_path: Path, kind: str) -> None:
    pytest.importorskip("onnxruntime")
    helper = pytest.importorskip("onnx").helper
    weight = np.random.default_rng(0).normal(size=(4, 4)).astype(np.float32)
    nodes = [helper.make_node("MatMul", ["x", "w"], ["logits"])]
    out = helper.make_tensor_value_info("logits", 1, ["n", 4])
    if kind == "actions":
        nodes.append(helper.make_node("ArgMax", ["logits"], ["action"], axis=1, keepdims=0))
        out = helper.make_tensor_value_info("action", 7, ["n"])
    graph = helper.make_graph(nodes, "g", [helper.make_tensor_value_info("x", 1, ["n", 4])], [out],
                              [helper.make_tensor("w", 1, (4, 4), weight.ravel())])  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    (tmp_path / "t.onnx").write_bytes(model.SerializeToString())
    teacher = load_teacher(str(tmp_path / "t.onnx"), env=(VECTOR, SPACES["Discrete"]))
    wanted = (VECTORS["obs"] @ weight).argmax(-1)
    np.testing.assert_array_equal(teacher.predict(VECTORS["obs"], deterministic=True)[0], wanted)
    assert teacher.origin.num_parameters == 16
    with pytest.raises(KDError, match="does not take these observations"):
        load_teacher(str(tmp_path / "t.onnx"), env=(gym.spaces.Box(-1, 1, (5,)), SPACES["Discrete"]))(
            {"obs": np.zeros((2, 5), np.float32)}
        )


def test_a_damaged_onnx_file_is_one_line(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    (tmp_path / "t.onnx").write_bytes(b"\x08\x08garbage")
    with pytest.raises(KDError, match="is no usable ONNX model") as caught:
        load_teacher(str(tmp_path / "t.onnx"), env=(VECTOR, SPACES["Discrete"]))
    assert "\n" not in str(caught.value)
