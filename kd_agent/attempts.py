"""Attempts at the last fit: each is examined on episodes of its own, and the best is kept.

The seeds of an exam are neither those of the data nor those of the verdict.
"""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from stable_baselines3.common.vec_env import VecEnv

from kd_agent.evaluate import evaluate
from kd_agent.fitting import build_student, fit_all, load_student
from kd_agent.head import Array
from kd_agent.policy import Student
from kd_agent.rollouts import Rollout
from kd_agent.rounds import collect_round, keep_round, read_round
from kd_agent.session import Session
from kd_agent.statistics import compare, iqm

EXAM_SEED = 10_000


@dataclass(frozen=True)
class Attempt:
    """A fitted student and how it did.

    Attributes:
        student: The student.
        number: Which attempt made it, from 0.
        score: Its IQM in the exam.
        holds: Whether it is shown to hold the teacher's return, up to the margin.
        tried: How many attempts have been made.
    """

    student: Student
    number: int
    score: float
    holds: bool
    tried: int

    def or_better(self, other: "Attempt | None") -> "Attempt":
        """The better of two, knowing how many attempts there were."""
        winner = self if other is None or self.score > other.score else other
        return replace(winner, tried=self.tried)

    def arrays(self) -> dict[str, Array]:
        """Weights and figures, for a checkpoint."""
        figures = np.array([self.number, self.score, self.holds, self.tried], np.float64)
        return {**self.student.arrays(), "attempt": figures}


def last_fits(run: Session, env: VecEnv, rollouts: list[Rollout], exam: "Exam", name: str = "best") -> Attempt:
    """Last fits until one holds the teacher's return; before each but the first, the best so far drives a round.

    Args:
        run: The run.
        env: Where the rounds are collected.
        rollouts: The rounds so far; those that are added are appended.
        exam: What each attempt has to pass.
        name: Checkpoint of the best attempt; one that is there is where this goes on.

    Returns:
        The best attempt.
    """
    best = _read_best(run, rollouts[0], name)
    for _ in range(best.tried - 1 if best else 0):
        rollouts.append(read_round(run.folder, len(rollouts)))
    while not best or (best.tried < run.effort.attempts and not best.holds):
        tried = best.tried if best else 0
        if best:
            rollouts.append(collect_round(run, env, best.student, len(rollouts)))
            keep_round(run.folder, len(rollouts) - 1, rollouts[-1])
        student = build_student(run, rollouts[0], tried)
        fit_all(run, student, rollouts, name=f"last fit, attempt {tried + 1}", steps=run.effort.final_steps,
                number=run.config.rounds + tried)  # fmt: skip
        best = exam.grade(student, tried, best).or_better(best)
        run.folder.save_arrays(name, best.arrays())
    return best


def _read_best(run: Session, first: Rollout, name: str) -> Attempt | None:
    arrays = run.folder.load_arrays(name)
    if arrays is None:
        return None
    number, score, holds, tried = arrays.pop("attempt")
    student = load_student(run, first, int(number), arrays)
    return Attempt(student, int(number), float(score), bool(holds), int(tried))


class Exam:
    """Episodes that teacher and students play on the same seeds, a quarter first, then half, then all.

    Attributes:
        steps: Environment steps spent so far.
    """

    def __init__(self, run: Session) -> None:
        self._run = run
        total = run.effort.exam_episodes
        self._looks = sorted({max(1, total // 4), max(1, total // 2), total})
        self._teacher: list[float] = []
        self.steps = 0

    def grade(self, student: Student, number: int, best: Attempt | None) -> Attempt:
        """Let a student sit the exam until it is shown to hold the teacher's return, or falls behind the best.

        Where only one attempt is allowed there is no exam.
        """
        config = self._run.config
        if self._run.effort.attempts == 1:
            return Attempt(student, number, 0.0, True, 1)
        returns: list[float] = []
        for look in self._looks:
            self._play(self._run.teacher, self._teacher, look, "exam of the teacher")
            self._play(student.policy(), returns, look, f"exam of attempt {number + 1}")
            verdict = compare(self._teacher[:look], returns, self._chance, margin=config.margin, looks=len(self._looks))
            score = float(iqm(returns))
            if verdict.non_inferior or (best and score < best.score - verdict.margin):
                break
        self._run.events.add_scalar("exam/iqm", score, number)
        return Attempt(student, number, score, verdict.non_inferior, number + 1)

    @cached_property
    def _chance(self) -> float:
        returns: list[float] = []
        self._play(None, returns, self._looks[0], "exam of the random policy")
        return float(iqm(returns))

    def _play(self, player: Any, returns: list[float], count: int, name: str) -> None:
        """Play until there are `count` returns."""
        seeds = range(EXAM_SEED + len(returns), EXAM_SEED + count)
        if not seeds:
            return
        with self._run.reporter.stage(name, len(seeds), "episodes") as advance:
            played = evaluate(player, self._run.recipe, seeds=seeds, advance=advance)
        returns += played.returns.tolist()
        self.steps += int(played.lengths.sum())
