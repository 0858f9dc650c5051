"""Recorded data in the place of a teacher: nothing is collected, some episodes are held out, the others fitted."""

from collections.abc import Sequence

import numpy as np

from kd_agent.distillation.dagger import Rounds
from kd_agent.distillation.final_fits import FinalFits, final_fits
from kd_agent.distillation.outcome import Fitted
from kd_agent.distillation.validation import Grade, Grades, Validation
from kd_agent.evaluation import held_out_states, measure_held_out
from kd_agent.networks import Student
from kd_agent.policies import Array
from kd_agent.rollouts import Rollout
from kd_agent.rollouts.rollout import TEACHER
from kd_agent.runs import Run
from kd_agent.teachers import RecordedTeacher, environment_of


class RecordedRounds(Rounds):
    """The one round that a recording is, less what is held out.

    Args:
        run: The run, whose teacher is a recording.
    """

    def __init__(self, run: Run) -> None:
        self.runs = [run]
        self.data = [[training_rollout(teacher_of(run), run.config.seed)]]
        self._episodes = []

    def collect(self, drivers: Sequence[Student]) -> None:
        """Nothing: there is nobody who could label another state.

        Args:
            drivers: Not needed.
        """

    def keep(self) -> None:
        """Nothing: the recording itself is kept."""

    def read(self) -> None:
        """Nothing: no round is beyond the recording."""


class HeldOutValidation:
    """What students are chosen by where nobody plays: KL on the episodes held out.

    Args:
        run: The run, whose teacher is a recording.
    """

    def __init__(self, run: Run) -> None:
        self._run = run

    def grade(self, student: Student, number: int, rival: float | None = None) -> Grade:
        """The grade of a student; none holds, since nothing is known of its returns.

        Args:
            student: The student.
            number: Which attempt made it.
            rival: Not needed: the whole of what is held out takes no time.
        """
        held_out = measure_held_out(teacher_of(self._run), student.policy(), self._run.config.seed)
        self._run.events.add_scalar("validation/held_out_kl", held_out.agreement.kl, number)
        return Grade(-held_out.agreement.kl, holds=False)

    def played(self) -> tuple[list[float], list[float]]:
        """Returns of teacher and random policy: none."""
        return [], []

    def restore(self, teacher: Sequence[float], random: Sequence[float]) -> None:
        """Go on from what was played before: nothing was.

        Args:
            teacher: None.
            random: None.
        """


class Recorded(FinalFits):
    """The strategy for recorded data: final fits, chosen by their own returns, or without an environment by KL."""

    def collect(self, run: Run) -> RecordedRounds:
        """What is fitted, and what a reader has to know of the recording."""
        teacher = teacher_of(run)
        for line in (*teacher.recording.notes, *notes_on_environment(run)):
            run.reporter.say(line)
        rounds = RecordedRounds(run)
        recording = teacher.recording
        fitted = rounds.data[0][0].driver.size
        run.reporter.say(
            f"recording: {recording.episodes} episodes, {len(recording.returns)} of them whole with returns, "
            f"{len(recording.starts):,} states, {recording.labels} as labels; {fitted:,} states are fitted, the others "
            "held out"
        )
        return rounds

    def final_fit(self, rounds: Rounds) -> Fitted:
        """The student that is kept.

        Args:
            rounds: What `collect` gave.
        """
        run = rounds.run
        validation: Grades = Validation(run) if run.recipe.env_id else HeldOutValidation(run)
        best = final_fits(rounds, [validation])
        return Fitted(run, best.student, best.score)


def teacher_of(run: Run) -> RecordedTeacher:
    """The recording that a run learns from."""
    teacher = run.teacher
    assert isinstance(teacher, RecordedTeacher), "the strategy was chosen by the teacher"
    return teacher


def training_rollout(teacher: RecordedTeacher, seed: int) -> Rollout:
    """The states that are fitted, as the steps of one environment.

    Args:
        teacher: The recording.
        seed: The run's, by which episodes are held out.
    """
    recording = teacher.recording
    chosen = ~held_out_states(teacher, seed)

    def _column(array: Array) -> Array:
        return array[chosen][:, None]

    params = _column(recording.params)
    ones = np.ones(params.shape[:2], np.float32)
    return Rollout(
        {key: _column(array) for key, array in recording.observations.items()},
        params,
        np.full(ones.shape, TEACHER, np.int8),
        # Rewards are needed for returns alone, which the recording has.
        np.zeros(ones.shape, np.float32),
        _column(recording.starts),
        ones,
    )


def notes_on_environment(run: Run) -> list[str]:
    """What is to be said where the recording names another environment than the run, or the run none."""
    source = run.teacher.origin.source
    named = environment_of(source)
    if named is None or named == run.recipe.env_id:
        return []
    if not run.recipe.env_id:
        return [f"note: {source} was recorded in {named}; --env {named} lets the student play there"]
    return [f"note: {source} was recorded in {named}, and the student plays in {run.recipe.env_id}"]
