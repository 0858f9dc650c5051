"""Teachers that are no zips of SB3, and zips that only SB3 can load."""

import json
import os
import zipfile
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from samples import SPACES, make_graph
from stable_baselines3 import DQN, PPO, SAC
from stable_baselines3.common.policies import ActorCriticPolicy

from kd_agent import load_teacher
from kd_agent.errors import KDError
from kd_agent.policies import file as graph_file
from kd_agent.policies.policy import Policy
from kd_agent.teachers._density import STATED_LOGIT, STATED_STD

SEEN = gym.spaces.Box(-1, 1, (4,), np.float32)
BATCH = {"obs": np.random.default_rng(0).uniform(-1, 1, (6, 4)).astype(np.float32)}


class Probe(gym.Env[Any, Any]):
    def __init__(self, action_space: gym.Space[Any]) -> None:
        self.observation_space, self.action_space = SEEN, action_space

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        return self.observation_space.sample(), 0.0, False, False, {}


ACTIONS = {
    "Discrete": lambda x: x.argmax(-1),
    "MultiDiscrete": lambda x: np.stack([x[:, :3].argmax(-1), x.argmax(-1)], -1),
    "MultiBinary": lambda x: (x[:, :3] > 0).astype(np.int8),
    "Box": lambda x: np.clip(2 * x[:, :2], [-1, -2], [1, 3]),
}


@pytest.mark.parametrize("name", ACTIONS)
def test_a_function_that_acts_gets_the_stated_density(name: str) -> None:
    teacher = load_teacher(ACTIONS[name], env=(SEEN, SPACES[name]))
    params = teacher(BATCH).params
    assert params.shape == (6, teacher.head.num_params)
    np.testing.assert_allclose(
        teacher.predict(BATCH["obs"], deterministic=True)[0], ACTIONS[name](BATCH["obs"]), atol=1e-6
    )
    if name == "Box":
        np.testing.assert_allclose(params[0, 2:].exp(), [STATED_STD * 1, STATED_STD * 2.5], rtol=1e-6)
    else:
        assert params.max() - params.min() == STATED_LOGIT


@pytest.mark.parametrize("name", ACTIONS)
def test_a_function_that_answers_rows_keeps_them(name: str) -> None:
    size = load_teacher(ACTIONS[name], env=(SEEN, SPACES[name])).head.num_params
    rows = np.random.default_rng(1).normal(size=(6, size))
    teacher = load_teacher(lambda x: rows, env=(SEEN, SPACES[name]))
    np.testing.assert_allclose(teacher(BATCH).params, rows, rtol=1e-6)


def test_a_function_that_answers_something_else_is_named() -> None:
    def strange(x: Any) -> Any:
        return np.zeros((len(x), 7))

    teacher = load_teacher(strange, env=(SEEN, SPACES["Discrete"]))
    with pytest.raises(KDError, match=r"strange: answered with shape \(6, 7\)"):
        teacher(BATCH)
    with pytest.raises(KDError, match="give the environment's spaces"):
        load_teacher(strange)


def test_a_torch_module_is_queried_in_eval_mode_and_never_changed() -> None:
    module = torch.nn.Sequential(
        torch.nn.Linear(4, 8), torch.nn.BatchNorm1d(8), torch.nn.Dropout(0.5), torch.nn.Linear(8, 4)
    )
    before = {key: value.clone() for key, value in module.state_dict().items()}
    teacher = load_teacher(module, env=(SEEN, SPACES["Discrete"]))
    first = teacher(BATCH).params
    assert not first.requires_grad
    torch.testing.assert_close(teacher(BATCH).params, first, atol=0, rtol=0)
    assert module.training
    assert all(torch.equal(before[key], value) for key, value in module.state_dict().items())
    assert teacher.origin.num_parameters == sum(p.numel() for p in module.parameters())
    other = load_teacher(torch.nn.Linear(4, 4), env=(SEEN, SPACES["Discrete"]))
    assert other.origin.sha256 != teacher.origin.sha256


def test_a_function_sees_a_dict_as_a_mapping() -> None:
    space = gym.spaces.Dict({"a": SEEN, "b": gym.spaces.Discrete(3)})
    teacher = load_teacher(lambda obs: obs["b"], env=(space, gym.spaces.Discrete(3)))
    assert teacher({"a": BATCH["obs"], "b": np.array([0, 1, 2, 0, 1, 2])}).params.argmax(-1).tolist() == [0, 1, 2] * 2


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
    teacher = load_teacher(str(tmp_path / "t.onnx"), env=(SEEN, SPACES["Discrete"]))
    wanted = (BATCH["obs"] @ weight).argmax(-1)
    np.testing.assert_array_equal(teacher.predict(BATCH["obs"], deterministic=True)[0], wanted)
    assert teacher.origin.num_parameters == 16
    with pytest.raises(KDError, match="does not take these observations"):
        load_teacher(str(tmp_path / "t.onnx"), env=(gym.spaces.Box(-1, 1, (5,)), SPACES["Discrete"]))(
            {"obs": np.zeros((2, 5), np.float32)}
        )


def test_a_damaged_onnx_file_is_one_line(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    (tmp_path / "t.onnx").write_bytes(b"\x08\x08garbage")
    with pytest.raises(KDError, match="is no usable ONNX model") as caught:
        load_teacher(str(tmp_path / "t.onnx"), env=(SEEN, SPACES["Discrete"]))
    assert "\n" not in str(caught.value)


def test_a_saved_student_is_a_teacher(tmp_path: Path) -> None:
    graph = make_graph()
    path = graph_file.write(graph, tmp_path / "s.safetensors")
    teacher = load_teacher(str(path))
    batch = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    np.testing.assert_array_equal(teacher({"obs": batch}).params, Policy(graph).params(batch))


class OwnPolicy(ActorCriticPolicy):
    """A policy that nobody can know."""


@pytest.fixture
def own(tmp_path: Path) -> tuple[PPO, Path]:
    model = PPO(OwnPolicy, Probe(SPACES["Discrete"]), n_steps=8, batch_size=8, device="cpu")
    model.save(tmp_path / "own.zip")
    return model, tmp_path / "own.zip"


def test_what_is_not_understood_names_the_flag_and_the_flag_helps(own: Any) -> None:
    model, path = own
    spaces = (SEEN, SPACES["Discrete"])
    with pytest.raises(KDError, match=r"class of its policy is not readable \(module .*--trust-teacher"):
        load_teacher(str(path), env=spaces)
    teacher = load_teacher(str(path), env=spaces, trust_teacher=True)
    wanted, _ = model.predict(BATCH["obs"], deterministic=True)
    np.testing.assert_array_equal(teacher.predict(BATCH["obs"], deterministic=True)[0], wanted)
    assert teacher.origin.algo == "PPO"


@pytest.mark.parametrize(("algorithm", "space"), [(DQN, "Discrete"), (SAC, "Box"), (PPO, "MultiBinary")])
def test_sb3s_loader_serves_other_algorithms_and_spaces(tmp_path: Path, algorithm: Any, space: str) -> None:
    settings = {} if algorithm is PPO else {"buffer_size": 10}
    model = algorithm("MlpPolicy", Probe(SPACES[space]), device="cpu", policy_kwargs={"net_arch": [8]}, **settings)
    model.save(tmp_path / "a.zip")
    forget_class(tmp_path / "a.zip", tmp_path / "b.zip")
    with pytest.raises(KDError, match="--trust-teacher"):
        load_teacher(str(tmp_path / "b.zip"), env=(SEEN, SPACES[space]))
    teacher = load_teacher(str(tmp_path / "b.zip"), env=(SEEN, SPACES[space]), trust_teacher=True)
    wanted, _ = model.predict(BATCH["obs"], deterministic=True)
    np.testing.assert_allclose(teacher.predict(BATCH["obs"], deterministic=True)[0], wanted, atol=1e-5)


def forget_class(path: Path, new: Path) -> None:
    """The same zip without the readable name of the policy's class."""
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(new, "w") as out:
        for info in old.infolist():
            raw = old.read(info)
            if info.filename == "data":
                data = json.loads(raw)
                record = data["policy_class"]
                data["policy_class"] = {key: record[key] for key in (":type:", ":serialized:")}
                raw = json.dumps(data).encode()
            out.writestr(info.filename, raw)


def test_without_the_flag_nothing_in_a_zip_runs(own: Any, tmp_path: Path) -> None:
    import base64
    import pickle

    class Payload:
        def __reduce__(self) -> Any:
            return os.system, (f"touch {tmp_path / 'canary'}",)

    _, path = own
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(tmp_path / "bad.zip", "w") as out:
        for info in old.infolist():
            raw = old.read(info)
            if info.filename == "data":
                data = json.loads(raw)
                data["policy_class"][":serialized:"] = base64.b64encode(pickle.dumps(Payload())).decode()
                raw = json.dumps(data).encode()
            out.writestr(info.filename, raw)
    with pytest.raises(KDError):
        load_teacher(str(tmp_path / "bad.zip"), env=(SEEN, SPACES["Discrete"]))
    assert not (tmp_path / "canary").exists()
