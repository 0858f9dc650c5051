"""What the tests of this room share: a world that drifts, a teacher, and a student from before the drift."""

from pathlib import Path
from typing import Any

import pytest
from drifting import ENV, OLD, DriftingProbe
from samples import Agent, settings

from kd_agent import distill, load_teacher
from kd_agent.networks.base import Teacher


@pytest.fixture
def world(register_env: Any) -> str:
    return str(register_env(ENV, DriftingProbe, max_episode_steps=50))


@pytest.fixture
def teacher(agents: dict[str, Agent]) -> Teacher:
    return load_teacher(str(agents["Discrete"].path))


@pytest.fixture(scope="session")
def run(agents: dict[str, Agent], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of a student that agrees with its teacher in the old world."""
    folder = tmp_path_factory.mktemp("old") / "run"
    distill(settings(agents["Discrete"], folder, **OLD))
    return folder
