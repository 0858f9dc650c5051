"""The verdict on a student: the same seeds as the teacher, more of them while it is open."""

import hashlib
from pathlib import Path
from typing import Any

import gymnasium as gym

from kd_agent.environments import Recipe, recipe_of, recorded_recipe
from kd_agent.environments.vector import spaces_of
from kd_agent.evaluation.agreement import Closeness, closeness
from kd_agent.evaluation.comparison import Arena, Contest, doublings
from kd_agent.evaluation.statistics import Verdict, iqm, iqm_interval
from kd_agent.loading import load_policy
from kd_agent.networks import Teacher, check_fits
from kd_agent.policies import Policy
from kd_agent.rollouts import evaluate
from kd_agent.runs import Reporter
from kd_agent.settings import DistillConfig, EvaluateConfig
from kd_agent.teachers import load_teacher

EVALUATION_SEED = 20_000
"""The episodes' seeds count up from here, whatever the run's seed: never those of training."""


def judge(
    config: DistillConfig, recipe: Recipe, teacher: Teacher, student_file: Path, reporter: Reporter,
    *, task: str | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Play teacher, student and the random policy on the same seeds and compare them.

    A file that holds several tasks is judged in one of them.

    Returns:
        `result.json` without its costs.
    """
    student = load_policy(student_file, task=task)
    arena = Arena(recipe, first_seed=EVALUATION_SEED, reporter=reporter)
    contest = Contest(arena, teacher, margin=config.margin, episodes=config.episodes)
    warn_if_weak(recipe.env_id, contest.teacher(config.episodes), reporter)
    own, verdict = contest.settle(student, "the student", doublings(config.episodes, config.max_episodes))
    returns = {"teacher": contest.teacher(len(own)), "student": own, "random": contest.chance}
    close = closeness(teacher, student, recipe)
    result = summary(
        config, recipe.env_id, teacher, student_file, student, returns=returns, verdict=verdict, close=close
    )
    reporter.say(sentence(result))
    return result


def evaluate_file(config: EvaluateConfig) -> dict[str, Any]:
    """Play a saved student, and a teacher if one is named, on the same seeds.

    Raises:
        KDError: The student is of another environment, or something cannot be read.
    """
    student = load_policy(config.student, task=config.task)
    recipe = recipe_of(config.env or recorded_recipe(student.graph) or student.env_id, config.env_kwargs)
    spaces = spaces_of(recipe)
    check_fits(student.graph, spaces, config.student)
    players: dict[str, Any] = {"student": student}
    for source in config.teacher:
        players[source] = load_teacher(
            source, env=spaces, statistics=config.statistics, trust_teacher=config.trust_teacher
        )
    reporter = Reporter(quiet=config.quiet, progress=config.progress)
    seeds = range(config.seed, config.seed + config.episodes)
    result: dict[str, Any] = {
        "env": recipe.env_id,
        "seeds": [seeds.start, seeds.stop],
        "deterministic": not config.sampled,
    }
    for name, player in players.items():
        with reporter.stage(f"evaluating {name}", len(seeds), "episodes") as advance:
            played = evaluate(player, recipe, seeds=seeds, deterministic=not config.sampled, advance=advance)
        result[name] = scores(played.returns.tolist())
    return result


def warn_if_weak(env_id: str, returns: list[float], reporter: Reporter) -> None:
    """Say so where the teacher's returns stay below the environment's reward threshold."""
    threshold = gym.spec(env_id).reward_threshold
    score = float(iqm(returns))
    if threshold is not None and score < threshold:
        reporter.say(f"WARNING: the teacher is weak: IQM {score:.1f}, {env_id} counts as solved from {threshold:g}")


def summary(
    config: DistillConfig, env_id: str, teacher: Teacher, file: Path, student: Policy, *,
    returns: dict[str, list[float]], verdict: Verdict, close: Closeness,
) -> dict[str, Any]:  # fmt: skip
    """The figures in the layout of `result.json`."""
    raw = file.read_bytes()
    threshold = gym.spec(env_id).reward_threshold
    teacher_scores = scores(returns["teacher"])
    return {
        "format": 1,
        "env": env_id,
        "seed": config.seed,
        "teacher": {
            "source": teacher.origin.source, "sha256": teacher.origin.sha256, "algo": teacher.origin.algo,
            "parameters": teacher.origin.num_parameters, **teacher_scores,
            "reward_threshold": threshold, "weak": threshold is not None and teacher_scores["iqm"] < threshold,
        },
        "student": {
            "file": file.name, "sha256": hashlib.sha256(raw).hexdigest(), "bytes": len(raw),
            "parameters": student.num_parameters, **scores(returns["student"]), **vars(close),
        },
        **({"teachers": [dict(one) for one in teacher.origin.teachers]} if teacher.origin.teachers else {}),
        "random": {"iqm": float(iqm(returns["random"]))},
        "verdict": {
            "non_inferior": verdict.non_inferior, "decision": verdict.decision, "episodes": verdict.episodes,
            "margin": verdict.margin, "difference": verdict.difference,
            "difference_ci": list(verdict.difference_ci), "level": verdict.level,
            "compression": teacher.origin.num_parameters / student.num_parameters,
        },
    }  # fmt: skip


def scores(returns: list[float]) -> dict[str, Any]:
    """Returns in seed order, their IQM and its 95 % interval."""
    return {"returns": returns, "iqm": float(iqm(returns)), "iqm_ci": list(iqm_interval(returns))}


def sentence(result: dict[str, Any]) -> str:
    """The verdict in one line."""
    teacher, student, verdict = result["teacher"], result["student"], result["verdict"]
    low, high = verdict["difference_ci"]
    return (
        f"{verdict['decision']}: student IQM {student['iqm']:.1f} ({student['parameters']:,} parameters), teacher "
        f"{teacher['iqm']:.1f} ({teacher['parameters']:,}), difference {verdict['difference']:+.1f} "
        f"[{low:.1f}, {high:.1f}] against a margin of {verdict['margin']:.1f}, {verdict['episodes']} episodes, greedy; "
        f"KL {student['kl']:.3g} (uniform policy {student['kl_uniform']:.3g}), agreement {student['agreement']:.1%}"
    )
