"""The verdict on a student: the same seeds as the teacher, more of them while it is open."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gymnasium as gym

from kd_agent.environments import recipe_of_student
from kd_agent.environments.own_wrappers import TypedWrappers
from kd_agent.environments.teacher_view import view_of_teacher
from kd_agent.environments.vector import spaces_of
from kd_agent.evaluation.agreement import Agreement, measure_agreement
from kd_agent.evaluation.comparison import Episodes, PairedComparison, doublings
from kd_agent.evaluation.statistics import Verdict, iqm, iqm_interval
from kd_agent.loading import load_policy
from kd_agent.networks import Origin, check_fits
from kd_agent.policies import Policy
from kd_agent.rollouts import evaluate
from kd_agent.runs import Reporter, Run
from kd_agent.settings import EvaluateConfig
from kd_agent.teachers import load_teacher, viewing

EVALUATION_SEED = 20_000
"""The episodes' seeds count up from here, whatever the run's seed: never those of training."""


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
    config = run.config
    comparison = verdict_episodes(run)
    _warn_if_weak(run, comparison.teacher_returns(config.episodes))
    looks = doublings(config.episodes, config.max_episodes)
    own, verdict = comparison.play_until_decided(student, "the student", looks)
    close = measure_agreement(run.teacher, student, run.recipe, deterministic=not config.sampled)
    threshold = gym.spec(run.recipe.env_id).reward_threshold
    result: dict[str, Any] = {
        "format": 1,
        "env": run.recipe.env_id,
        "seed": config.seed,
        "play": "sampled" if config.sampled else "greedy",
        "teacher": _teacher_figures(run.teacher.origin, comparison.teacher_returns(len(own)), threshold),
        "student": _student_figures(student_file, student, own, close),
        "random": {"iqm": float(iqm(comparison.random_returns))},
        "verdict": _verdict_figures(verdict, _compression(run.teacher.origin, student)),
    }
    if run.teacher.origin.teachers:
        result["teachers"] = [dict(one) for one in run.teacher.origin.teachers]
    run.reporter.say(sentence(result))
    return result


def verdict_episodes(run: Run) -> PairedComparison:
    """The episodes on which a verdict falls: the same for every student of a teacher."""
    episodes = Episodes.of(run, first_seed=EVALUATION_SEED)
    return PairedComparison(episodes, run.teacher, margin=run.config.margin, random_episodes=run.config.episodes)


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
            statistics=config.statistics,
            allow_missing_statistics=config.allow_missing_statistics,
            trust_teacher=config.trust_teacher,
            onnx_output=config.onnx_output,
        )
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


def _warn_if_weak(run: Run, returns: list[float]) -> None:
    """Say so where the teacher's returns stay below the environment's reward threshold."""
    # A student can hold the return of a teacher that is worth nothing: the verdict alone would look like a success.
    env_id = run.recipe.env_id
    threshold = gym.spec(env_id).reward_threshold
    score = float(iqm(returns))
    if threshold is not None and score < threshold:
        run.reporter.say(f"WARNING: the teacher is weak: IQM {score:.1f}, {env_id} counts as solved from {threshold:g}")


def _teacher_figures(origin: Origin, returns: list[float], threshold: float | None) -> dict[str, Any]:
    figures = scores(returns)
    return {
        "source": origin.source,
        "sha256": origin.sha256,
        "algo": origin.algo,
        "parameters": origin.num_parameters,
        **figures,
        "reward_threshold": threshold,
        "weak": threshold is not None and figures["iqm"] < threshold,
    }


def _student_figures(file: Path, student: Policy, returns: list[float], close: Agreement) -> dict[str, Any]:
    raw = file.read_bytes()
    return {
        "file": file.name,
        "sha256": hashlib.sha256(raw).hexdigest(),
        "bytes": len(raw),
        "parameters": student.num_parameters,
        **scores(returns),
        **vars(close),
    }


def _compression(origin: Origin, student: Policy) -> float | None:
    """How many times fewer parameters the student has; None where the teacher's are not known."""
    if origin.num_parameters is None:
        return None
    return origin.num_parameters / student.num_parameters


def _verdict_figures(verdict: Verdict, compression: float | None) -> dict[str, Any]:
    return {
        "non_inferior": verdict.non_inferior,
        "decision": verdict.decision,
        "episodes": verdict.episodes,
        "margin": verdict.margin,
        "difference": verdict.difference,
        "difference_ci": list(verdict.difference_ci),
        "level": verdict.level,
        "compression": compression,
    }


def scores(returns: list[float]) -> dict[str, Any]:
    """Returns in seed order, their IQM and its 95 % interval."""
    return {"returns": returns, "iqm": float(iqm(returns)), "iqm_ci": list(iqm_interval(returns))}


def sentence(result: Mapping[str, Any]) -> str:
    """The verdict in one line."""
    teacher, student, verdict = result["teacher"], result["student"], result["verdict"]
    low, high = verdict["difference_ci"]
    play = result["play"]
    size = "size unknown" if teacher["parameters"] is None else f"{teacher['parameters']:,}"
    return (
        f"{verdict['decision']}: student IQM {student['iqm']:.1f} ({student['parameters']:,} parameters), teacher "
        f"{teacher['iqm']:.1f} ({size}), difference {verdict['difference']:+.1f} "
        f"[{low:.1f}, {high:.1f}] against a margin of {verdict['margin']:.1f}, {verdict['episodes']} episodes, {play}; "
        f"KL {student['kl']:.3g} (uniform policy {student['kl_uniform']:.3g}), agreement {student['agreement']:.1%}"
    )
