"""Zips that only Stable-Baselines3 can load, and only where the user says so."""

import json
import os
import zipfile
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from masked_agents import PARTS, random_masks
from masked_agents import SPACES as MASKED_SPACES
from samples import SPACES
from sb3_contrib import MaskablePPO, RecurrentPPO
from sb3_contrib.common.maskable.policies import MaskableActorCriticPolicy
from sb3_contrib.common.recurrent.policies import RecurrentActorCriticPolicy
from small_agents import VECTOR, VECTORS, Fake
from stable_baselines3 import DQN, PPO, SAC
from stable_baselines3.common.policies import ActorCriticPolicy

from kd_agent import load_teacher
from kd_agent.errors import KDError


class OwnPolicy(ActorCriticPolicy):
    """A policy that nobody can know."""


@pytest.fixture
def own(tmp_path: Path) -> tuple[PPO, Path]:
    model = PPO(OwnPolicy, Fake(VECTOR, SPACES["Discrete"]), n_steps=8, batch_size=8, device="cpu")
    model.save(tmp_path / "own.zip")
    return model, tmp_path / "own.zip"


def test_what_is_not_understood_names_the_flag_and_the_flag_helps(own: Any) -> None:
    model, path = own
    spaces = (VECTOR, SPACES["Discrete"])
    with pytest.raises(KDError, match=r"class of its policy is not readable \(module .*--trust-teacher"):
        load_teacher(str(path), env=spaces)
    teacher = load_teacher(str(path), env=spaces, trust_teacher=True)
    wanted, _ = model.predict(VECTORS["obs"], deterministic=True)
    np.testing.assert_array_equal(teacher.predict(VECTORS["obs"], deterministic=True)[0], wanted)
    assert teacher.origin.algo == "PPO"


@pytest.mark.parametrize(("algorithm", "space"), [(DQN, "Discrete"), (SAC, "Box"), (PPO, "MultiBinary")])
def test_sb3s_loader_serves_other_algorithms_and_spaces(tmp_path: Path, algorithm: Any, space: str) -> None:
    settings = {} if algorithm is PPO else {"buffer_size": 10}
    model = algorithm(
        "MlpPolicy", Fake(VECTOR, SPACES[space]), device="cpu", policy_kwargs={"net_arch": [8]}, **settings
    )
    model.save(tmp_path / "a.zip")
    forget_class(tmp_path / "a.zip", tmp_path / "b.zip")
    with pytest.raises(KDError, match="--trust-teacher"):
        load_teacher(str(tmp_path / "b.zip"), env=(VECTOR, SPACES[space]))
    teacher = load_teacher(str(tmp_path / "b.zip"), env=(VECTOR, SPACES[space]), trust_teacher=True)
    wanted, _ = model.predict(VECTORS["obs"], deterministic=True)
    np.testing.assert_allclose(teacher.predict(VECTORS["obs"], deterministic=True)[0], wanted, atol=1e-5)


class OwnMemory(RecurrentActorCriticPolicy):
    """A recurrent policy that nobody can know."""


class OwnMasks(MaskableActorCriticPolicy):
    """A policy with masks that nobody can know."""


@pytest.mark.parametrize("space", ["Discrete", "Box"])
def test_a_recurrent_agent_is_asked_with_its_memory(tmp_path: Path, space: str) -> None:
    settings: dict[str, Any] = {"n_steps": 8, "batch_size": 8, "policy_kwargs": {"lstm_hidden_size": 5}}
    model = RecurrentPPO(OwnMemory, Fake(VECTOR, SPACES[space]), seed=0, device="cpu", **settings)
    with torch.no_grad():
        for parameter in model.policy.parameters():
            parameter.mul_(4)
    model.save(tmp_path / "own.zip")
    spaces = (VECTOR, SPACES[space])
    teacher = load_teacher(str(tmp_path / "own.zip"), env=spaces, trust_teacher=True)
    assert teacher.recurrent
    assert (teacher.origin.algo, teacher.origin.num_parameters) == ("RecurrentPPO", None)
    rng = np.random.default_rng(0)
    state: Any = None
    own: Any = None
    for step in range(6):
        batch = rng.uniform(-1, 1, (3, 4)).astype(np.float32)
        starts = np.array([step == 0, step in (0, 2), step == 0])
        wanted, own = model.predict(batch, own, starts, deterministic=True)
        found, state = teacher.predict(batch, state, starts, deterministic=True)
        np.testing.assert_allclose(found, wanted, atol=1e-5)
        assert [part.shape for part in state] == [(3, 1, 5), (3, 1, 5)]
        np.testing.assert_allclose(state[0][:, 0], own[0][0], atol=1e-6)


@pytest.mark.parametrize("space", PARTS)
def test_an_agent_with_masks_is_loaded_by_its_own_algorithm_and_plays_with_them(tmp_path: Path, space: str) -> None:
    spaces = (VECTOR, MASKED_SPACES[space])
    model = MaskablePPO(OwnMasks, Fake(*spaces), n_steps=8, batch_size=8, seed=0, device="cpu")
    with torch.no_grad():
        for parameter in model.policy.parameters():
            parameter.mul_(8)
    model.save(tmp_path / "own.zip")
    teacher = load_teacher(str(tmp_path / "own.zip"), env=spaces, trust_teacher=True)
    assert teacher.origin.algo == "MaskablePPO"
    assert teacher.expects_masks
    rng = np.random.default_rng(0)
    observations = rng.uniform(-1, 1, (100, 4)).astype(np.float32)
    for masks in (None, random_masks(PARTS[space], 100, rng)):
        wanted, _ = model.predict(observations, deterministic=True, action_masks=masks)
        found, _ = teacher.predict(observations, deterministic=True, action_masks=masks)
        np.testing.assert_array_equal(found, wanted)


def test_two_trusted_zips_of_one_name_are_two_teachers(own: Any) -> None:
    model, path = own
    first = load_teacher(str(path), env=(VECTOR, SPACES["Discrete"]), trust_teacher=True).origin
    with torch.no_grad():
        model.policy.action_net.weight.mul_(2)
    model.save(path)
    second = load_teacher(str(path), env=(VECTOR, SPACES["Discrete"]), trust_teacher=True).origin
    assert first.source == second.source
    assert first.sha256 != second.sha256


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
        load_teacher(str(tmp_path / "bad.zip"), env=(VECTOR, SPACES["Discrete"]))
    assert not (tmp_path / "canary").exists()


def test_an_agent_acts_from_0_whatever_the_start_of_its_actions(tmp_path: Path) -> None:
    pair = VECTOR, gym.spaces.Discrete(3, start=2)
    model = PPO(OwnPolicy, Fake(*pair), seed=0)
    model.save(tmp_path / "a.zip")
    teacher = load_teacher(str(tmp_path / "a.zip"), env=pair, trust_teacher=True)
    seen = np.stack([VECTOR.sample() for _ in range(20)])
    actions = teacher.predict(seen, deterministic=True)[0]
    assert (actions == model.predict(seen, deterministic=True)[0]).all()
