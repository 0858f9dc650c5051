"""Several distillations that differ in nothing but their seed, and one verdict over all of them.

One student says little of a method: those of one recipe differ by their initial weights and by the states that they
saw. Here the verdict is on how such a student does, over seeds and episodes, and the best of them *by validation* is
kept: to choose it by the verdict's own episodes would be to judge the luckiest.
"""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import numpy as np

from kd_agent.distillation.outcome import Fitted, Result, save_student, write_result
from kd_agent.distillation.problem import Problem
from kd_agent.distillation.strategies import strategy_of
from kd_agent.distillation.then_ppo import say_overtook, then_ppo
from kd_agent.errors import KDError
from kd_agent.evaluation import PairedComparison, Verdict, result_of, verdict_episodes, verdict_figures, verdict_looks
from kd_agent.evaluation.references import References
from kd_agent.evaluation.verdict import Played, over_seeds
from kd_agent.loading import load_policy
from kd_agent.networks import Teacher
from kd_agent.policies import Policy
from kd_agent.policies.safe_files import write_atomically
from kd_agent.runs import STUDENT_FILE, Costs, Run
from kd_agent.settings import DistillConfig


def distill_seeds(config: DistillConfig, teacher: Teacher | None = None) -> Result:
    """Distil once for each of `config.seeds` seeds and judge all students together.

    Args:
        config: The settings; the seeds count up from `seed`.
        teacher: As `distill`'s.

    Returns:
        The content of `result.json`: that of the student that is kept, the verdict over all of them, and under
        `seeds` what each came to. Each one's own files lie in `seed-<n>` of the run folder.

    Raises:
        KDError: An input is wrong, or a setting is for one student only.
    """
    check(config)
    problem = Problem.of(config, teacher)
    with problem.begin() as run:
        # Whoever has just been trained teaches all of them.
        problem = replace(problem, teacher=run.teacher)
        with ExitStack() as stack:
            fitted = []
            for number in range(config.seeds):
                seed = config.seed + number
                one = problem.in_folder(run.folder.path / f"seed-{seed}", seed=seed, seeds=1)
                fitted.append(_fit(stack, one, run.costs))
            result = _judge(run, fitted)
        return write_result(run, result)


def check(config: DistillConfig) -> None:
    """Refuse what is for one student only."""
    for name in ("search_size", "realtime", "control"):
        if getattr(config, name):
            raise KDError(f"--{name.replace('_', '-')} is for one student: leave out --seeds, or that")
    # Each seed's own strategy may refuse them too, and that is to be said before a folder is made.
    strategy_of(config)


def _fit(stack: ExitStack, problem: Problem, costs: Costs) -> Fitted:
    strategy = strategy_of(problem.config)
    run = stack.enter_context(problem.begin(strategy, costs))
    rounds = strategy.collect(run)
    fitted = strategy.final_fit(rounds)
    rounds.close()
    return then_ppo(fitted)


def _judge(run: Run, fitted: Sequence[Fitted]) -> dict[str, Any]:
    """Let all students play the same episodes until the verdict over them falls."""
    files = [save_student(one.run, one.student) for one in fitted]
    students = [load_policy(file) for file in files]
    comparison = verdict_episodes(run)
    references = References.of(run, comparison)
    for line in references.lines():
        run.reporter.say(line)
    with run.costs.timed("evaluate_s"):
        returns, verdict = _play(run, comparison, students)
        best = max(range(len(fitted)), key=lambda number: fitted[number].score)
        each = []
        for one, file, student, earned in zip(fitted, files, students, returns, strict=True):
            alone = comparison.verdict(earned, error=verdict.error)
            played = Played(comparison, references, earned, alone)
            judged = {**result_of(one.run, file, student, played), **one.figures}
            say_overtook(judged)
            each.append(judged)
    write_atomically(run.folder.path / STUDENT_FILE, files[best].read_bytes())
    result = {**each[best], "seed": run.config.seed, "kept_seed": fitted[best].run.config.seed}
    rows = []
    for one, own in zip(fitted, each, strict=True):
        row = {"seed": one.run.config.seed, "score": one.score, "student": own["student"], "verdict": own["verdict"]}
        if "then_ppo" in own:
            row["then_ppo"] = own["then_ppo"]
        rows.append(row)
    result["seeds"] = rows
    result["verdict"] = {**each[best]["verdict"], **verdict_figures(verdict)}
    run.reporter.say(over_seeds(result))
    return result


def _play(run: Run, comparison: PairedComparison, students: Sequence[Policy]) -> tuple[list[list[float]], Verdict]:
    """Returns `[K][n]` of all students, and the verdict over them."""
    returns: list[list[float]] = [[] for _ in students]
    for episodes, error in verdict_looks(run):
        for number, student in enumerate(students):
            played = len(returns[number])
            name = f"student {number + 1} of {len(students)}"
            returns[number] += comparison.episodes.play(student, name, episodes - played, played)
        verdict = comparison.verdict(np.array(returns), error=error)
        if verdict.decision != "undecided":
            break
    return returns, verdict
