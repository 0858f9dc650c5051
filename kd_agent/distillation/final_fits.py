"""Attempts at the last fit: each is examined on episodes of its own, and the best is kept.

The seeds of an exam are neither those of the data nor those of the verdict.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from stable_baselines3.common.vec_env import VecEnv

from kd_agent.distillation.dagger import collect_round, keep_round, read_round
from kd_agent.distillation.fitting import build_student, fit_all, load_student
from kd_agent.evaluation import Arena, Contest, iqm
from kd_agent.networks import Student
from kd_agent.policies import Array
from kd_agent.rollouts import Rollout
from kd_agent.runs.record import Session

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
        returns: Of its episodes in the exam.
    """

    student: Student
    number: int
    score: float
    holds: bool
    tried: int
    returns: Sequence[float] = ()

    @property
    def stale(self) -> int:
        """How many attempts were made since."""
        return self.tried - 1 - self.number

    def or_better(self, other: "Attempt | None") -> "Attempt":
        """The better of two, knowing how many attempts there were."""
        winner = self if other is None or self.score > other.score else other
        return replace(winner, tried=self.tried)

    def arrays(self) -> dict[str, Array]:
        """Weights and figures, for a checkpoint."""
        figures = np.array([self.number, self.score, self.holds, self.tried], np.float64)
        return {**self.student.arrays(), "attempt": figures, "returns": np.array(self.returns, np.float64)}


def last_fits(
    run: Session, env: VecEnv, rollouts: list[Rollout], exam: "Exam", *, name: str = "best", patience: int | None = None
) -> Attempt:
    """Last fits until one holds the teacher's return; before each but the first, the best so far drives a round.

    Args:
        run: The run.
        env: Where the rounds are collected.
        rollouts: The rounds so far; those that are added are appended.
        exam: What each attempt has to pass.
        name: Checkpoint of the best attempt; one that is there is where this goes on.
        patience: After how many attempts in a row without a better one to give up; None: never.

    Returns:
        The best attempt.
    """
    best = _read_best(run, rollouts[0], name)
    for _ in range(best.tried - 1 if best else 0):
        rollouts.append(read_round(run.folder, len(rollouts)))
    while not best or not (best.holds or best.tried == run.effort.attempts or best.stale == patience):
        tried = best.tried if best else 0
        if best:
            rollouts.append(collect_round(run, env, best.student, len(rollouts)))
            keep_round(run.folder, len(rollouts) - 1, rollouts[-1])
        student = build_student(run, rollouts[0], tried)
        fit_all(run, student, rollouts, name=f"last fit, attempt {tried + 1}", steps=run.effort.final_steps,
                number=run.effort.rounds + tried)  # fmt: skip
        best = exam.grade(student, tried, best).or_better(best)
        run.folder.save_arrays(name, best.arrays())
    return best


def _read_best(run: Session, first: Rollout, name: str) -> Attempt | None:
    arrays = run.folder.load_arrays(name)
    if arrays is None:
        return None
    number, score, holds, tried = arrays.pop("attempt")
    returns = arrays.pop("returns").tolist()
    student = load_student(run, first, int(number), arrays)
    return Attempt(student, int(number), float(score), bool(holds), int(tried), returns)


class Exam(Contest):
    """Episodes that teacher and students play, a quarter first, then half, then all."""

    def __init__(self, run: Session) -> None:
        self._run, total = run, run.effort.exam_episodes
        self._looks = sorted({max(1, total // 4), max(1, total // 2), total})
        arena = Arena(run.recipe, first_seed=EXAM_SEED, reporter=run.reporter, stage="exam of")
        super().__init__(arena, run.teacher, margin=run.config.margin, episodes=self._looks[0])

    def grade(self, student: Student, number: int, best: Attempt | None) -> Attempt:
        """Let a student sit the exam until it is shown to hold the teacher's return, or falls behind the best.

        Where only one attempt of one size is allowed there is no exam.
        """
        if self._run.effort.attempts == 1 and not self._run.config.search_size:
            return Attempt(student, number, 0.0, True, 1)
        policy, returns = student.policy(), list[float]()
        for look in self._looks:
            returns += self.arena.play(policy, f"attempt {number + 1}", look - len(returns), len(returns))
            verdict, score = self.verdict(returns, looks=len(self._looks)), float(iqm(returns))
            if verdict.non_inferior or (best and score < best.score - verdict.margin):
                break
        self._run.events.add_scalar("exam/iqm", score, number)
        return Attempt(student, number, score, verdict.non_inferior, number + 1, returns)

    def decision(self, attempt: Attempt) -> str:
        """What the exam said of an attempt: "non-inferior", "inferior" or "undecided"."""
        return self.verdict(attempt.returns, looks=len(self._looks)).decision
