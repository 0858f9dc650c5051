"""The watchdog: a step that hangs is found within its time."""

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest

from kd_agent import KDError
from kd_agent.environments.guarded import GuardedEnv
from kd_agent.environments.watchdog import Watchdog

HANGS = """
import time
import gymnasium as gym
import numpy as np

class Hangs(gym.Env):
    observation_space = gym.spaces.Box(-1, 1, (4,), np.float32)
    action_space = gym.spaces.Discrete(3)

    def __init__(self, how="sleep"):
        self.how, self.steps = how, 0

    def reset(self, *, seed=None, options=None):
        return np.zeros(4, np.float32), {}

    def step(self, action):
        self.steps += 1
        if self.steps == 7 and self.how == "sleep":
            time.sleep(60)
        if self.steps == 7 and self.how == "code":
            sum(range(10**11))
        return np.zeros(4, np.float32), 1.0, False, self.steps % 5 == 0, {}

gym.register("Hangs-v0", Hangs, max_episode_steps=50)
"""


class Sleeper(gym.Env[Any, Any]):
    observation_space = gym.spaces.Discrete(2)
    action_space = gym.spaces.Discrete(2)

    def reset(self, **_: Any) -> Any:
        return 0, {}

    def step(self, action: Any) -> Any:
        time.sleep(5 if action else 0)
        return 0, 1.0, False, False, {}


@pytest.fixture
def watchdog() -> Iterator[Watchdog]:
    """One that ends with its test; workers of pytest-xdist ignore the signal by which it interrupts."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    watching = Watchdog(0.2)
    yield watching
    watching.stop()
    signal.signal(signal.SIGINT, before)


def test_a_step_that_sleeps_is_interrupted_and_named(watchdog: Watchdog) -> None:
    guarded = GuardedEnv(Sleeper(), 3, watchdog=watchdog)
    guarded.reset(seed=9)
    guarded.step(0)
    started = time.monotonic()
    with pytest.raises(KDError, match=r"environment 3 \(seed 9, step 2\) takes longer than 0\.2 s .*--step-timeout"):
        guarded.step(1)
    assert time.monotonic() - started < 2
    assert guarded.step(0)[1] == 1.0, "it serves on"


def test_time_between_the_steps_does_not_count(watchdog: Watchdog) -> None:
    guarded = GuardedEnv(Sleeper(), 0, watchdog=watchdog)
    guarded.reset(seed=9)
    time.sleep(0.5)
    assert guarded.step(0)[1] == 1.0


@pytest.mark.parametrize(
    ("how", "interrupt", "code_of_exit", "message"),
    [
        ("sleep", "default_int_handler", 2, "takes longer than 0.5 s"),
        # A shell's background jobs are born deaf to the signal.
        ("sleep", "SIG_IGN", 2, "does not come back"),
        ("code", "default_int_handler", 1, "Timeout"),
    ],
)
def test_the_command_ends_and_says_why(
    how: str, interrupt: str, code_of_exit: int, message: str, tmp_path: Path
) -> None:
    """What keeps the global lock cannot be interrupted: there the process ends by itself."""
    (tmp_path / "hangs.py").write_text(HANGS)
    code = (
        f"import signal; signal.signal(signal.SIGINT, signal.{interrupt});"
        "import sys; sys.path.insert(0, '.'); from kd_agent.commands.cli import run;"
        "from kd_agent.environments import watchdog; watchdog.LAST_RESORT = 4.0;"
        "sys.exit(run('train-teacher', ['--env', 'hangs:Hangs-v0', '--env-kwargs', 'how="
        + how
        + "', '--training.n-envs', '1', '--step-timeout', '0.5', '--no-progress']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == code_of_exit, done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert "hangs.py" in done.stderr or how == "sleep", "where it was"
