"""Runs that choose their own folder: nobody else gets it, and whoever stops them is told where it is."""

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from samples import PROBES, Agent, command, settings

from kd_agent import distill
from kd_agent.settings.yaml_file import read_mapping


def forked(work: Callable[[], Any]) -> int:
    """Run `work` in a forked process; its process id."""
    child = os.fork()
    if not child:
        try:
            work()
        finally:
            os._exit(0)
    return child


def test_a_stop_names_the_folder_that_the_run_has_chosen_itself(agents: dict[str, Agent], tmp_path: Path) -> None:
    given = settings(agents["Discrete"], tmp_path, rounds=12, env_steps=4800, round_steps=150, attempts=1)
    del given["out"]
    process = subprocess.Popen(command(given), stderr=subprocess.PIPE, text=True, cwd=tmp_path)
    folder = Path("runs") / PROBES["Discrete"].replace("/", "-") / "1"
    while not (tmp_path / folder / "checkpoint" / "round-1.npz").exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate()
    assert process.returncode == 143
    assert err.strip() == f"stopped; finished rounds are kept; go on with: --resume --out {folder}"


def test_two_runs_started_at_once_take_two_folders(
    agents: dict[str, Agent], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, expected: bytes
) -> None:
    given = settings(agents["Discrete"], tmp_path)
    del given["out"]
    monkeypatch.chdir(tmp_path)
    for child in [forked(lambda: distill(given)) for _ in range(2)]:
        os.waitpid(child, 0)
    runs = sorted((tmp_path / "runs" / PROBES["Discrete"].replace("/", "-")).iterdir())
    assert [run.name for run in runs] == ["1", "2"]
    assert [(run / "student.safetensors").read_bytes() for run in runs] == [expected, expected]
    assert [read_mapping(run / "config.yaml")["out"] for run in runs] == [
        str(run.relative_to(tmp_path)) for run in runs
    ]
