"""Limits of episodes, and processes that die: what a whole run makes of them."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from samples import Agent, command, settings

from kd_agent import distill, load_policy
from kd_agent.evaluation import evaluate_file
from kd_agent.settings import EvaluateConfig, resolve


def test_a_limit_holds_while_collecting_validating_and_judging_and_the_student_remembers_it(
    agents: dict[str, Agent], tmp_path: Path
) -> None:
    given = settings(agents["Discrete"], tmp_path / "run", max_episode_steps=9, attempts=2)
    result = distill(given)
    episodes = result["verdict"]["episodes"]
    # teacher, the teacher sampled, student and the random policy: nine steps an episode
    assert result["cost"]["verdict_steps"] == 9 * 4 * episodes
    assert result["cost"]["validation_steps"] % 9 == 0
    student = tmp_path / "run" / "student.safetensors"
    assert load_policy(student).graph.provenance["recipe"]["max_episode_steps"] == 9
    asked = {"student": str(student), "episodes": 3, "quiet": True}
    remembered = evaluate_file(resolve(EvaluateConfig, asked))["student"]["returns"]
    longer = evaluate_file(resolve(EvaluateConfig, {**asked, "max_episode_steps": 30}))["student"]["returns"]
    assert max(remembered) <= 9 < max(longer)


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system kills otherwise")
def test_a_process_that_died_leaves_a_run_to_go_on_with_and_that_is_said(
    agents: dict[str, Agent], tmp_path: Path
) -> None:
    given = settings(agents["Discrete"], tmp_path / "run")
    del given["quiet"]
    code = (
        "import os, signal, sys; import kd_envs;"
        "from kd_agent.distillation.dagger import Rounds; fit = Rounds.fit;"
        "Rounds.fit = lambda *a, **k: os.kill(os.getpid(), signal.SIGKILL) if k['number'] else fit(*a, **k);"
        f"from kd_agent import distill; distill({given!r})"
    )
    died = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert died.returncode == -signal.SIGKILL
    done = subprocess.run(
        [*command({**given, "resume": True})], capture_output=True, text=True, check=False, env=dict(os.environ)
    )
    assert done.returncode == 0, done.stderr
    assert "the process that ran here before died without a word" in done.stderr
    again = subprocess.run(
        [*command({**given, "resume": True})], capture_output=True, text=True, check=False, env=dict(os.environ)
    )
    assert "died without a word" not in again.stderr, "an orderly end leaves no mark"
