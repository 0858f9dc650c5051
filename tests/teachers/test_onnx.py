"""An ONNX file as a teacher."""

import importlib.util
import sys
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from masked_agents import masked_graph, random_masks
from onnx_models import DOUBLE, FLOAT, INT64, STRING, WEIGHT, save, save_linear
from samples import HEADS, SPACES, make_student
from small_agents import VECTOR, VECTORS

from kd_agent import export, load_teacher
from kd_agent.errors import KDError
from kd_agent.policies.policy import Policy
from kd_agent.teachers import _onnx_process


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


BATCH = {"obs": VECTORS["obs"]}
SCORES = ("MatMul", ["x", "w"], "scores", {})


def loaded(file: Path, space: str = "Discrete", **settings: Any) -> Any:
    return load_teacher(str(file), env=(VECTOR, SPACES[space]), **settings)


@pytest.mark.parametrize("rows", [1, 4, 6, 7])
def test_a_model_of_a_fixed_number_of_rows_is_asked_in_parts(tmp_path: Path, rows: int) -> None:
    file = save(tmp_path / "t.onnx", [SCORES], {"x": (FLOAT, [rows, 4])}, {"scores": (FLOAT, [rows, 4])})
    np.testing.assert_allclose(loaded(file)(BATCH).params, BATCH["obs"] @ WEIGHT, rtol=1e-5)


def test_a_model_without_a_batch_is_asked_row_by_row(tmp_path: Path) -> None:
    nodes = [SCORES, ("ArgMax", ["scores"], "action", {"axis": 0, "keepdims": 0})]
    file = save(tmp_path / "t.onnx", nodes, {"x": (FLOAT, [4])}, {"action": (INT64, []), "scores": (FLOAT, [4])})
    for output in ("action", "scores"):
        actions = loaded(file, onnx_output=output).predict(BATCH["obs"], deterministic=True)[0]
        np.testing.assert_array_equal(actions, (BATCH["obs"] @ WEIGHT).argmax(-1))


def test_the_output_that_fits_is_found_or_named(tmp_path: Path) -> None:
    nodes = [
        SCORES,
        ("ReduceSum", ["x"], "value", {"keepdims": 1}),
        ("ArgMax", ["scores"], "choice", {"axis": 1, "keepdims": 0}),
        ("Neg", ["scores"], "other", {}),
    ]
    inputs = {"x": (FLOAT, ["n", 4])}
    described: dict[str, Any] = {
        "value": (FLOAT, [1, 1]), "scores": (FLOAT, ["n", 4]), "choice": (INT64, ["n"]),
        "other": (FLOAT, ["n", 4]),
    }  # fmt: skip
    file = tmp_path / "t.onnx"
    fitting = {name: described[name] for name in ("value", "scores")}
    save(file, nodes, inputs, fitting)
    np.testing.assert_allclose(loaded(file)(BATCH).params, BATCH["obs"] @ WEIGHT, rtol=1e-5)
    save(file, nodes, inputs, {name: described[name] for name in ("value", "choice", "scores", "other")})
    with pytest.raises(
        KDError, match=r"several of its outputs \(value \[1, 1\], choice .*--onnx-output NAME"
    ) as caught:
        loaded(file)
    assert "\n" not in str(caught.value)
    teacher = loaded(file, onnx_output="other")
    np.testing.assert_allclose(teacher(BATCH).params, -BATCH["obs"] @ WEIGHT, rtol=1e-5)
    assert teacher.origin.sha256 != loaded(file, onnx_output="scores").origin.sha256
    with pytest.raises(KDError, match="unknown --onnx-output 'scors'; did you mean 'scores'"):
        loaded(file, onnx_output="scors")
    save(file, nodes[1:2] + [("Neg", ["value"], "loss", {})], inputs, dict.fromkeys(("value", "loss"), (FLOAT, [1, 1])))
    with pytest.raises(KDError, match="none of its outputs"):
        loaded(file)


@pytest.mark.parametrize(("rows", "names"), [("n", ("h", "h.next")), (1, ("state_in", "state_out")), ("n", ("a", "b"))])
def test_a_state_is_carried_and_begins_anew(tmp_path: Path, rows: Any, names: tuple[str, str]) -> None:
    before, after = names
    nodes = [("Squeeze", [before, "axes"], "last", {}), ("Add", ["x", "last"], "params", {})]
    nodes += [("Unsqueeze", ["params", "axes"], after, {})]
    inputs = {"x": (FLOAT, [rows, 4]), before: (FLOAT, [1, rows, 4])}
    outputs = {"params": (FLOAT, [rows, 4]), after: (FLOAT, [1, rows, 4])}
    file = save(tmp_path / "t.onnx", nodes, inputs, outputs, {"axes": np.array([0])})
    teacher = loaded(file)
    assert teacher.recurrent
    first = teacher(BATCH, None, np.ones(6, bool))
    assert [tuple(part.shape) for part in first.state] == [(6, 1, 4)]
    second = teacher(BATCH, first.state, np.array([False, True, False, False, False, False]))
    wanted = 2 * BATCH["obs"]
    wanted[1] = BATCH["obs"][1]
    np.testing.assert_allclose(second.params, wanted, rtol=1e-5)


def test_a_recurrent_student_comes_back_through_its_export(tmp_path: Path) -> None:
    student = make_student(HEADS["categorical"], "gru")
    export(student.policy(), tmp_path / "t.onnx")
    teacher = loaded(tmp_path / "t.onnx")
    state: Any = None
    own: Any = None
    for step in range(3):
        starts = np.arange(6) % 3 == step
        wanted, own = student.policy().predict(BATCH["obs"], own, starts, deterministic=True)
        found, state = teacher.predict(BATCH["obs"], state, starts, deterministic=True)
        np.testing.assert_array_equal(found, wanted)


def test_an_input_that_is_neither_observation_nor_state_is_named(tmp_path: Path) -> None:
    # The last has masks of other actions than the environment's.
    for name, size in (("context", 4), ("action_masks", 1)):
        nodes = [("Mul", ["obs", name], "params", {})]
        inputs = {"obs": (FLOAT, ["n", 4]), name: (FLOAT, ["n", size])}
        file = save(tmp_path / "t.onnx", nodes, inputs, {"params": (FLOAT, ["n", 4])})
        wanted = rf"its input '{name}' \['n', {size}\] is no observation, and none of"
        with pytest.raises(KDError, match=wanted) as caught:
            loaded(file)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("rows", ["n", 1, 4])
def test_masks_may_be_floats_and_of_a_fixed_batch(tmp_path: Path, rows: Any) -> None:
    nodes = [("Mul", ["obs", "action_masks"], "params", {})]
    inputs = {"obs": (FLOAT, [rows, 4]), "action_masks": (FLOAT, [rows, 4])}
    teacher = loaded(save(tmp_path / "t.onnx", nodes, inputs, {"params": (FLOAT, [rows, 4])}))
    assert teacher.expects_masks
    masks = random_masks([4], len(VECTORS["obs"]), np.random.default_rng(0))
    label = teacher.label(BATCH, action_masks=masks)
    np.testing.assert_allclose(label.params, teacher.head.spec.masked(BATCH["obs"], masks), rtol=1e-6)


def test_a_model_that_wants_gigabytes_or_never_ends_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("resource")
    file = tmp_path / "t.onnx"
    nodes = [("ConstantOfShape", ["huge"], "zeros", {}), ("ReduceSum", ["zeros"], "sum", {"keepdims": 0})]
    nodes += [("Add", ["x", "sum"], "params", {})]
    ports: Any = {"x": (FLOAT, ["n", 4])}, {"params": (FLOAT, ["n", 4])}
    save(file, nodes, *ports, {"huge": np.array([600_000_000])})
    assert file.stat().st_size < 500
    with pytest.raises(KDError) as caught:
        loaded(file)
    assert "\n" not in str(caught.value)
    assert "t.onnx" in str(caught.value)
    endless = tmp_path / "probe.py"
    endless.write_text("import sys\nsys.stdin.buffer.read(9)\n")
    monkeypatch.setattr(_onnx_process, "_SCRIPT", endless)
    with pytest.raises(KDError, match="wants more than 1024 MiB or 20 s"):
        loaded(save_linear(file))


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
    with pytest.raises(KDError, match=r"its input 'x' is of a type that no observation has"):
        load_teacher(str(file), env=(VECTOR, SPACES["Discrete"]))


def test_an_onnx_teacher_needs_the_environment_and_onnxruntime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = str(save_linear(tmp_path / "t.onnx"))
    with pytest.raises(KDError, match=r"t\.onnx: an ONNX file does not say what it acts on; name the environment"):
        load_teacher(file)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(KDError, match=r"t\.onnx: an ONNX teacher needs: pip install onnxruntime"):
        load_teacher(file, env=(VECTOR, SPACES["Discrete"]))


def test_without_the_onnx_package_parameters_are_not_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = str(save_linear(tmp_path / "t.onnx"))
    monkeypatch.setitem(sys.modules, "onnx", None)
    teacher = load_teacher(file, env=(VECTOR, SPACES["Discrete"]))
    assert teacher.origin.num_parameters is None
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


@pytest.mark.parametrize("kind", ["diag_gaussian", "squashed_gaussian"])
def test_our_own_file_says_whether_its_actions_go_through_tanh(kind: str, tmp_path: Path) -> None:
    graph = make_student(HEADS[kind], "mlp", hidden=(5,)).graph({"env": "nowhere-v0"})
    teacher = loaded(export(graph, tmp_path / "t.onnx")[0], "Box")
    assert teacher.head.spec == graph.head
    expected = Policy(graph).predict(BATCH["obs"], deterministic=True)[0]
    np.testing.assert_allclose(teacher.predict(BATCH["obs"], deterministic=True)[0], expected, atol=1e-6)
    # Its actions are in the environment's units either way.
    named = loaded(tmp_path / "t.onnx", "Box", onnx_output="action")
    assert named.head.kind == "diag_gaussian"
    np.testing.assert_allclose(named.predict(BATCH["obs"], deterministic=True)[0], expected, atol=1e-6)
