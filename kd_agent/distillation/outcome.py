"""What a distillation comes to: a student in its file, and the verdict on it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any

from kd_agent import plugins
from kd_agent.evaluation import judge, report_unplayed
from kd_agent.loading import load_policy
from kd_agent.networks import Student
from kd_agent.policies import Policy
from kd_agent.policies.tree_rules import rules
from kd_agent.runs import RESULT_FILE, STUDENT_FILE, Run, provenance


@dataclass(frozen=True)
class Fitted:
    """A student that is finished.

    Attributes:
        run: The run as it ended: with the size, the temperature that were chosen.
        student: The student.
        score: Of its validation, in margins.
        verdict: Content of `result.json` without its costs, where it has been judged; None: not yet.
        figures: What else the result is to say, by name.
    """

    run: Run
    student: Student
    score: float = 0.0
    verdict: dict[str, Any] | None = None
    figures: Mapping[str, Any] = field(default_factory=dict)


class Result(dict[str, Any]):
    """The content of `result.json`, and what it is about.

    Args:
        content: That of the file.
        path: The run folder.

    Attributes:
        path: The run folder.
    """

    def __init__(self, content: Mapping[str, Any], path: Path) -> None:
        super().__init__(content)
        self.path = path

    @property
    def student_file(self) -> Path:
        """The student's file."""
        return self.path / STUDENT_FILE

    @property
    def policy(self) -> Policy:
        """The student, read from its file: a new one each time, since some have a memory."""
        return load_policy(self.student_file)

    @property
    def verdict(self) -> dict[str, Any]:
        """Whether the student is as good as its teacher, and how that was found."""
        return dict(self["verdict"])

    @property
    def shown_to_be_good(self) -> bool:
        """Whether the student is non-inferior, and to a teacher that is better than the random policy."""
        return bool(self["verdict"]["non_inferior"] and self["teacher"]["better_than_random"])

    def figures(self) -> dict[str, str]:
        """What a reader wants first, by name."""
        teacher = self["teacher"]
        student = self["student"]
        verdict = self["verdict"]
        low, high = verdict["difference_ci"]
        tail = verdict["lower_tail"]
        size = "size unknown" if teacher["parameters"] is None else f"{teacher['parameters']:,}"
        then_ppo = {}
        if "then_ppo" in self:
            then_ppo["then PPO"] = f"{self['then_ppo']['kept']} student kept after {self['then_ppo']['steps']:,} steps"
        return {
            "environment": str(self["env"]),
            "verdict": f"{verdict['decision']} after {verdict['episodes']} episodes",
            "mean": f"{student['mean']:.1f}, teacher {teacher['mean']:.1f}",
            "worst tenth": f"{student['lower_tail']:.1f}, teacher {teacher['lower_tail']:.1f}",
            "difference": f"{verdict['difference']:+.1f} [{low:.1f}, {high:.1f}], margin {verdict['margin']:.1f}",
            "difference of the worst tenth": f"{tail['difference']:+.1f}, margin {tail['margin']:.1f}",
            "parameters": f"{student['parameters']:,}, teacher {size}",
            **then_ppo,
            "run folder": str(self.path),
        }

    def __repr__(self) -> str:
        lines = [f"  {name}: {text}" for name, text in self.figures().items()]
        return "\n".join([f"{type(self).__name__}", *lines])

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        rows = [f"<tr><th>{escape(name)}</th><td>{escape(text)}</td></tr>" for name, text in self.figures().items()]
        return f"<table>{''.join(rows)}</table>"


class TasksResult(Result):
    """The content of `result.json` of several tasks; `policy` raises a KDError that names them, `policies` has all."""

    @property
    def policies(self) -> dict[str, Policy]:
        """The student's policies by task, read from its file."""
        return {task: load_policy(self.student_file, task=task) for task in self["tasks"]}

    @property
    def verdict(self) -> dict[str, Any]:
        """The verdicts by task."""
        return {task: result["verdict"] for task, result in self["tasks"].items()}

    @property
    def shown_to_be_good(self) -> bool:
        """Whether it is in every task."""
        tasks = self["tasks"].values()
        return all(task["verdict"]["non_inferior"] and task["teacher"]["better_than_random"] for task in tasks)

    def figures(self) -> dict[str, str]:
        """What a reader wants first, by name."""
        figures = {}
        for task, result in self["tasks"].items():
            scores = f"mean {result['student']['mean']:.1f}, teacher {result['teacher']['mean']:.1f}"
            figures[task] = f"{result['verdict']['decision']}, {scores}"
        sizes = self["parameters"]
        figures["parameters"] = f"{sizes['total']:,}, of which {sizes['shared']:,} are shared"
        figures["run folder"] = str(self.path)
        return figures


class UnplayedResult(Result):
    """The content of `result.json` of a student that nobody has played."""

    def figures(self) -> dict[str, str]:
        """What a reader wants first, by name."""
        student, recorded = self["student"], self["teacher"]["recorded"]
        low, high = student["agreement_ci"]
        return {
            "verdict": f"{self['verdict']['decision']}: {self['verdict']['reasons'][0]}",
            "held out": f"{student['agreement_episodes']} of {recorded['episodes']} recorded episodes",
            "KL": f"{student['kl']:.3g} (uniform policy {student['kl_uniform']:.3g})",
            "cross-entropy": f"{student['cross_entropy']:.3g}",
            "agreement": f"{student['agreement']:.1%} [{low:.1%}, {high:.1%}]",
            "parameters": f"{student['parameters']:,}",
            "run folder": str(self.path),
        }


def judge_student(run: Run, student: Student) -> dict[str, Any]:
    """Save a student in the run folder and judge it: `result.json` without its costs.

    Args:
        run: The run.
        student: The student.
    """
    # The file first: it is what is judged.
    path = save_student(run, student)
    with run.costs.timed("evaluate_s"):
        return judge(run, path) if run.recipe.env_id else report_unplayed(run, path)


def save_student(run: Run, student: Student) -> Path:
    """Write a student into the run folder; a tree also as rules.

    Args:
        run: The run.
        student: The student.

    Returns:
        The file.
    """
    if student.learner == "tree":
        run.folder.write_text("rules.txt", rules(student.graph()))
    return student.save(run.folder.path / STUDENT_FILE, provenance(run))


def write_result(run: Run, result: dict[str, Any]) -> Result:
    """End a run: its costs, the report and, last, the file that says that it is finished.

    Args:
        run: The run.
        result: The content of `result.json`; it gains `cost`.
    """
    result["cost"] = run.costs.to_json()
    # Loaded when it is needed: its plots take a second to import.
    plugins.load("report", "html").write(run.folder, result)
    run.folder.write_json(RESULT_FILE, result)
    # Several tasks have a play each, and say nothing of one.
    kind = UnplayedResult if result.get("play", "") is None else Result
    return kind(result, run.folder.path)
