"""README's table of figures, measured again: which rows have moved beyond their intervals?

    python scripts/verify_readme.py --teachers DIR       # every row, held against scripts/readme/figures.json
    python scripts/verify_readme.py --only search-size   # the rows whose command has a word
    python scripts/verify_readme.py --teachers DIR --record   # write figures.json, and the table into README.md

A row's run takes minutes. The exit code is 1 where a row has moved: its student's mean is another by more than the
interval that is recorded, or its verdict is. The rows are in scripts/readme/rows.toml; without --teachers those with a
public agent are left out. The table stands in README.md between two marks, which are comments there.
"""

import argparse
import json
import os
import shlex
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
ROWS = Path("scripts/readme/rows.toml")
FIGURES = Path("scripts/readme/figures.json")
BEGIN, END = "<!-- figures: python scripts/verify_readme.py --record -->", "<!-- figures end -->"
COLUMNS = (
    "command",
    "teacher mean",
    "student mean",
    "difference, interval",
    "worst tenth, interval",
    "verdict, episodes",
    "parameters",
    "CPU seconds: teacher, distil, judge",
)

Row = Mapping[str, str]
Figures = dict[str, dict[str, Any]]
"""Figures of each student of a row, by task ("" where there is one student)."""


def main(argv: Sequence[str] | None = None, root: Path = ROOT) -> int:
    """Measure rows, and hold them against what is recorded or record them.

    Args:
        argv: The flags.
        root: The checkout.

    Returns:
        1 where a row has moved, else 0.
    """
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--teachers", metavar="DIR", help="the folder of public agents")
    parser.add_argument("--only", metavar="WORD", help="only the rows whose command has this word")
    parser.add_argument("--jobs", type=int, default=1, help="how many rows at once")
    parser.add_argument("--record", action="store_true", help="write the figures and the table")
    asked = parser.parse_args(argv)
    rows = tomllib.loads((root / ROWS).read_text())["rows"]
    file = root / FIGURES
    recorded: dict[str, Any] = json.loads(file.read_text()) if file.is_file() else {}
    moved = False
    wanted = [row for row in rows if not asked.only or asked.only in row["command"]]
    possible = [row for row in wanted if asked.teachers or "{teachers}" not in row["run"]]
    with ThreadPoolExecutor(asked.jobs) as workers:
        all_found = workers.map(lambda row: measured(row, asked.teachers, root), possible)
        for row in wanted:
            name = row["command"]
            if row not in possible:
                print(f"left out, it needs --teachers: {name}")
                continue
            found = next(all_found)
            if asked.record:
                recorded[name] = found
                # Row by row: they take hours, and one may fail.
                file.write_text(json.dumps(recorded, indent=1) + "\n")
                print(f"recorded: {name}", flush=True)
                continue
            faults = differences(recorded.get(name), found)
            moved |= bool(faults)
            print(f"MOVED: {name}: {'; '.join(faults)}" if faults else f"as recorded: {name}", flush=True)
    if asked.record:
        page = root / "README.md"
        page.write_text(with_table(page.read_text(), table(rows, recorded)))
    return int(moved)


def measured(row: Row, teachers: str | None, root: Path) -> Figures:
    """Figures of a row's run, which is done now.

    Args:
        row: The row.
        teachers: The folder of public agents.
        root: The checkout, in which trained teachers are kept.
    """
    words = shlex.split(row["run"].replace("{teachers}", str(teachers)))
    paths = [str(root), str(root / "envs"), os.environ.get("PYTHONPATH", "")]
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        command = [sys.executable, "-m", "kd_agent", *words, "--out", str(out), "--quiet"]
        subprocess.run(command, cwd=root, env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)}, check=True)  # noqa: S603 - the rows are this checkout's
        result = json.loads((out / "result.json").read_text())
    students = result.get("tasks", {"": result})
    seconds = {name: result["cost"][f"{name}_cpu_s"] for name in ("teacher", "distill", "evaluate")}
    return {task: {**figures(student), "seconds": seconds} for task, student in students.items()}


def figures(result: Mapping[str, Any]) -> dict[str, Any]:
    """What the table says of a student.

    Args:
        result: Its part of `result.json`.
    """
    verdict = result["verdict"]
    parts = {
        name: {key: verdict[name][key] for key in ("difference", "difference_ci")} for name in ("mean", "lower_tail")
    }
    return {
        "teacher": result["teacher"]["mean"],
        "student": result["student"]["mean"],
        **parts,
        "decision": verdict["decision"],
        "episodes": verdict["episodes"],
        "parameters": [result["teacher"]["parameters"], result["student"]["parameters"]],
    }


def differences(recorded: Figures | None, found: Figures) -> list[str]:
    """In what a row has moved, in words.

    Args:
        recorded: What is recorded; None: nothing is.
        found: What was measured now.
    """
    if recorded is None:
        return ["nothing is recorded"]
    faults = []
    for task, now in found.items():
        before = recorded.get(task)
        prefix = f"{task}: " if task else ""
        if before is None:
            faults.append(f"{prefix}nothing is recorded")
            continue
        low, high = before["mean"]["difference_ci"]
        difference = now["mean"]["difference"]
        if not low <= difference <= high:
            faults.append(f"{prefix}difference {difference:+.1f}, recorded [{low:.1f}, {high:.1f}]")
        for name in ("decision", "parameters"):
            if now[name] != before[name]:
                faults.append(f"{prefix}{name} {now[name]}, recorded {before[name]}")
    return faults


def table(rows: Sequence[Row], recorded: Mapping[str, Figures]) -> str:
    """The rows that are recorded, in Markdown.

    Args:
        rows: All rows, in their order.
        recorded: Figures by command.
    """
    lines = [f"| {' | '.join(COLUMNS)} |", "|---" * len(COLUMNS) + "|"]
    for row in rows:
        for task, known in recorded.get(row["command"], {}).items():
            lines.append(_line(row["command"], task, known))
    return "\n".join(lines)


def with_table(page: str, content: str) -> str:
    """A page with another table between its marks.

    Args:
        page: Its text.
        content: The table.

    Raises:
        SystemExit: The marks are not there.
    """
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise SystemExit(f"README.md lacks the marks that the table stands between: {BEGIN} and {END}")
    return f"{before}{BEGIN}\n\n{content}\n\n{END}{after}"


def _line(command: str, task: str, known: Mapping[str, Any]) -> str:
    teacher, student = known["parameters"]
    size = "?" if teacher is None else f"{teacher:,}"
    seconds = ", ".join(f"{known['seconds'][name]:.0f}" for name in ("teacher", "distill", "evaluate"))
    cells = [
        f"`{command}`" + (f", {task}" if task else ""),
        f"{known['teacher']:.1f}",
        f"{known['student']:.1f}",
        _with_interval(known["mean"]),
        _with_interval(known["lower_tail"]),
        f"{known['decision']}, {known['episodes']}",
        f"{size} to {student:,}",
        seconds,
    ]
    return f"| {' | '.join(cells)} |"


def _with_interval(part: Mapping[str, Any]) -> str:
    low, high = part["difference_ci"]
    # 0 has no sign.
    difference, low, high = (round(value, 1) + 0.0 for value in (part["difference"], low, high))
    return f"{difference:+.1f} [{low:.1f}, {high:.1f}]"


if __name__ == "__main__":
    sys.exit(main())
