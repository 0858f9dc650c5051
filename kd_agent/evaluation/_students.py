"""The students that a run folder tells of: one, or one of each task or seed."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kd_agent.runs import STUDENT_FILE, RunFolder, folder_name


@dataclass(frozen=True)
class StudentOfRun:
    """One student of a run.

    Attributes:
        name: What tells it from the others; "": there are none.
        result: What is written of it.
        own: The folder with its settings and its teacher.
        file: The student's file.
        task: Its task, where the file holds several.
        references: Whether teacher and random policy are played again for it: not where they were for another.
    """

    name: str
    result: Mapping[str, Any]
    own: RunFolder
    file: Path
    task: str | None = None
    references: bool = True


def students_of(folder: RunFolder, result: Mapping[str, Any]) -> list[StudentOfRun]:
    """The only student of a run, or each of several tasks or seeds.

    Args:
        folder: The run folder.
        result: Its `result.json`.
    """
    file = folder.path / STUDENT_FILE
    parts = []
    for task, part in result.get("tasks", {}).items():
        parts.append(StudentOfRun(task, part, RunFolder(folder.path / folder_name(task)), file, task))
    for one in result.get("seeds", []):
        own = RunFolder(folder.path / f"seed-{one['seed']:d}")
        part = {**result, **one}
        parts.append(StudentOfRun(own.path.name, part, own, own.path / STUDENT_FILE, references=not parts))
    parts = parts or [StudentOfRun("", result, folder, file)]
    for part in parts:
        _ = part.result["format"]
    return parts
