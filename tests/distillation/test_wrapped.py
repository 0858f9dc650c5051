"""Distilling in wrappers of one's own: for both, for the teacher alone, and for a teacher still to be trained."""

import sys
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from samples import TINY
from stable_baselines3 import PPO

from kd_agent import KDError, distill, load_policy
from kd_agent.commands.cli import run

ENV = "CartPole-v1"
CODE = """
import gymnasium as gym
import numpy as np

class Doubled(gym.ObservationWrapper):
    \"\"\"Shows every number twice.\"\"\"

    def __init__(self, env):
        super().__init__(env)
        self.observation_space = gym.spaces.Box(-np.inf, np.inf, (8,), np.float32)

    def observation(self, observation):
        return np.concatenate([observation, observation])
"""


@pytest.fixture
def word(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A wrapper in a module of the working folder."""
    name = f"wrapped_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(CODE)
    monkeypatch.chdir(tmp_path)
    # The path of a script has no working folder in it; what is added to this copy is gone with the test.
    monkeypatch.setattr(sys, "path", list(sys.path))
    return f"{name}:Doubled"


@pytest.fixture
def teacher(tmp_path: Path) -> str:
    """An agent that reads eight numbers."""

    class Eight(gym.ObservationWrapper[Any, Any, Any]):
        observation_space = gym.spaces.Box(-np.inf, np.inf, (8,), np.float32)

        def observation(self, observation: Any) -> Any:
            return np.concatenate([observation, observation])

    PPO("MlpPolicy", Eight(gym.make(ENV)), policy_kwargs={"net_arch": [8]}, seed=0).save(tmp_path / "t.zip")
    return "t.zip"


def settings(**more: Any) -> dict[str, Any]:
    return {**TINY, "env": ENV, "out": "run", **more}


def test_a_student_remembers_its_wrappers_and_is_played_in_them_once_they_are_typed(
    word: str, teacher: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(KDError, match=r"CartPole-v1 has \(4,\); name the wrapper"):
        distill(settings(teacher=teacher))
    assert not Path("run").exists()
    distill(settings(teacher=teacher, wrapper=word))
    student = load_policy("run/student.safetensors")
    assert student.graph.observations["obs"].shape == (8,)
    assert student.graph.provenance["recipe"]["wrappers"] == [[word, {}]]
    asked = ["run/student.safetensors", "--episodes", "2", "--quiet"]
    assert run("evaluate", asked) == 2
    assert f"typed: --wrapper {word}" in capsys.readouterr().err
    assert run("evaluate", [*asked, "--wrapper", word]) == 0
    # Neither the run's own settings nor a copy of them may import anything.
    assert run("distill", ["--config", "run/config.yaml", "--out", "other"]) == 2
    assert f"--wrapper {word}" in capsys.readouterr().err


def test_what_only_the_teacher_sees_is_no_part_of_the_student(word: str, teacher: str) -> None:
    distill(settings(teacher=teacher, teacher_wrapper=word))
    student = load_policy("run/student.safetensors")
    assert student.graph.observations["obs"].shape == (4,)
    assert student.graph.provenance["recipe"]["wrappers"] == []
    asked = ["run/student.safetensors", "--quiet", "--no-progress"]
    assert run("evaluate", [*asked, "--episodes", "2"]) == 0
    both = ["--teacher", teacher, "--teacher-wrapper", word]
    assert run("evaluate", [*asked, "--episodes", "2", *both]) == 0
    assert run("explain", [*asked, "--states", "64", "--out", "why", *both]) == 0


def test_a_teacher_is_trained_in_all_of_them(word: str) -> None:
    training = {"total_steps": 64, "n_steps": 16, "n_envs": 2, "batch_size": 16, "hidden": [8], "eval_episodes": 2}
    flat = "gymnasium.wrappers:FlattenObservation"
    distill(settings(training=training, wrapper=flat, teacher_wrapper=word))
    [path] = Path("runs/teachers").glob("*/teacher.zip")
    assert PPO.load(path, device="cpu").observation_space.shape == (8,)
    # Other wrappers are another teacher.
    distill(settings(training=training, wrapper=flat, out="second"))
    assert len(list(Path("runs/teachers").glob("*/teacher.zip"))) == 2
