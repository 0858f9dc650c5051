"""Checkpoints of rsl_rl, of its versions and kinds."""

import warnings
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from saved_policies import BY_FILE, FORCES, greedy

from kd_agent import KDError, load_teacher

MLP = BY_FILE["rsl_rl/model_mlp.pt"]
OBSERVATIONS = MLP.answers()["observations"]


@pytest.fixture(autouse=True)
def quiet() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def state_of(file: str) -> dict[str, Any]:
    return dict(torch.load(BY_FILE[file].path, weights_only=True))


def actions(path: Path) -> np.ndarray:
    return greedy(load_teacher(str(path), env=MLP.env), OBSERVATIONS)


def before_version_4(state: dict[str, Any], role: str, memory: str) -> dict[str, Any]:
    """The same policy as one module, as rsl_rl saved it then."""
    renamed = {
        "std": state["distribution.std_param"],
        "critic.0.weight": torch.zeros(3, 4),
        "critic.0.bias": torch.zeros(3),
    }
    for name, tensor in state.items():
        part, _, rest = name.partition(".")
        new = {"mlp": f"{role}.", "obs_normalizer": f"{role}_obs_normalizer.", "rnn": f"{memory}."}.get(part)
        if new:
            renamed[new + rest] = tensor
    return renamed


@pytest.mark.parametrize(("role", "memory"), [("actor", "memory_a"), ("student", "memory_s")])
@pytest.mark.parametrize("file", ["rsl_rl/model_mlp.pt", "rsl_rl/model_lstm.pt"])
def test_older_checkpoints_are_the_same_policy(file: str, role: str, memory: str, tmp_path: Path) -> None:
    state = before_version_4(state_of(file)["actor_state_dict"], role, memory)
    torch.save({"model_state_dict": state, "iter": 1}, tmp_path / "model_1.pt")
    np.testing.assert_array_equal(actions(tmp_path / "model_1.pt"), actions(BY_FILE[file].path))


def test_the_normaliser_of_before_version_3_lay_beside_the_model(tmp_path: Path) -> None:
    state = before_version_4(state_of("rsl_rl/model_mlp.pt")["actor_state_dict"], "actor", "memory_a")
    beside = {}
    for name in list(state):
        if name.startswith("actor_obs_normalizer."):
            beside[name.removeprefix("actor_obs_normalizer.")] = state.pop(name)
    torch.save({"model_state_dict": state}, tmp_path / "a.pt")
    assert np.abs(actions(tmp_path / "a.pt") - actions(MLP.path)).max() > 0.1
    torch.save({"model_state_dict": state, "obs_norm_state_dict": beside}, tmp_path / "a.pt")
    np.testing.assert_array_equal(actions(tmp_path / "a.pt"), actions(MLP.path))


def test_of_a_distillation_the_student_is_read_and_not_its_teacher(tmp_path: Path) -> None:
    state = state_of("rsl_rl/model_student.pt")
    for tensor in state["teacher_state_dict"].values():
        tensor.fill_(torch.nan) if tensor.is_floating_point() else tensor
    torch.save(state, tmp_path / "model.pt")
    saved = BY_FILE["rsl_rl/model_student.pt"]
    teacher = load_teacher(str(tmp_path / "model.pt"), env=saved.env)
    np.testing.assert_allclose(greedy(teacher, OBSERVATIONS), saved.answers()["actions"], atol=1e-5)
    assert teacher.origin.algo == "rsl_rl distillation"


def test_what_a_checkpoint_does_not_tell_apart_is_refused(tmp_path: Path) -> None:
    state = state_of("rsl_rl/model_mlp.pt")
    actor = state["actor_state_dict"]
    del actor["distribution.std_param"]
    actor["mlp.4.weight"] = actor["mlp.4.weight"].repeat(2, 1)
    actor["mlp.4.bias"] = actor["mlp.4.bias"].repeat(2)
    torch.save(state, tmp_path / "model.pt")
    with pytest.raises(KDError, match=r"4 numbers for 2 actions, as a Beta does.*export_policy_to_onnx"):
        actions(tmp_path / "model.pt")


@pytest.mark.parametrize("name", ["mlp.1.weight", "encoder.0.weight"])
def test_a_network_of_another_make_is_refused(name: str, tmp_path: Path) -> None:
    state = state_of("rsl_rl/model_mlp.pt")
    state["actor_state_dict"][name] = torch.zeros(8)
    torch.save(state, tmp_path / "model.pt")
    with pytest.raises(KDError, match=rf"{name}.* is not understood"):
        actions(tmp_path / "model.pt")


def test_a_standard_deviation_of_nothing_is_refused(tmp_path: Path) -> None:
    state = state_of("rsl_rl/model_mlp.pt")
    state["actor_state_dict"]["distribution.std_param"][0] = 0
    torch.save(state, tmp_path / "model.pt")
    with pytest.raises(KDError, match="not above 0"):
        actions(tmp_path / "model.pt")


def test_its_actions_are_bounded_by_the_box_alone() -> None:
    box = gym.spaces.Box(-0.1, 0.1, (2,), np.float32)
    found = greedy(load_teacher(str(MLP.path), env=(MLP.env[0], box)), OBSERVATIONS)
    raw = greedy(load_teacher(str(MLP.path), env=(MLP.env[0], FORCES)), OBSERVATIONS)
    np.testing.assert_array_equal(found, np.clip(raw, np.float32(-0.1), np.float32(0.1)))


@pytest.mark.parametrize(
    ("name", "tensor", "said"),
    [
        ("distribution.std_param", torch.ones(7), r"deviations of shape \(7,\) for actions of \(2,\)"),
        ("obs_normalizer._std", -torch.ones(1, 4), "a standard deviation of its observations is below 0"),
        ("mlp.2.weight", torch.zeros(6, 5), "its layer 'actor_state_dict.mlp.2' takes 5 numbers, and .* gives 8"),
    ],
)
def test_tensors_that_do_not_fit_one_another_are_one_line(
    name: str, tensor: torch.Tensor, said: str, tmp_path: Path
) -> None:
    state = state_of("rsl_rl/model_mlp.pt")
    state["actor_state_dict"][name] = tensor
    torch.save(state, tmp_path / "model_1.pt")
    with pytest.raises(KDError, match=said):
        actions(tmp_path / "model_1.pt")
