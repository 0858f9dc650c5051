"""Final fits: each is validated on episodes of its own, and the best is kept; where none holds, the student grows."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from kd_agent.distillation.dagger import Rounds, collect_rounds
from kd_agent.distillation.outcome import Fitted
from kd_agent.distillation.validation import Grade, Grades, Validation
from kd_agent.networks import Student, Teacher
from kd_agent.policies import Array
from kd_agent.ppo.teacher import Watch
from kd_agent.runs import Run, RunFolder, checkpoint_file
from kd_agent.settings import DistillConfig
from kd_agent.students import growing_sizes

PATIENCE = 2
"""Final fits in a row, none of them better than the best before, after which a student grows."""
FAR = -2.0
"""Score, in margins, of a size that is given up after one fit: more data will not bring it near."""
BEST = "best"
"""Checkpoint of the best attempt."""


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
        """The student that is kept: the first that holds, else the best; where none does, it grows if it may.

        Args:
            rounds: The rounds so far; each further fit adds one, and all labels are kept.
        """
        run = rounds.run
        validation = Validation(run)
        sizes = sizes_of(run)
        found: list[tuple[Run, Attempt]] = []
        tried: list[Size] = []
        for hidden in sizes:
            last = hidden == sizes[-1]
            rounds.runs = [run.planned(hidden=hidden)]
            patience = None if last else PATIENCE
            best = final_fits(rounds, [validation], name=checkpoint_of(hidden, run.plan.hidden), patience=patience)
            found.append((rounds.run, best))
            tried.append(Size.of(hidden, best))
            if best.holds or last:
                break
            run.reporter.say(f"{tried[-1].sentence()}: it grows")
        chosen, kept = max(found, key=lambda one: (one[1].holds, one[1].score))
        figures = {}
        if len(sizes) > 1:
            figures["sizes"] = [asdict(size) for size in tried]
        return Fitted(chosen, kept.student, kept.score, figures=figures)


@dataclass(frozen=True)
class Size:
    """What the final fits of one size came to.

    Attributes:
        hidden: Hidden layers.
        parameters: Parameters that act.
        attempts: Final fits.
        score: Of the best of them: how far its worse part is from being lost, in margins.
        holds: Whether it holds.
    """

    hidden: tuple[int, ...]
    parameters: int
    attempts: int
    score: float
    holds: bool

    @staticmethod
    def of(hidden: tuple[int, ...], best: Attempt) -> "Size":
        """Those of the best attempt of a size.

        Args:
            hidden: The size.
            best: The attempt.
        """
        return Size(hidden, best.student.policy().num_parameters, best.tried, best.score, best.holds)

    def sentence(self) -> str:
        """The size in words."""
        layers = " x ".join(map(str, self.hidden)) or "linear"
        return (
            f"size {layers}: {self.parameters:,} parameters, the best of {self.attempts} final fits is "
            f"{self.score:+.1f} margins from being lost and does not hold"
        )


def sizes_of(run: Run) -> list[tuple[int, ...]]:
    """The hidden layers that a run may try, the first of them its own."""
    if not run.plan.grow or run.plan.attempts == 1:
        return [run.plan.hidden]
    return growing_sizes(run.teacher, run.observed, run.plan.hidden, run.plan.student)


def checkpoint_of(hidden: tuple[int, ...], first: tuple[int, ...]) -> str:
    """Name of the checkpoint of a size's best attempt.

    Args:
        hidden: The size.
        first: The run's own.
    """
    if hidden == first:
        return BEST
    return f"{BEST}-{'x'.join(map(str, hidden))}"


def final_fits(
    rounds: Rounds, validations: Sequence[Grades], *, name: str = BEST, patience: int | None = None
) -> Attempt:
    """Fit until the teachers' returns are held; before each fit but the first, the best so far drives a round.

    Args:
        rounds: The rounds so far; one is added before each further attempt.
        validations: What each attempt has to pass, one of each task.
        name: Checkpoint of the best attempt; one that is there is where this goes on.
        patience: After how many attempts in a row without a better one, or at once where the first is far off, to
            give up; None: never.

    Returns:
        The best attempt.
    """
    plan = rounds.run.plan
    best = _read_best(rounds, validations, name)
    while best is None or not (best.holds or best.tried == plan.attempts or _hopeless(best, patience)):
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


def _hopeless(best: Attempt, patience: int | None) -> bool:
    """Whether further attempts of a size are for nothing."""
    if patience is None:
        return False
    return best.stale >= patience or (len(best.grades) == 1 and best.score < FAR)


def grade(
    validations: Sequence[Grades], students: Sequence[Student], number: int, best: Attempt | None = None
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


def keep_best(rounds: Rounds, validations: Sequence[Grades], name: str, best: Attempt) -> None:
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


def _read_best(rounds: Rounds, validations: Sequence[Grades], name: str) -> Attempt | None:
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
