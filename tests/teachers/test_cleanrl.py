"""Models of CleanRL's scripts: what their files leave out, and where they act."""

import warnings
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from saved_policies import BY_FILE, greedy

from kd_agent import KDError, load_teacher

CONTINUOUS = BY_FILE["cleanrl/ppocontinuous.cleanrl_model"]
OBSERVATIONS = CONTINUOUS.answers()["observations"]


@pytest.fixture(autouse=True)
def quiet() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def test_statistics_that_the_file_leaves_out_are_asked_for_and_applied(tmp_path: Path) -> None:
    path = str(CONTINUOUS.path)
    with pytest.raises(KDError, match=r"keeps the statistics out of the file \(--statistics FILE"):
        load_teacher(path, env=CONTINUOUS.env)
    mean, var = np.float64([1, -1, 0.5]), np.float64([4, 0.25, 1])
    np.savez(tmp_path / "s.npz", mean=mean, var=var, clip=10.0, epsilon=1e-8)
    raw = load_teacher(path, env=CONTINUOUS.env, allow_missing_statistics=True)
    normal = load_teacher(path, env=CONTINUOUS.env, statistics=str(tmp_path / "s.npz"))
    shown = np.clip((OBSERVATIONS - mean) / np.sqrt(var), -10, 10).astype(np.float32)
    np.testing.assert_allclose(greedy(normal, OBSERVATIONS), greedy(raw, shown), atol=1e-5)
    assert np.abs(greedy(normal, OBSERVATIONS) - greedy(raw, OBSERVATIONS)).max() > 0.5
    np.savez(tmp_path / "s.npz", mean=np.zeros(5), var=np.ones(5), clip=10.0, epsilon=1e-8)
    with pytest.raises(KDError, match=r"statistics of shape \(5,\)"):
        load_teacher(path, env=CONTINUOUS.env, statistics=str(tmp_path / "s.npz"))


@pytest.mark.parametrize("file", ["cleanrl/td3.cleanrl_model", "cleanrl/sac.cleanrl_model"])
def test_the_box_that_a_file_says_is_held_against_the_environments(file: str) -> None:
    saved = BY_FILE[file]
    other = (saved.env[0], gym.spaces.Box(-1, 1, (1,), np.float32))
    with pytest.raises(KDError, match=r"acts between \[-2\.0\] and \[2\.0\], the environment in Box\(-1"):
        load_teacher(str(saved.path), env=other)


def test_a_network_in_which_a_tensor_is_left_over_is_refused(tmp_path: Path) -> None:
    state = torch.load(BY_FILE["cleanrl/dqn.cleanrl_model"].path, weights_only=True)
    state["network.1.weight"] = torch.ones(12)
    torch.save(state, tmp_path / "a.cleanrl_model")
    with pytest.raises(KDError, match=r"network\.1\.weight.* is not understood as one of CleanRL"):
        load_teacher(str(tmp_path / "a.cleanrl_model"), env=BY_FILE["cleanrl/dqn.cleanrl_model"].env)


def test_weights_beside_their_arguments_are_read(tmp_path: Path) -> None:
    saved = BY_FILE["cleanrl/dqn.cleanrl_model"]
    state = torch.load(saved.path, weights_only=True)
    torch.save({"model_weights": state, "args": {"seed": 1}}, tmp_path / "a.cleanrl_model")
    teacher = load_teacher(str(tmp_path / "a.cleanrl_model"), env=saved.env)
    answers = saved.answers()
    np.testing.assert_array_equal(greedy(teacher, answers["observations"]), answers["actions"])


def test_pictures_are_not_read_yet(tmp_path: Path) -> None:
    state = {f"network.{i}.weight": torch.zeros(8, 4, 3, 3) for i in (0, 2, 4)}
    torch.save(state, tmp_path / "a.cleanrl_model")
    image = gym.spaces.Box(0, 255, (4, 84, 84), np.uint8)
    with pytest.raises(KDError, match="has no linear layers; of CleanRL, policies without convolutions are read"):
        load_teacher(str(tmp_path / "a.cleanrl_model"), env=(image, gym.spaces.Discrete(2)))
