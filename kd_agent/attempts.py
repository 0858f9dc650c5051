"""Attempts at the last fit: each is examined on episodes of its own, and the best is kept.

The seeds of an exam are neither those of the data nor those of the verdict.
"""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from kd_agent.evaluate import Evaluation, evaluate
from kd_agent.head import Array
from kd_agent.policy import Student
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


class Exam:
    """Episodes that teacher and students play on the same seeds.

    Attributes:
        steps: Environment steps spent so far.
    """

    def __init__(self, run: Session) -> None:
        self._run = run
        self.steps = 0

    def grade(self, student: Student, number: int) -> Attempt:
        """Let a student sit the exam; where only one attempt is allowed there is none."""
        if self._run.config.attempts == 1:
            return Attempt(student, number, 0.0, True, 1)
        played = self._play(student.policy(), f"exam of attempt {number + 1}")
        verdict = compare(self._teacher.returns, played.returns, self._chance, margin=self._run.config.margin)
        self._run.events.add_scalar("exam/iqm", float(iqm(played.returns)), number)
        return Attempt(student, number, float(iqm(played.returns)), verdict.non_inferior, number + 1)

    @cached_property
    def _teacher(self) -> Evaluation:
        return self._play(self._run.teacher, "exam of the teacher")

    @cached_property
    def _chance(self) -> float:
        return float(iqm(self._play(None, "exam of the random policy").returns))

    def _play(self, player: Any, name: str) -> Evaluation:
        config = self._run.config
        seeds = range(EXAM_SEED, EXAM_SEED + config.exam_episodes)
        with self._run.reporter.stage(name, len(seeds), "episodes") as advance:
            played = evaluate(player, self._run.recipe, seeds=seeds, advance=advance)
        self.steps += int(played.lengths.sum())
        return played
