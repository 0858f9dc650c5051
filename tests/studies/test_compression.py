"""The compression study: one table of the teacher, pruned, quantised and distilled, and what it refuses."""

import json
import re
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from samples import ROOT, Agent, flags, settings

from kd_agent import load_policy
from kd_agent.commands.cli import run


def test_the_command_writes_one_table(agents: dict[str, Agent], tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    given = {k: v for k, v in settings(agents["Discrete"], tmp_path / "out").items() if k != "max_episodes"}
    assert run("compress", flags(given)) == 0
    printed = capsys.readouterr().out
    assert printed == (tmp_path / "out" / "compression.md").read_text()
    rows = json.loads((tmp_path / "out" / "compression.json").read_text())["rows"]
    assert [row["name"] for row in rows][:5] == ["teacher", "pruned", "int8", "pruned, distilled", "distilled"]
    assert len(rows) == len(printed.splitlines()) - 2 == 13
    by_name = {row["name"]: row for row in rows}
    assert by_name["pruned"]["bytes"] < by_name["teacher"]["bytes"]
    assert by_name["distilled, then int8"]["bytes"] < by_name["distilled"]["bytes"]
    assert by_name["distilled, ternary-aware"]["bytes"] < by_name["distilled, int4-aware"]["bytes"]
    assert by_name["pruned"]["multiply_adds"] == by_name["pruned, distilled, int8-aware"]["multiply_adds"]
    for row in rows:
        assert len(row["returns"]) == 6
        policy = load_policy(tmp_path / "out" / row["file"])
        assert policy.act(np.zeros(gym.make(policy.env_id).observation_space.shape, np.float32)) in range(10)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"resume": True}, "compressing does not resume"),
        ({"hidden": [0]}, "gives no size to prune to"),
        ({"teacher": "nothing.zip"}, "nothing.zip"),
        ({"env": "CratPole-v1"}, "did you mean"),
    ],
)
def test_a_wrong_input_is_one_line(
    more: dict[str, Any], message: str, agents: dict[str, Agent], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert run("compress", flags({**settings(agents["Discrete"], tmp_path / "out"), **more})) == 2
    error = [line for line in capsys.readouterr().err.splitlines() if "error:" in line]
    assert len(error) == 1
    assert re.search(message, error[0])


def test_the_script_is_the_command() -> None:
    assert '"compress"' in (ROOT / "scripts" / "compress_policy.py").read_text()
