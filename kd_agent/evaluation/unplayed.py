"""What is known of a student that nobody has played: there is no environment, and so there are no returns."""

from pathlib import Path
from typing import Any

from kd_agent.evaluation.held_out import measure_held_out
from kd_agent.evaluation.statistics import scores
from kd_agent.evaluation.verdict import FORMAT, file_figures, origin_figures, recorded_figures
from kd_agent.loading import load_policy
from kd_agent.runs import Run
from kd_agent.runs.versions import versions
from kd_agent.teachers import RecordedTeacher

NEVER_PLAYED = "never played: no environment"


def report_unplayed(run: Run, student_file: Path) -> dict[str, Any]:
    """The held-out figures of a student, and a verdict that leaves all else open: `result.json` without its costs.

    Args:
        run: The run, whose teacher is a recording.
        student_file: The saved student.
    """
    teacher = run.teacher
    assert isinstance(teacher, RecordedTeacher), "only a recording teaches without an environment"
    student = load_policy(student_file)
    returns = teacher.recording.returns
    held_out = measure_held_out(teacher, student, run.config.seed)
    result: dict[str, Any] = {
        "format": FORMAT,
        "env": None,
        "seed": run.config.seed,
        "play": None,
        "teacher": {
            **origin_figures(teacher.origin),
            **recorded_figures(teacher.recording),
            **(scores(returns) if returns else {}),
            "better_than_random": None,
        },
        "student": {
            **file_figures(student_file),
            "parameters": student.num_parameters,
            **held_out.figures(),
        },
        "verdict": {"non_inferior": False, "decision": "undecided", "episodes": 0, "reasons": [NEVER_PLAYED]},
        "versions": versions(),
    }
    run.reporter.say(sentence_unplayed(result))
    return result


def sentence_unplayed(result: dict[str, Any]) -> str:
    """What is known in one line."""
    student, teacher = result["student"], result["teacher"]
    low, high = student["agreement_ci"]
    return (
        f"{result['verdict']['decision']}: {NEVER_PLAYED}; student of {student['parameters']:,} parameters, on "
        f"{student['agreement_episodes']} of {teacher['recorded']['episodes']} recorded episodes, held out "
        f"({student['agreement_states']:,} states): KL {student['kl']:.3g} "
        f"(uniform policy {student['kl_uniform']:.3g}), cross-entropy {student['cross_entropy']:.3g}, "
        f"agreement {student['agreement']:.1%} [{low:.1%}, {high:.1%}]"
    )
