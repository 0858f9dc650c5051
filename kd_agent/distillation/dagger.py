"""Rounds of collecting and fitting: DAgger's data set (Ross et al. 2011), kept round by round.

A run is of one task; several runs whose students share layers go through their rounds together.
"""

from collections.abc import Sequence

import numpy as np

from kd_agent.distillation.collecting import collect_round, keep_round, read_round, running_episodes
from kd_agent.distillation.fitting import build_student, fit, load_student, objective_of
from kd_agent.distillation.masks import say_unmasked
from kd_agent.distillation.temperature import settle_temperature
from kd_agent.learners.gradient import fit_jointly
from kd_agent.networks import Student
from kd_agent.policies import Array
from kd_agent.rollouts import Rollout
from kd_agent.runs import Run, checkpoint_file
from kd_agent.students import tie

FINISHED = "finished rounds"
"""What the checkpoint of the rounds' drivers calls their number."""


class Rounds:
    """The rounds of one task, or of several that share a student's hidden layers.

    Args:
        runs: One for each task.

    Attributes:
        runs: The same; a temperature that is chosen on the first round changes the run.
        data: The labelled states of each, round by round.
    """

    def __init__(self, runs: Sequence[Run]) -> None:
        self.runs = list(runs)
        self.data: list[list[Rollout]] = [[] for _ in runs]
        self._episodes = [running_episodes(run, "episodes") for run in runs]
        for run, episodes in zip(self.runs, self._episodes, strict=True):
            say_unmasked(run, episodes.env)

    @property
    def run(self) -> Run:
        """The run, or the first of several: what all share is said by each."""
        return self.runs[0]

    def __len__(self) -> int:
        return len(self.data[0])

    def collect(self, drivers: Sequence[Student]) -> None:
        """One more round of each task, driven by its student; without students the teachers drive.

        Its episodes go on where the last round left them: a round may be shorter than an episode.
        """
        number = len(self)
        for index, run in enumerate(self.runs):
            driver = drivers[index] if drivers else None
            rollout = collect_round(run, self._episodes[index], driver, self.data[index])
            self.data[index].append(rollout)
        # A temperature is measured on the first round's states, before anything is fitted to them. Tasks that share a
        # student share its temperature, which is never chosen.
        if number == 0 and len(self.runs) == 1:
            self.runs = [settle_temperature(self.run, self.data[0][0])]

    def keep(self) -> None:
        """Write the last round into the run folders."""
        for run, rollouts, episodes in zip(self.runs, self.data, self._episodes, strict=True):
            keep_round(run, len(rollouts) - 1, rollouts[-1], episodes)

    def read(self) -> None:
        """Read the next round from the run folders."""
        for run, rollouts, episodes in zip(self.runs, self.data, self._episodes, strict=True):
            rollouts.append(read_round(run, len(rollouts), episodes))

    def read_finished(self) -> dict[str, Array]:
        """Read all finished rounds from the run folders; the arrays of the students that drive the next."""
        arrays = self.load("driver")
        if not arrays:
            return {}
        with self.run.folder.reading(checkpoint_file("driver")):
            finished = int(arrays.pop(FINISHED))
        for _ in range(finished):
            self.read()
        return arrays

    def typical(self, index: int) -> Rollout:
        """The states of a task that its students are normalised by: the first round's.

        They are the teacher's own: those of a student that drives badly are elsewhere, and every fit of a run sees
        numbers of the same scale.

        Args:
            index: The task's place.
        """
        return self.data[index][0]

    def new_students(self, attempt: int) -> list[Student]:
        """New students, which share their layers where there are several; each attempt has other initial weights."""
        students = [build_student(run, self.typical(index), attempt) for index, run in enumerate(self.runs)]
        if len(students) > 1:
            tie(students)
        return students

    def fit(self, students: Sequence[Student], *, name: str, steps: int, number: int) -> None:
        """Fit to the states of all rounds so far.

        Args:
            students: One of each task; changed in place.
            name: What the stage is called.
            steps: Gradient steps.
            number: Which fit of the run it is.
        """
        run = self.run
        seed = run.seed("fit", number)
        if len(students) == 1:
            loss = fit(run, students[0], self.data[0], name=name, steps=steps, seed=seed)
        else:
            loss = self._fit_jointly(students, name, steps, seed)
        run.events.add_scalar("distill/loss", loss, number)

    def save(self, name: str, students: Sequence[Student], figures: dict[str, Array]) -> None:
        """Write a checkpoint.

        Args:
            name: The checkpoint's.
            students: One of each task.
            figures: What else belongs to it, by name.
        """
        # With the costs so far: what a killed process did after its last checkpoint is done, and counted, again.
        arrays = {**figures, **self.run.costs.arrays()}
        for index, student in enumerate(students):
            for key, array in student.arrays().items():
                arrays[f"{index}.{key}"] = array
        self.run.folder.save_arrays(name, arrays)

    def load(self, name: str) -> dict[str, Array] | None:
        """The arrays of a checkpoint, the costs taken out; None where there is none."""
        arrays = self.run.folder.load_arrays(name)
        if arrays is not None:
            with self.run.folder.reading(checkpoint_file(name)):
                self.run.costs.restore(arrays)
        return arrays

    def load_students(self, arrays: dict[str, Array], attempt: int) -> list[Student]:
        """The students of a checkpoint.

        Args:
            arrays: What `load` gave.
            attempt: Which attempt made them.
        """
        students = []
        for index, run in enumerate(self.runs):
            prefix = f"{index}."
            own = {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}
            students.append(load_student(run, self.typical(index), attempt, own))
        if len(students) > 1:
            tie(students)
        return students

    def _fit_jointly(self, students: Sequence[Student], name: str, steps: int, seed: int) -> float:
        """Fit the students of several tasks, which share layers, in one go; the mean loss at its end."""
        run = self.run
        with run.reporter.stage(name, steps, "gradient steps") as advance:
            loss = fit_jointly(
                students,
                self.data,
                [objective_of(each.plan) for each in self.runs],
                steps=steps,
                batch_size=run.plan.batch_size,
                learning_rate=run.plan.learning_rate,
                seed=seed,
                on_step=lambda step, loss: advance(step, loss=loss),
            )
        run.costs.add("gradient_steps", steps)
        return loss

    def close(self) -> None:
        """Close the environments."""
        for episodes in self._episodes:
            episodes.close()


def collect_rounds(runs: Sequence[Run]) -> Rounds:
    """All rounds: collect, label, fit the students that drive the next; those finished before are read.

    Args:
        runs: One for each task.
    """
    rounds = Rounds(runs)
    drivers: list[Student] = []
    arrays = rounds.read_finished()
    if arrays:  # Of a run of one round there is no driver.
        drivers = rounds.load_students(arrays, 0)
    total = rounds.run.plan.rounds
    for number in range(len(rounds), total):
        rounds.collect(drivers)
        # Nobody would be driven by a fit after the last round: the final fits follow.
        if number + 1 < total:
            drivers = drivers or rounds.new_students(0)
            rounds.fit(drivers, name=f"fit {number + 1}", steps=rounds.run.plan.round_steps, number=number)
        # The states first: the checkpoint that says how many rounds there are must not promise one that is not there.
        rounds.keep()
        rounds.save("driver", drivers, {FINISHED: np.array(number + 1)})
    return rounds
