"""README's table of figures: every row can be run, is recorded and held against what was recorded."""

import json
import shutil
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from samples import ROOT

from kd_agent.commands import cli
from kd_agent.settings.flags import parse

SCRIPT = ROOT / "scripts" / "verify_readme.py"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    """The script as a module."""
    spec = spec_from_file_location("verify_readme", SCRIPT)
    assert spec
    assert spec.loader
    module = module_from_spec(spec)
    sys.modules["verify_readme"] = module
    spec.loader.exec_module(module)
    return module


ROWS = """
[[rows]]
command = "make own"
run = "distill --env A-v0 --seed 3"

[[rows]]
command = "make public"
run = "distill --env A-v0 --teacher {teachers}/agent.zip"
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout with two rows, one of them with a public teacher."""
    folder = tmp_path / "scripts" / "readme"
    folder.mkdir(parents=True)
    (folder / "rows.toml").write_text(ROWS)
    return tmp_path


@pytest.fixture
def started(
    script: ModuleType, runs: dict[str, tuple[Path, dict[str, Any]]], monkeypatch: pytest.MonkeyPatch
) -> list[list[str]]:
    """The commands that are started; each leaves the result of a finished run."""
    commands: list[list[str]] = []

    def run(command: list[str], **more: Any) -> None:
        commands.append(command)
        assert more["check"]
        out = Path(command[command.index("--out") + 1])
        shutil.copytree(runs["Discrete"][0], out)

    monkeypatch.setattr(script.subprocess, "run", run)
    return commands


def test_every_row_is_a_command_with_flags_that_there_are(script: ModuleType) -> None:
    rows = script.tomllib.loads((ROOT / script.ROWS).read_text())["rows"]
    assert len({row["command"] for row in rows}) == len(rows) >= 8
    for row in rows:
        command, *words = script.shlex.split(row["run"].replace("{teachers}", "zoo"))
        cls, _, _ = cli._COMMANDS[command]
        parse(command, cls, "", words)


def test_rows_are_recorded_in_the_page_and_measured_again(
    script: ModuleType, checkout: Path, started: list[list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    page = checkout / "README.md"
    page.write_text(f"before\n{script.BEGIN}\nold\n{script.END}\nafter\n")
    assert script.main(["--teachers", "zoo", "--record"], checkout) == 0
    own, public = started
    assert own[1:-2] == ["-m", "kd_agent", "distill", "--env", "A-v0", "--seed", "3", "--out"]
    assert own[-1] == "--quiet"
    assert public[public.index("--teacher") + 1] == "zoo/agent.zip"
    text = page.read_text()
    assert text.startswith("before\n")
    assert text.endswith("\nafter\n")
    assert "old" not in text
    lines = [line for line in text.splitlines() if line.startswith("| `make")]
    assert [line.split(" | ")[0] for line in lines] == ["| `make own`", "| `make public`"]
    known = json.loads((checkout / script.FIGURES).read_text())
    mean = known["make own"][""]["mean"]
    assert f"{mean['difference']:+.1f} [{mean['difference_ci'][0]:.1f}, " in lines[0]
    assert "undecided, 6 |" in lines[0]
    capsys.readouterr()
    assert script.main(["--only", "own"], checkout) == 0
    assert capsys.readouterr().out == "as recorded: make own\n"
    mean["difference_ci"] = [1e5, 2e5]
    known["make own"][""]["decision"] = "inferior"
    (checkout / script.FIGURES).write_text(json.dumps(known))
    assert script.main([], checkout) == 1
    moved, left_out = capsys.readouterr().out.splitlines()
    assert moved.startswith("MOVED: make own: difference ")
    assert moved.endswith("recorded [100000.0, 200000.0]; decision undecided, recorded inferior")
    assert left_out == "left out, it needs --teachers: make public"


def test_a_row_that_fails_takes_no_other_with_it(
    script: ModuleType, checkout: Path, started: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    work = script.subprocess.run

    def fails_at_the_second(command: list[str], **more: Any) -> None:
        if "--teacher" in command:
            raise script.subprocess.CalledProcessError(2, command)
        work(command, **more)

    monkeypatch.setattr(script.subprocess, "run", fails_at_the_second)
    with pytest.raises(script.subprocess.CalledProcessError):
        script.main(["--teachers", "zoo", "--record"], checkout)
    assert list(json.loads((checkout / script.FIGURES).read_text())) == ["make own"]


def test_a_page_without_marks_and_a_row_without_a_record_are_said(script: ModuleType) -> None:
    with pytest.raises(SystemExit, match="lacks the marks"):
        script.with_table("no table", "table")
    assert script.differences(None, {}) == ["nothing is recorded"]
    assert script.differences({}, {"A": {}}) == ["A: nothing is recorded"]


def test_tasks_have_a_line_each(script: ModuleType) -> None:
    part = {"difference": -1.0, "difference_ci": [-2.0, 0.5]}
    known = {
        "teacher": 10.0,
        "student": 9.0,
        "mean": part,
        "lower_tail": part,
        "decision": "non-inferior",
        "episodes": 90,
        "parameters": [None, 1_234],
        "seconds": {"teacher": 0.4, "distill": 12.6, "evaluate": 3.0},
    }
    lines = script.table([{"command": "c", "run": ""}], {"c": {"A": known, "B": known}}).splitlines()
    assert lines[2] == (
        "| `c`, A | 10.0 | 9.0 | -1.0 [-2.0, 0.5] | -1.0 [-2.0, 0.5] | non-inferior, 90 | ? to 1,234 | 0, 13, 3 |"
    )
    assert lines[3].startswith("| `c`, B |")
