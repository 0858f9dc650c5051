"""What a distillation comes to: a student in its file, and the verdict on it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from kd_agent.evaluation import judge
from kd_agent.networks import Student
from kd_agent.policies.tree_rules import rules
from kd_agent.runs import STUDENT_FILE, Run, provenance


@dataclass(frozen=True)
class Fitted:
    """A student that is finished.

    Attributes:
        run: The run as it ended: with the size, the temperature that were chosen.
        student: The student.
        verdict: Content of `result.json` without its costs, where it has been judged; None: not yet.
        figures: What else the result is to say, by name.
    """

    run: Run
    student: Student
    verdict: dict[str, Any] | None = None
    figures: Mapping[str, Any] = field(default_factory=dict)


def judge_student(run: Run, student: Student) -> dict[str, Any]:
    """Save a student in the run folder and judge it: `result.json` without its costs.

    Args:
        run: The run.
        student: The student.
    """
    # The file first: it is what is judged.
    path = student.save(run.folder.path / STUDENT_FILE, provenance(run))
    if student.learner == "tree":
        run.folder.write_text("rules.txt", rules(student.graph()))
    with run.costs.timed("evaluate_s"):
        return judge(run, path)
