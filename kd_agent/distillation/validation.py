"""The validation of a student: episodes whose seeds are neither those of the data nor those of the verdict."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from kd_agent.evaluation import VALIDATION, Episodes, PairedComparison
from kd_agent.networks import Student
from kd_agent.runs import Run

VALIDATION_SEED = 10_000
_MAIN_LOOK = 60
"""Episodes after which most students are decided."""
_RANDOM = 20
"""Episodes of the random policy, which give the scale."""


@dataclass(frozen=True)
class Grade:
    """What a validation says of a student.

    Attributes:
        score: How far the worse of its two parts is from being lost, in margins (`Verdict.score`).
        holds: Whether both parts hold at a validation's error, or still are at the teacher's level in its last look.
        returns: Of its episodes.
    """

    score: float
    holds: bool
    returns: Sequence[float] = ()


class Grades(Protocol):
    """What students are chosen by, one after the other."""

    def grade(self, student: Student, number: int, rival: float | None = None) -> Grade:
        """The grade of a student.

        Args:
            student: The student.
            number: Which attempt made it.
            rival: Score of the best so far.
        """

    def played(self) -> tuple[list[float], list[float]]:
        """Returns of teacher and random policy so far, for a checkpoint."""

    def restore(self, teacher: Sequence[float], random: Sequence[float]) -> None:
        """Go on from what was played before.

        Args:
            teacher: Returns of the teacher, from `played`.
            random: Returns of the random policy.
        """


class Validation(PairedComparison):
    """Episodes that teacher and students play, as in the verdict and by both its parts, but with a larger error.

    Args:
        run: The run.

    Attributes:
        looks: Numbers of episodes after which a student is looked at, each with its error.
    """

    def __init__(self, run: Run) -> None:
        total = run.plan.exam_episodes
        self._run = run
        self.looks = VALIDATION.looks(min(_MAIN_LOOK, total), total)
        episodes = Episodes.of(run, first_seed=VALIDATION_SEED, stage="validation of", purpose="validation_steps")
        super().__init__(episodes, run.teacher, margin=run.config.margin, random_episodes=min(_RANDOM, total))

    def grade(self, student: Student, number: int, rival: float | None = None) -> Grade:
        """Let a student play until it is decided whether it holds, or falls behind the best so far.

        Where only one attempt of one size is allowed there is nothing to choose, and no validation.

        Args:
            student: The student.
            number: Which attempt made it.
            rival: Score of the best so far.
        """
        if self._run.plan.attempts == 1 and not self._run.config.search_size:
            return Grade(0.0, holds=True)
        returns, verdict = self.play_until_decided(student.policy(), f"attempt {number + 1}", self.looks, rival=rival)
        # Where all episodes leave it open although it does as well as its teacher, more fits would choose by chance.
        holds = verdict.non_inferior or (verdict.episodes == self.looks[-1][0] and verdict.score >= 1)
        self._run.events.add_scalar("validation/score", verdict.score, number)
        self._run.events.add_scalar("validation/mean", float(np.mean(returns)), number)
        return Grade(verdict.score, holds, returns)

    def decision(self, returns: Sequence[float]) -> str:
        """What is said of returns at a look of the same number of episodes: "non-inferior", "inferior" or "undecided".

        Args:
            returns: Of a student, in the order of the episodes.
        """
        return self.verdict(returns, error=self.error_at(len(returns))).decision

    def error_at(self, episodes: int) -> float:
        """The error of a look at so many episodes.

        Args:
            episodes: How many.
        """
        return dict(self.looks).get(episodes, VALIDATION.late)
