"""The examples run, each in a process of its own, as a reader would run them."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import gymnasium as gym
import pytest
from samples import ROOT, make_student

from kd_agent.networks.distributions import head_for

ARGUMENTS: dict[str, list[str]] = {
    "play_without_torch.py": ["--episodes", "2"],
    "evaluate_with_sb3.py": ["--episodes", "4"],
    "fine_tune_with_sb3.py": ["--steps", "64", "--episodes", "2", "--out", "tuned.zip"],
    "skill_library.py": ["s.safetensors", "--steps", "64", "--episodes", "2"],
    "stay_near_a_reference.py": ["--steps", "64", "--episodes", "2"],
    "fine_tune_with_rllib.py": ["--iterations", "1", "--batch", "256"],
    "play_with_torchrl.py": ["--steps", "50"],
}
NEEDS = {"fine_tune_with_rllib.py": "ray", "play_with_torchrl.py": "torchrl"}


@pytest.mark.parametrize("example", sorted(path.name for path in (ROOT / "examples").glob("*.py")))
def test_an_example_runs(example: str, tmp_path: Path) -> None:
    if find_spec(NEEDS.get(example, "numpy")) is None:
        pytest.skip(f"{NEEDS[example]} is not installed")
    make_student(head_for(gym.spaces.Discrete(2))).save(tmp_path / "s.safetensors", {"env": "CartPole-v1"})
    guard = ["-X", "importtime"] if "without_torch" in example else []
    command = [sys.executable, *guard, str(ROOT / "examples" / example), "s.safetensors", *ARGUMENTS.get(example, [])]
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache")}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "return" in done.stdout
    if guard:
        assert " torch\n" not in done.stderr
