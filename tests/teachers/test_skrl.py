"""Agents of skrl, of its versions and algorithms."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from saved_policies import BY_FILE, greedy

from kd_agent import KDError, load_teacher

SHARED = BY_FILE["skrl/agent_shared.pt"]
OBSERVATIONS = SHARED.answers()["observations"]


@pytest.fixture(autouse=True)
def quiet() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@pytest.fixture
def state() -> dict[str, Any]:
    """What the agent with a scaler and a shared model saved."""
    return dict(torch.load(SHARED.path, weights_only=True))


def actions(state: dict[str, Any], folder: Path) -> np.ndarray:
    torch.save(state, folder / "agent_1.pt")
    return greedy(load_teacher(str(folder / "agent_1.pt"), env=SHARED.env), OBSERVATIONS)


def test_the_scaler_of_before_version_2_has_another_name(state: dict[str, Any], tmp_path: Path) -> None:
    expected = actions(state, tmp_path)
    state["state_preprocessor"] = state.pop("observation_preprocessor")
    np.testing.assert_array_equal(actions(state, tmp_path), expected)
    del state["state_preprocessor"]
    assert np.abs(actions(state, tmp_path) - expected).max() > 0.05


def test_the_scaler_clips_at_5_standard_deviations() -> None:
    teacher = load_teacher(str(SHARED.path), env=SHARED.env)
    far = np.float32([[50, 0, 0], [500, 0, 0]])
    rows = teacher({"obs": far}).params
    assert torch.equal(rows[0], rows[1])
    [step] = [op for op in teacher.to_graph().ops if op.kind == "normalise"]
    assert step.attributes["clip"] == 5


@pytest.mark.parametrize(
    ("models", "algo"),
    [
        (("value",), "PPO"),
        (("critic_1", "critic_2"), "SAC"),
        (("target_policy", "critic_1"), "TD3"),
        (("target_policy", "critic"), "DDPG"),
    ],
)
def test_the_algorithm_is_told_by_its_models(
    models: tuple[str, ...], algo: str, state: dict[str, Any], tmp_path: Path
) -> None:
    policy = state["policy"]
    torch.save({"policy": policy, **dict.fromkeys(models, policy)}, tmp_path / "agent.pt")
    teacher = load_teacher(str(tmp_path / "agent.pt"), env=SHARED.env)
    assert teacher.origin.algo == f"skrl {algo}"
    assert teacher.head.kind == ("diag_gaussian" if algo == "PPO" else "squashed_gaussian")


def test_log_standard_deviations_are_clipped_as_skrl_clips_them(state: dict[str, Any], tmp_path: Path) -> None:
    state["policy"]["log_std_parameter"] = torch.tensor([5.0])
    torch.save(state, tmp_path / "agent.pt")
    row = load_teacher(str(tmp_path / "agent.pt"), env=SHARED.env)({"obs": OBSERVATIONS[:1]}).params
    assert row[0, 1] == 2


def test_a_memory_or_a_tensor_of_another_make_is_refused(state: dict[str, Any], tmp_path: Path) -> None:
    state["policy"]["lstm.weight_ih_l0"] = torch.zeros(32, 3)
    with pytest.raises(KDError, match=r"lstm\.weight_ih_l0.* is not understood as one of skrl"):
        actions(state, tmp_path)
    torch.save({"policy": {}, "value": {"a": torch.zeros(1)}}, tmp_path / "agent.pt")
    with pytest.raises(KDError, match="those of no policy"):
        load_teacher(str(tmp_path / "agent.pt"), env=SHARED.env)
    torch.save({"policy": {"a": torch.zeros(1)}, "value": {"a": torch.zeros(1)}}, tmp_path / "agent.pt")
    with pytest.raises(KDError, match="no agent of skrl with linear layers"):
        load_teacher(str(tmp_path / "agent.pt"), env=SHARED.env)
