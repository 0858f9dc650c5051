"""Final fits: each is validated on episodes of its own, and the best is kept.

The seeds of a validation are neither those of the data nor those of the verdict.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from kd_agent.distillation.dagger import Rounds, collect_rounds
from kd_agent.distillation.outcome import Fitted
from kd_agent.evaluation import VALIDATION, Episodes, PairedComparison
from kd_agent.networks import Student, Teacher
from kd_agent.policies import Array
from kd_agent.ppo.teacher import Watch
from kd_agent.runs import Run, RunFolder, checkpoint_file
from kd_agent.settings import DistillConfig

VALIDATION_SEED = 10_000
_MAIN_LOOK = 60
"""Episodes after which most students are decided."""
_RANDOM = 20
"""Episodes of the random policy, which give the scale."""
BEST = "best"
"""Checkpoint of the best attempt."""


@dataclass(frozen=True)
class Grade:
    """What a validation says of a student.

    Attributes:
        score: How far the worse of its two parts is from being lost, in margins (`Verdict.score`).
        holds: Whether both parts hold, at a validation's error.
        returns: Of its episodes.
    """

    score: float
    holds: bool
    returns: Sequence[float] = ()


@dataclass(frozen=True)
class Attempt:
    """What one final fit made, and how it did.

    Attributes:
        students: One of each task.
        number: Which attempt made them, from 0.
        grades: Of each student.
        tried: How many attempts have been made.
    """

    students: Sequence[Student]
    number: int
    grades: Sequence[Grade]
    tried: int

    @property
    def student(self) -> Student:
        """The student, where there is one task."""
        return self.students[0]

    @property
    def score(self) -> float:
        """Its score."""
        return self.grades[0].score

    @property
    def returns(self) -> Sequence[float]:
        """Its returns."""
        return self.grades[0].returns

    @property
    def holding(self) -> int:
        """In how many tasks the teacher's return is held."""
        return sum(grade.holds for grade in self.grades)

    @property
    def holds(self) -> bool:
        """Whether it is held in all of them."""
        return self.holding == len(self.grades)

    @property
    def stale(self) -> int:
        """How many attempts were made since."""
        return self.tried - 1 - self.number

    def or_better(self, other: "Attempt | None") -> "Attempt":
        """The better of two, knowing how many attempts there were.

        Of one task, the higher score wins. Scores of several tasks have different units: there the one that holds
        in more tasks wins, of two alike the later one, which was fitted to more states.
        """
        if other is None:
            return self
        one_task = len(self.grades) == 1
        wins = self.score > other.score if one_task else self.holding >= other.holding
        winner = self if wins else other
        return replace(winner, tried=self.tried)


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
        self._run.events.add_scalar("validation/score", verdict.score, number)
        self._run.events.add_scalar("validation/mean", float(np.mean(returns)), number)
        return Grade(verdict.score, verdict.non_inferior, returns)

    def decision(self, returns: Sequence[float]) -> str:
        """What is said of returns at a look of the same number of episodes: "non-inferior", "inferior" or "undecided".

        Args:
            returns: Of a student, in the order of the episodes.
        """
        errors = dict(self.looks)
        return self.verdict(returns, error=errors.get(len(returns), VALIDATION.other)).decision


class FinalFits:
    """The default strategy: rounds of DAgger, then final fits until one holds the teacher's return."""

    def check(self, config: DistillConfig) -> None:
        """Refuse settings that do not go with the strategy: none."""

    def watch(
        self, folder: RunFolder, run_with: Callable[[Teacher], Run], load: Callable[[Path], Teacher]
    ) -> Watch | None:
        """Who is shown the teacher after each evaluation of its training; None: nobody.

        Args:
            folder: The run folder.
            run_with: Makes the run for the teacher of the moment.
            load: Reads the teacher of the moment from its zip.
        """
        return None

    def collect(self, run: Run) -> Rounds:
        """The rounds of labelled states."""
        return collect_rounds([run])

    def final_fit(self, rounds: Rounds) -> Fitted:
        """The student that is kept."""
        best = final_fits(rounds, [Validation(rounds.run)])
        return Fitted(rounds.run, best.student)


def final_fits(
    rounds: Rounds, validations: Sequence[Validation], *, name: str = BEST, patience: int | None = None
) -> Attempt:
    """Fit until the teachers' returns are held; before each fit but the first, the best so far drives a round.

    Args:
        rounds: The rounds so far; one is added before each further attempt.
        validations: What each attempt has to pass, one of each task.
        name: Checkpoint of the best attempt; one that is there is where this goes on.
        patience: After how many attempts in a row without a better one to give up; None: never.

    Returns:
        The best attempt.
    """
    plan = rounds.run.plan
    best = _read_best(rounds, validations, name)
    while best is None or not (best.holds or best.tried == plan.attempts or best.stale == patience):
        number = 0
        if best:
            # What the best so far visits is what its successor has to know: DAgger goes on beyond the rounds.
            number = best.tried
            rounds.collect(best.students)
            rounds.keep()
        students = rounds.new_students(number)
        stage = f"final fit, attempt {number + 1}"
        rounds.fit(students, name=stage, steps=plan.final_steps, number=plan.rounds + number)
        best = grade(validations, students, number, best).or_better(best)
        keep_best(rounds, validations, name, best)
    return best


def grade(
    validations: Sequence[Validation], students: Sequence[Student], number: int, best: Attempt | None = None
) -> Attempt:
    """An attempt with the grades of its students.

    Args:
        validations: One of each task.
        students: One of each task.
        number: Which attempt it is.
        best: The best so far.
    """
    # Falling behind in one of several tasks decides nothing yet.
    rival = None
    if best and len(students) == 1:
        rival = best.score
    grades = []
    for validation, student in zip(validations, students, strict=True):
        grades.append(validation.grade(student, number, rival))
    return Attempt(students, number, grades, number + 1)


def keep_best(rounds: Rounds, validations: Sequence[Validation], name: str, best: Attempt) -> None:
    """Write the best attempt into the run folder, and what was played for it.

    Args:
        rounds: The rounds that it was fitted to.
        validations: One of each task.
        name: The checkpoint's.
        best: The attempt.
    """
    figures: dict[str, Array] = {"attempt": np.array([best.number, best.tried])}
    for index, one in enumerate(best.grades):
        teacher, random = validations[index].played()
        figures[f"grade.{index}"] = np.array([one.score, one.holds], np.float64)
        figures[f"returns.{index}"] = np.array(one.returns, np.float64)
        figures[f"teacher.{index}"] = np.array(teacher, np.float64)
        figures[f"random.{index}"] = np.array(random, np.float64)
    rounds.save(name, best.students, figures)


def _read_best(rounds: Rounds, validations: Sequence[Validation], name: str) -> Attempt | None:
    """The best attempt of a run that goes on; the rounds collected beyond the budget are read too."""
    arrays = rounds.load(name)
    if arrays is None:
        return None
    grades = []
    with rounds.run.folder.reading(checkpoint_file(name)):
        number, tried = map(int, arrays.pop("attempt"))
        for index, validation in enumerate(validations):
            score, holds = arrays.pop(f"grade.{index}")
            returns = arrays.pop(f"returns.{index}").tolist()
            # Else the teacher would play its episodes again, and the costs would not be those of an uninterrupted run.
            validation.restore(arrays.pop(f"teacher.{index}").tolist(), arrays.pop(f"random.{index}").tolist())
            grades.append(Grade(float(score), bool(holds), returns))
    for _ in range(tried - 1):
        rounds.read()
    return Attempt(rounds.load_students(arrays, number), number, grades, tried)
