"""The examples run, each in a process of its own, as a reader would run them."""

import ast
import json
import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from known_policies import graph_of
from samples import ROOT, make_student

import kd_agent
from kd_agent.networks.distributions import head_for
from kd_agent.policies import file as graph_file

ARGUMENTS: dict[str, list[str]] = {
    "play_without_torch.py": ["--episodes", "2"],
    "evaluate_with_sb3.py": ["--episodes", "4"],
    "fine_tune_with_sb3.py": ["--steps", "64", "--episodes", "2", "--out", "tuned.zip"],
    "skill_library.py": ["s.safetensors", "--steps", "64", "--episodes", "2"],
    "stay_near_a_reference.py": ["--steps", "64", "--episodes", "2"],
    "fine_tune_with_rllib.py": ["--iterations", "1", "--batch", "256"],
    "play_with_torchrl.py": ["--steps", "50"],
    "frozen_opponent.py": ["--games", "2", "--env-steps", "400", "--out", "run"],
    "one_page.py": [
        "--teacher-steps",
        "1024",
        "--steps",
        "400",
        "--rounds",
        "2",
        "--fit-steps",
        "100",
        "--episodes",
        "8",
    ],
}
SMALL = ["--env-steps", "600", "--final-steps", "20", "--attempts", "1", "--episodes", "2", "--max-episodes", "2"]
"""A distillation of seconds."""
CONTROLLERS = {"distil_a_controller.py", "distil_an_mpc.py"}
"""Examples that have a test of their own: each takes the seconds of a distillation."""
WITHOUT_STUDENT = ("one_page.py", "frozen_opponent.py")
"""Examples that need no saved student."""
NEEDS = {"fine_tune_with_rllib.py": "ray", "play_with_torchrl.py": "torchrl", "frozen_opponent.py": "pettingzoo"}


def run(words: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """Python with these words, in a folder and with a cache of its own."""
    environment = {**os.environ, "XDG_CACHE_HOME": str(folder / "cache")}
    return subprocess.run(
        [sys.executable, *words], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("example", sorted({path.name for path in (ROOT / "examples").glob("*.py")} - CONTROLLERS))
def test_an_example_runs(example: str, tmp_path: Path) -> None:
    if find_spec(NEEDS.get(example, "numpy")) is None:
        pytest.skip(f"{NEEDS[example]} is not installed")
    make_student(head_for(gym.spaces.Discrete(2))).save(tmp_path / "s.safetensors", {"env": "CartPole-v1"})
    guard = ["-X", "importtime"] if "without_torch" in example else []
    student = [] if example in WITHOUT_STUDENT else ["s.safetensors"]
    done = run([*guard, str(ROOT / "examples" / example), *student, *ARGUMENTS.get(example, [])], tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "return" in done.stdout
    if guard:
        assert " torch\n" not in done.stderr


ONE_PAGE = ROOT / "examples" / "one_page.py"


def test_one_page_is_a_page_of_public_names() -> None:
    text = ONE_PAGE.read_text()
    assert len(text.splitlines()) <= 120
    imports = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.ImportFrom)]
    ours = [node for node in imports if str(node.module).startswith("kd_agent")]
    assert [node.module for node in ours] == ["kd_agent"]
    assert {alias.name for alias in ours[0].names} <= set(kd_agent.__all__)


def test_one_page_distils_a_named_teacher_and_says_how_the_student_compares(tmp_path: Path) -> None:
    push = np.float32([0.2, 0.5, 4, 3])  # the way to which the cart and the pole lean holds it up for 500 steps
    graph = graph_of([-push, push], head_for(gym.spaces.Discrete(2)).spec)
    graph_file.write(graph, tmp_path / "s.safetensors")
    settings = ["--teacher", "s.safetensors", "--steps", "2000", "--rounds", "2", "--fit-steps", "300"]
    done = run([str(ONE_PAGE), *settings, "--episodes", "40"], tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    assert not (tmp_path / "teacher.zip").exists()
    *rounds, returns, parameters, verdict = done.stdout.splitlines()
    assert [line.partition(",")[0] for line in rounds] == ["round 1: 1000 states", "round 2: 2000 states"]
    assert parameters.endswith("student 58")
    numbers = r"(-?\d+\.\d)"
    teacher, student, chance = map(float, re.findall(numbers, returns))
    found = re.fullmatch(
        rf"([a-z-]+): difference \+?{numbers} \[{numbers}, {numbers}\] against a margin of {numbers}", verdict
    )
    assert found
    difference, low, high, margin = map(float, found.groups()[1:])
    assert difference == pytest.approx(student - teacher, abs=0.11)
    assert low <= difference <= high
    assert margin == pytest.approx(0.05 * abs(teacher - chance), abs=0.11)
    expected = "non-inferior" if low >= -margin else "inferior" if high < -margin else "undecided"
    assert found.group(1) == expected == "non-inferior"
    assert teacher == 500
    assert student > 10 * chance


def test_one_page_says_what_it_is_not_for(tmp_path: Path) -> None:
    done = run([str(ONE_PAGE), "--env", "Pendulum-v1"], tmp_path)
    assert done.returncode == 2
    assert "Discrete actions" in done.stderr


@pytest.mark.parametrize("example", sorted(CONTROLLERS))
def test_a_controller_teaches_by_as_many_answers_as_are_asked_for(example: str, tmp_path: Path) -> None:
    words = ["--questions", "60", *SMALL, "--out", "run"]
    done = run([str(ROOT / "examples" / example), *words], tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    said, file = done.stdout.splitlines()
    assert said.startswith("60 questions, return ")
    assert (tmp_path / file.rpartition(" ")[2]).is_file()
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["cost"]["questions"] == 60
    # A controller worth asking: random play comes to about -180 and -1,230.
    least = {"LunarLander-v3": 100, "Pendulum-v1": -600}
    assert result["teacher"]["mean"] > least[result["env"]]
