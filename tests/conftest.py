"""What several test files share: tiny agents, trained once per session, and the folder of public teachers."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import kd_envs  # noqa: F401 - registers the probes
import played
import pytest
import torch
from samples import PROBES, ROOT, SPACES, Agent, settings, train_agent
from stable_baselines3 import A2C

from kd_agent import distill

torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def few_states() -> Iterator[None]:
    """KL and agreement on fewer episodes than a real verdict's, in which a small run would spend most of its time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("kd_agent.evaluation.agreement.EPISODES", 4)
        patch.setattr("kd_agent.evaluation.agreement.STATES", 320)
        yield


@pytest.fixture(scope="session")
def agents(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Agent]:
    """An agent of Stable-Baselines3 for each action space, by the space's name."""
    folder = tmp_path_factory.mktemp("agents")
    return {name: train_agent(folder / f"{name}.zip", env_id) for name, env_id in PROBES.items()}


@pytest.fixture(params=sorted(SPACES))
def space_name(request: pytest.FixtureRequest) -> str:
    """Each action space in turn."""
    return str(request.param)


@pytest.fixture
def agent(agents: dict[str, Agent], space_name: str) -> Agent:
    """The agent of each action space in turn."""
    return agents[space_name]


@pytest.fixture(scope="session")
def public_teachers() -> Path:
    """The folder of public agents beside the checkout."""
    folder = ROOT.parent / "shared" / "teachers"
    if not folder.is_dir():
        pytest.skip("the public teachers (../shared/teachers) are not here")
    return folder


@pytest.fixture
def register_env() -> Iterator[Any]:
    """Registers an environment class under an id for one test."""
    added: list[str] = []

    def register(env_id: str, entry_point: Any, **more: Any) -> str:
        gym.register(env_id, entry_point, **more)
        added.append(env_id)
        return env_id

    yield register
    for env_id in added:
        gym.registry.pop(env_id)


@pytest.fixture(scope="session")
def runs(agents: dict[str, Agent], tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, dict[str, Any]]]:
    """A finished run for each action space: its folder and its result."""
    folders = {name: tmp_path_factory.mktemp("runs") / name for name in SPACES}
    return {name: (folder, distill(settings(agents[name], folder))) for name, folder in folders.items()}


@pytest.fixture(scope="session")
def expected(runs: dict[str, tuple[Path, dict[str, Any]]]) -> bytes:
    """The student's file of the uninterrupted Discrete run."""
    return (runs["Discrete"][0] / "student.safetensors").read_bytes()


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The zip of a small A2C agent for the Discrete probe."""
    policy = {"activation_fn": torch.nn.ReLU, "net_arch": {"pi": [7], "vf": [5, 6]}}
    path = tmp_path_factory.mktemp("small") / "a2c.zip"
    return train_agent(path, PROBES["Discrete"], A2C, policy_kwargs=policy).path


# Godot's web build reads no project from a folder, as a program does: it is handed one file.
GODOT = """#!{python}
import subprocess, sys, zipfile
from pathlib import Path
assert sys.argv[1:3] == ["--headless", "--path"]
folder = Path(sys.argv[3])
with zipfile.ZipFile(folder / "game.zip", "w") as game:
    for name in ("project.godot", "main.tscn", "main.gd", "policy.gd", "steps.bin"):
        game.write(folder / name, name)
done = subprocess.run(["node", "{runner}", "{engine}", str(folder)], stderr=subprocess.PIPE, text=True)
print(done.stderr)
"""


@pytest.fixture
def godot(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program named `godot`, where there is an engine."""
    engine = os.environ.get(played.GODOT)
    if not engine:
        return
    folder = tmp_path_factory.mktemp("bin")
    program = folder / "godot"
    program.write_text(GODOT.format(python=sys.executable, runner=played.HERE / "godot.js", engine=engine))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
