"""The verdict on a student: the same seeds as the teacher, more of them while it is open."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kd_agent.environments import recipe_of_student
from kd_agent.environments.own_wrappers import TypedWrappers
from kd_agent.environments.teacher_view import view_of_teacher
from kd_agent.environments.vector import spaces_of
from kd_agent.evaluation.agreement import measure_agreement
from kd_agent.evaluation.comparison import Episodes, PairedComparison
from kd_agent.evaluation.held_out import WHERE, measure_held_out
from kd_agent.evaluation.looks import looks_of_verdict
from kd_agent.evaluation.non_inferiority import LEVEL
from kd_agent.evaluation.parts import Part, Verdict
from kd_agent.evaluation.references import References
from kd_agent.evaluation.statistics import failures, scores, worst_episodes
from kd_agent.loading import load_policy
from kd_agent.networks import Origin, check_fits
from kd_agent.policies import Policy
from kd_agent.rollouts import evaluate
from kd_agent.runs import Reporter, Run
from kd_agent.runs.versions import versions
from kd_agent.settings import EvaluateConfig
from kd_agent.teachers import RecordedTeacher, Recording, asked_by, load_teacher, viewing

EVALUATION_SEED = 20_000
"""The episodes' seeds count up from here, whatever the run's seed: never those of training."""
FORMAT = 2
"""Of `result.json`."""
RANDOM_EPISODES = 40
"""The random policy's, which give the scale."""


def judge(run: Run, student_file: Path, *, task: str | None = None) -> dict[str, Any]:
    """Play teacher, student and the random policy on the same seeds and compare them.

    Args:
        run: The run: its teacher, its environment, the margin and how many episodes are played.
        student_file: The saved student.
        task: Which of its policies, where the file holds several.

    Returns:
        `result.json` without its costs.
    """
    # What is judged is the file, as whoever deploys it reads it: NumPy and not torch, after saving and loading.
    student = load_policy(student_file, task=task)
    comparison = verdict_episodes(run)
    references = References.of(run, comparison)
    for line in references.lines():
        run.reporter.say(line)
    returns, verdict = comparison.play_until_decided(student, "the student", verdict_looks(run))
    result = result_of(run, student_file, student, Played(comparison, references, returns, verdict))
    run.reporter.say(sentence(result))
    return result


@dataclass(frozen=True)
class Played:
    """What was played for a verdict.

    Attributes:
        comparison: The episodes of teacher and random policy.
        references: What the teacher is worth.
        returns: Of the student.
        verdict: On them.
    """

    comparison: PairedComparison
    references: References
    returns: Sequence[float]
    verdict: Verdict


def result_of(run: Run, student_file: Path, student: Policy, played: Played) -> dict[str, Any]:
    """`result.json` without its costs.

    Args:
        run: The run.
        student_file: The saved student.
        student: The same, loaded.
        played: What was played.
    """
    returns = played.returns
    origin = run.teacher.origin
    teacher = played.comparison.teacher_returns(len(returns))
    close, about_teacher = _agreement(run, student)
    result: dict[str, Any] = {
        "format": FORMAT,
        "env": run.recipe.env_id,
        "seed": run.config.seed,
        "play": "sampled" if run.config.sampled else "greedy",
        "teacher": {**origin_figures(origin), **scores(teacher), **played.references.figures(), **about_teacher},
        "student": {
            **file_figures(student_file),
            "parameters": student.num_parameters,
            **scores(returns),
            "failures": failures(returns, teacher),
            "worst": worst_episodes(returns, EVALUATION_SEED),
            **close,
        },
        "random": scores(played.comparison.random_returns),
        "verdict": {
            **verdict_figures(played.verdict),
            "looks": sum(look <= len(returns) for look, _ in verdict_looks(run)),
            "compression": _compression(origin, student),
        },
    }
    result["versions"] = versions()
    if origin.teachers:
        result["teachers"] = [dict(one) for one in origin.teachers]
    return result


def verdict_episodes(run: Run) -> PairedComparison:
    """The episodes on which a verdict falls: the same for every student of a teacher."""
    episodes = Episodes.of(run, first_seed=EVALUATION_SEED)
    random_episodes = min(RANDOM_EPISODES, run.config.max_episodes)
    return PairedComparison(episodes, run.teacher, margin=run.config.margin, random_episodes=random_episodes)


def verdict_looks(run: Run) -> list[tuple[int, float]]:
    """After how many episodes a run's verdict may fall, each with its error."""
    paired = not isinstance(run.teacher, RecordedTeacher)
    return looks_of_verdict(run.config.episodes, run.config.max_episodes, paired=paired)


def evaluate_file(config: EvaluateConfig) -> dict[str, Any]:
    """Play a saved student, and a teacher if one is named, on the same seeds.

    Raises:
        KDError: The student is of another environment, or something cannot be read.
    """
    student = load_policy(config.student, task=config.task)
    typed = TypedWrappers(config.wrapper, config.teacher_wrapper)
    recipe = typed.around(recipe_of_student(student.graph, config.student, config.env, config.env_kwargs))
    recipe = recipe.limited(config)
    spaces = spaces_of(recipe)
    check_fits(student.graph, spaces, config.student)
    players: dict[str, Any] = {"student": student}
    # Any policy that can be read may stand beside the student; nobody is compared, so that nobody is "the" teacher.
    view, names = view_of_teacher(spaces[0])
    for source in config.teacher:
        teacher = load_teacher(
            source,
            env=(view, spaces[1]),
            **asked_by(config),
        )
        if isinstance(teacher, RecordedTeacher):
            raise teacher.refusal()
        players[source] = viewing(teacher, names)
    reporter = Reporter(quiet=config.quiet, progress=config.progress)
    seeds = range(config.seed, config.seed + config.episodes)
    sampled = student.sampled if config.sampled is None else config.sampled
    result: dict[str, Any] = {
        "env": recipe.env_id,
        "seeds": [seeds.start, seeds.stop],
        "deterministic": not sampled,
    }
    for name, player in players.items():
        with reporter.stage(f"evaluating {name}", len(seeds), "episodes") as advance:
            played = evaluate(player, recipe, seeds=seeds, deterministic=not sampled, advance=advance)
        result[name] = scores(played.returns.tolist())
    return result


def _agreement(run: Run, student: Policy) -> tuple[dict[str, Any], dict[str, Any]]:
    """KL and agreement, on the student's own episodes, or those that were held out of a recording, and what that is."""
    teacher = run.teacher
    if isinstance(teacher, RecordedTeacher):
        held_out = measure_held_out(teacher, student, run.config.seed)
        return held_out.figures(), recorded_figures(teacher.recording)
    close = measure_agreement(teacher, student, run.recipe, deterministic=not run.config.sampled)
    run.costs.add("agreement_steps", close.agreement_steps)
    return close.figures(), {}


def recorded_figures(recording: Recording) -> dict[str, Any]:
    """What `result.json` says of a recording beside its returns."""
    recorded = {
        "episodes": recording.episodes,
        "whole_episodes": len(recording.returns),
        "states": len(recording.starts),
        "labels": recording.labels,
    }
    return {"recorded": recorded}


def origin_figures(origin: Origin) -> dict[str, Any]:
    """What `result.json` says of where a teacher comes from."""
    return {
        "source": origin.source,
        "sha256": origin.sha256,
        "algo": origin.algo,
        "parameters": origin.num_parameters,
    }


def file_figures(file: Path) -> dict[str, Any]:
    """What `result.json` says of a student's file."""
    raw = file.read_bytes()
    return {"file": file.name, "sha256": hashlib.sha256(raw).hexdigest(), "bytes": len(raw)}


def _compression(origin: Origin, student: Policy) -> float | None:
    """How many times fewer parameters the student has; None where the teacher's are not known."""
    if origin.num_parameters is None:
        return None
    return origin.num_parameters / student.num_parameters


def verdict_figures(verdict: Verdict) -> dict[str, Any]:
    """A verdict as `result.json` has it."""
    return {
        "non_inferior": verdict.non_inferior,
        "decision": verdict.decision,
        "episodes": verdict.episodes,
        "mean": _part_figures(verdict.mean),
        "lower_tail": _part_figures(verdict.lower_tail),
        # Those of the mean, where the first format has its own.
        "margin": verdict.margin,
        "difference": verdict.difference,
        "difference_ci": list(verdict.difference_ci),
        "level": LEVEL,
        "error": verdict.error,
        "reasons": list(verdict.reasons),
    }


def _part_figures(part: Part) -> dict[str, Any]:
    return {
        "difference": part.difference,
        "difference_ci": list(part.difference_ci),
        "bounds": list(part.bounds),
        "margin": part.margin,
        "decision": part.decision,
    }


def sentence(result: Mapping[str, Any]) -> str:
    """The verdict in one line."""
    teacher, student, verdict = result["teacher"], result["student"], result["verdict"]
    low, high = verdict["difference_ci"]
    play = result["play"]
    size = "size unknown" if teacher["parameters"] is None else f"{teacher['parameters']:,}"
    whose = "" if teacher["better_than_random"] else " to a teacher that is no better than chance"
    tail = verdict["lower_tail"]
    where = f" on {WHERE}" if "recorded" in teacher else ""
    return (
        f"{verdict['decision']}{whose}: student {student['mean']:.1f} ({student['parameters']:,} parameters), teacher "
        f"{teacher['mean']:.1f} ({size}), difference {verdict['difference']:+.1f} [{low:.1f}, {high:.1f}] against a "
        f"margin of {verdict['margin']:.1f}; worst tenth {student['lower_tail']:.1f} of {teacher['lower_tail']:.1f}, "
        f"{tail['difference']:+.1f} against {tail['margin']:.1f}; {verdict['episodes']} episodes, {play}; "
        f"KL {student['kl']:.3g} (uniform policy {student['kl_uniform']:.3g}), "
        f"agreement {student['agreement']:.1%}{where}"
    )


def over_seeds(result: Mapping[str, Any]) -> str:
    """The verdict over several seeds in one line."""
    verdict, teacher = result["verdict"], result["teacher"]
    means = [one["student"]["mean"] for one in result["seeds"]]
    tails = [one["student"]["lower_tail"] for one in result["seeds"]]
    alone = sum(one["verdict"]["non_inferior"] for one in result["seeds"])
    each = ", ".join(f"{mean:.1f}" for mean in means)
    worst = ", ".join(f"{tail:.1f}" for tail in tails)
    low, high = verdict["difference_ci"]
    return (
        f"{verdict['decision']} over {len(means)} seeds: students {each}, teacher "
        f"{teacher['mean']:.1f}, difference {verdict['difference']:+.1f} [{low:.1f}, {high:.1f}] against a margin of "
        f"{verdict['margin']:.1f}; worst tenths {worst} of "
        f"{teacher['lower_tail']:.1f}; {verdict['episodes']} episodes; {alone} of {len(means)} are non-inferior by "
        f"themselves; kept is that of seed {result['kept_seed']}, the best in its validation"
    )
