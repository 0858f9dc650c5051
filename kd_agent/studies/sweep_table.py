"""What a sweep found: its lines, its table and its picture."""

import json
from pathlib import Path
from typing import Any

from kd_agent.evaluation.non_inferiority import ERROR
from kd_agent.runs import RunFolder

_FEW = 500
"""A teacher of fewer parameters is as small as a student: a tenth of it could not do anything."""
_COLUMNS = (
    "name",
    "algo",
    "env",
    "teacher",
    "student",
    "non-inferior",
    "compression",
    "teacher: mean (worst tenth)",
    "student",
    "episodes",
    "s",
)
_GREEN = "#1a7f37"
_RED = "#cf222e"


def sentence(row: dict[str, Any]) -> str:
    """A row in one line."""
    if row["error"]:
        return f"{row['name']}: {row['error']}"
    return (
        f"{row['name']}: {row['decision']}, mean {row['student_mean']:.1f} of {row['teacher_mean']:.1f}, "
        f"{_smaller(row)}, {row['seconds']:.0f} s"
    )


def _smaller(row: dict[str, Any]) -> str:
    """How much smaller the student is, in words."""
    if row["compression"] is None:
        return "size unknown"
    return f"{row['compression']:.0f} times smaller"


def write(out: Path, rows: list[dict[str, Any]]) -> None:
    """Write `sweep.json` and the Markdown table `sweep.md`.

    Args:
        out: The sweep's folder.
        rows: A row for each teacher that is done.
    """
    folder = RunFolder(out)
    folder.write_text("sweep.json", json.dumps(rows, indent=1) + "\n")
    lines = [f"| {' | '.join(_COLUMNS)} |", "|" + "---|" * len(_COLUMNS)]
    lines += map(_table_line, rows)
    folder.write_text("sweep.md", "\n".join([*lines, "", summary(rows), ""]))


def summary(rows: list[dict[str, Any]]) -> str:
    """How many loaded, and how many are non-inferior at ten times fewer parameters."""
    small = [row for row in rows if row["non_inferior"] and _small_enough(row)]
    loaded = sum(row["loaded"] for row in rows)
    praised = sum(row["non_inferior"] for row in rows)
    # Whether verdicts hang together or not, the error of all is no more than the sum of theirs (Bonferroni).
    error = min(1.0, ERROR * praised)
    return (
        f"{loaded} of {len(rows)} loaded; {len(small)} of {len(rows)} non-inferior at 10 times fewer parameters "
        f"(teachers of fewer than 500: no more than they have). Each verdict errs with {ERROR:.1%} at most: that one "
        f"or more of the {praised} are wrong has a probability of {error:.0%} at most."
    )


def _small_enough(row: dict[str, Any]) -> bool:
    if row["teacher_parameters"] is None:
        return False
    if row["teacher_parameters"] < _FEW:
        return bool(row["student_parameters"] <= row["teacher_parameters"])
    return bool(row["compression"] >= 10)


def _table_line(row: dict[str, Any]) -> str:
    if row["error"] or row["teacher_mean"] is None:
        return f"| {row['name']} | | {row['env']} | | | {_cell(row['error'])} | | | | | |"
    cells = [
        row["name"],
        row["algo"],
        row["env"],
        "" if row["teacher_parameters"] is None else f"{row['teacher_parameters']:,}",
        f"{row['student_parameters']:,}",
        row["decision"],
        "" if row["compression"] is None else f"{row['compression']:.1f}",
        f"{row['teacher_mean']:.1f} ({row['teacher_lower_tail']:.1f})",
        f"{row['student_mean']:.1f} ({row['student_lower_tail']:.1f})",
        str(row["episodes"]),
        f"{row['seconds']:.0f}",
    ]
    return f"| {' | '.join(map(_cell, cells))} |"


def _cell(text: Any) -> str:
    return str(text).replace("|", "\\|")


def draw(path: Path, rows: list[dict[str, Any]]) -> None:
    """Draw each student's difference from its teacher, in per cent of what that one earns beyond the random policy.

    Args:
        path: The picture.
        rows: A row for each teacher.
    """
    from matplotlib.figure import Figure  # noqa: PLC0415 - slow to import, needed once

    done = [row for row in rows if row["teacher_mean"] is not None and row["teacher_mean"] != row["random_mean"]]
    figure = Figure(figsize=(8, 1 + 0.32 * max(len(done), 3)), layout="constrained")
    axes = figure.subplots()
    axes.axvspan(-5, 0, color="#eeeeee", label="margin")
    axes.axvline(0, color="#999999", linewidth=1)
    done.sort(key=lambda row: row["compression"] or 0, reverse=True)
    for place, row in enumerate(done):
        per_cent = 100 / abs(row["teacher_mean"] - row["random_mean"])
        low = per_cent * row["difference_ci"][0]
        middle = per_cent * row["difference"]
        high = per_cent * row["difference_ci"][1]
        colour = _GREEN if row["non_inferior"] else _RED
        axes.errorbar(middle, place, xerr=[[middle - low], [high - middle]], fmt="o", color=colour, capsize=3)
    names = [f"{row['name']}  ({_smaller(row)})" for row in done]
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.set(xlabel="student minus teacher, mean return, % of (teacher minus random)\ngreen: non-inferior, red: not")
    axes.invert_yaxis()
    axes.legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=150)
