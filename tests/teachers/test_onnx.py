"""An ONNX file as a teacher."""

import sys
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from masked_agents import masked_graph, random_masks
from onnx_models import DOUBLE, FLOAT, INT64, STRING, WEIGHT, save, save_linear
from samples import SPACES
from small_agents import VECTOR, VECTORS

from kd_agent import export, load_teacher
from kd_agent.errors import KDError
from kd_agent.policies.policy import Policy


@pytest.mark.parametrize("kind", ["rows", "actions"])
def test_an_onnx_file_is_a_teacher(tmp_path: Path, kind: str) -> None:
    file = save_linear(tmp_path / "t.onnx")
    if kind == "actions":
        nodes = [("MatMul", ["x", "w"], "logits", {}), ("ArgMax", ["logits"], "action", {"axis": 1, "keepdims": 0})]
        save(file, nodes, {"x": (FLOAT, ["n", 4])}, {"action": (INT64, ["n"])})
    teacher = load_teacher(str(tmp_path / "t.onnx"), env=(VECTOR, SPACES["Discrete"]))
    wanted = (VECTORS["obs"] @ WEIGHT).argmax(-1)
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


BOTH = gym.spaces.Dict({"goal": VECTOR, "arm": VECTOR})


def test_inputs_are_told_apart_by_their_names_with_or_without_obs(tmp_path: Path) -> None:
    nodes = [("Sub", ["obs.arm", "goal"], "params", {}), ("Neg", ["obs.arm"], "value", {})]
    inputs = {"goal": (FLOAT, ["n", 4]), "obs.arm": (FLOAT, ["n", 4])}
    outputs = {"value": (FLOAT, ["n", 4]), "params": (FLOAT, ["n", 4])}
    teacher = load_teacher(str(save(tmp_path / "t.onnx", nodes, inputs, outputs)), env=(BOTH, SPACES["Discrete"]))
    arm, goal = VECTORS["obs"], 3 * VECTORS["obs"][::-1]
    # The output named params is read, although it is not the first.
    np.testing.assert_allclose(teacher({"goal": goal, "arm": arm}).params, arm - goal, rtol=1e-6)
    inputs = {"goal": (FLOAT, ["n", 4]), "leg": (FLOAT, ["n", 4])}
    save(tmp_path / "t.onnx", [("Sub", ["leg", "goal"], "params", {})], inputs, {"params": (FLOAT, ["n", 4])})
    with pytest.raises(
        KDError, match=r"inputs are \['goal', 'leg'\], the environment's observations \['arm', 'goal'\]"
    ):
        load_teacher(str(tmp_path / "t.onnx"), env=(BOTH, SPACES["Discrete"]))


def test_an_input_of_doubles_gets_doubles_and_one_of_text_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "t.onnx"
    save(file, [("Neg", ["x"], "y", {})], {"x": (DOUBLE, ["n", 4])}, {"y": (DOUBLE, ["n", 4])})
    teacher = load_teacher(str(file), env=(VECTOR, SPACES["Discrete"]))
    np.testing.assert_array_equal(teacher(VECTORS).params, -VECTORS["obs"])
    save(file, [("Identity", ["x"], "y", {})], {"x": (STRING, ["n", 4])}, {"y": (STRING, ["n", 4])})
    with pytest.raises(KDError, match=r"its inputs are \['obs'\]"):
        load_teacher(str(file), env=(VECTOR, SPACES["Discrete"]))


def test_an_onnx_teacher_needs_the_environment_and_onnxruntime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = str(save_linear(tmp_path / "t.onnx"))
    with pytest.raises(KDError, match=r"t\.onnx: an ONNX file does not say what it acts on; name the environment"):
        load_teacher(file)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(KDError, match=r"t\.onnx: an ONNX teacher needs: pip install onnxruntime"):
        load_teacher(file, env=(VECTOR, SPACES["Discrete"]))


def test_without_the_onnx_package_parameters_are_not_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = str(save_linear(tmp_path / "t.onnx"))
    monkeypatch.setitem(sys.modules, "onnx", None)
    teacher = load_teacher(file, env=(VECTOR, SPACES["Discrete"]))
    assert teacher.origin.num_parameters == 0
    assert teacher(VECTORS).params.shape == (6, 4)


def test_an_exported_policy_that_plays_with_masks_teaches_with_them(tmp_path: Path) -> None:
    graph = masked_graph()
    export(graph, tmp_path / "t.onnx")
    teacher = load_teacher(str(tmp_path / "t.onnx"), env=(VECTOR, SPACES["Discrete"]))
    assert teacher.expects_masks
    masks = random_masks([4], len(VECTORS["obs"]), np.random.default_rng(0))
    for action_masks in (masks, None):
        label = teacher.label(VECTORS, action_masks=action_masks)
        np.testing.assert_allclose(label.params, Policy(graph).params(VECTORS["obs"], action_masks), atol=1e-5)
