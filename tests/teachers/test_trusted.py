"""Zips that only Stable-Baselines3 can load, and only where the user says so."""

import json
import os
import zipfile
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from samples import SPACES
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
