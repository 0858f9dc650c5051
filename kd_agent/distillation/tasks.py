"""Several tasks in one student: DAgger rounds of each, one fit to all, a verdict for each."""

import hashlib
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from stable_baselines3.common.vec_env import VecEnv
from torch.utils.tensorboard import SummaryWriter

from kd_agent.distillation.dagger import collect_round
from kd_agent.distillation.distill import STUDENT_FILE, check, check_losses
from kd_agent.distillation.final_fits import Attempt, Exam
from kd_agent.distillation.fitting import build_student, objective_of
from kd_agent.environments import observation_specs
from kd_agent.environments.vector import make_env, spaces_of
from kd_agent.errors import KDError
from kd_agent.evaluation import judge
from kd_agent.learners import fit_together, tie, to_graph
from kd_agent.losses import needs
from kd_agent.networks import Student
from kd_agent.policies import MAX_TASKS, TaskGraph
from kd_agent.policies import file as graph_file
from kd_agent.ppo.teacher import train_named, training_of_teacher
from kd_agent.rollouts import Rollout
from kd_agent.runs import Reporter, RunFolder, next_folder, open_run
from kd_agent.runs.plan import effort, settled
from kd_agent.runs.record import Session, compare_settings, provenance, timed
from kd_agent.settings import DistillConfig, TasksConfig, plain, resolve, to_yaml
from kd_agent.students import default_kind
from kd_agent.teachers import load_named, named_recipe

_JOINT = ("seed", "device", "hidden", "activation", "rounds", "round_steps", "final_steps", "attempts",
          "exam_episodes", "batch_size", "learning_rate", "episodes", "max_episodes", "margin")  # fmt: skip
"""Settings that all tasks share; the others are each environment's own."""
_FINISHED = "finished rounds"


@dataclass
class Together:
    """The tasks of a run: how each is going.

    Attributes:
        runs: The session of each task.
        envs: Where its rounds are collected.
        rollouts: Its labelled states so far.
        exams: What its student has to pass.
    """

    runs: Mapping[str, Session]
    envs: Mapping[str, VecEnv]
    rollouts: Mapping[str, list[Rollout]]
    exams: Mapping[str, Exam]

    def collect(self, students: Mapping[str, Student], number: int) -> None:
        """One more round of each task."""
        for task, run in self.runs.items():
            self.rollouts[task].append(collect_round(run, self.envs[task], students.get(task), number))

    def build(self, attempt: int) -> dict[str, Student]:
        """New students, tied; each attempt has other initial weights."""
        students = {task: build_student(run, self.rollouts[task][0], attempt) for task, run in self.runs.items()}
        tie(students)
        return students

    def fit(self, students: Mapping[str, Student], *, name: str, steps: int, number: int) -> None:
        """Fit to the states of all rounds of all tasks so far."""
        run = next(iter(self.runs.values()))
        objectives = {task: objective_of(each.config) for task, each in self.runs.items()}
        with run.reporter.stage(name, steps, "gradient steps") as advance:
            fit_together(students, self.rollouts, objectives, steps=steps, batch_size=run.effort.batch_size,
                         learning_rate=run.effort.learning_rate, seed=run.config.seed * 1_000 + number,
                         on_step=lambda step, loss: advance(step, loss=loss))  # fmt: skip

    def keep(self, folder: RunFolder, students: Mapping[str, Student], number: int) -> None:
        """Write a finished round, and the students fitted to it, into the run folder."""
        for index, rounds in enumerate(self.rollouts.values()):
            folder.save_arrays(f"task-{index}-round-{number}", rounds[-1].arrays())
        weights = {f"{index}.{name}": array for index, student in enumerate(students.values())
                   for name, array in student.arrays().items()}  # fmt: skip
        folder.save_arrays("drivers", weights | {_FINISHED: np.array(number + 1)})

    def restore(self, folder: RunFolder) -> tuple[dict[str, Student], int]:
        """The students of the last finished round, and how many are finished; the rounds are read."""
        weights = folder.load_arrays("drivers")
        if weights is None:
            return {}, 0
        finished = int(weights.pop(_FINISHED))
        for index, rounds in enumerate(self.rollouts.values()):
            for number in range(finished):
                arrays = folder.load_arrays(name := f"task-{index}-round-{number}")
                if arrays is None:
                    raise KDError(f"{folder.path}: its checkpoint lacks {name}.npz")
                rounds.append(Rollout.from_arrays(arrays))
        students = self.build(0)
        for index, student in enumerate(students.values()):
            own = {name.partition(".")[2]: x for name, x in weights.items() if name.startswith(f"{index}.")}
            student.load_state_dict({name: torch.from_numpy(array) for name, array in own.items()})
        return students, finished

    def grade(self, students: Mapping[str, Student], number: int) -> dict[str, Attempt]:
        """What each task's exam says."""
        return {task: self.exams[task].grade(student, number, None) for task, student in students.items()}


def distill_tasks(config: TasksConfig | Mapping[str, Any]) -> dict[str, Any]:
    """Distil the teachers of several tasks into one student and judge it in each.

    Args:
        config: Settings, or a mapping of those that differ from the defaults.

    Returns:
        The content of `result.json`; the student lies beside it in the run folder.

    Raises:
        KDError: An input is wrong; nothing half-written is left.
    """
    if not isinstance(config, TasksConfig):
        config = resolve(TasksConfig, config)
    settings = settings_of(config)
    reporter, seconds = Reporter(quiet=config.quiet, progress=config.progress), dict[str, float]()
    with (
        open_run(Path(config.out) if config.out else next_folder("tasks"), resume=config.resume) as folder,
        ExitStack() as stack,
    ):
        reporter.say(f"run folder: {folder.path}")
        with timed(seconds, "teacher_s"):
            runs = {task: _session(own, folder, reporter, stack) for task, own in settings.items()}
        _remember(folder, config, runs)
        with timed(seconds, "distill_s"):
            students, cost = learn(config, runs, folder)
        graph = _graph(config, runs, students)
        path = graph_file.write(graph, folder.path / STUDENT_FILE)
        with timed(seconds, "evaluate_s"):
            verdicts = {task: _judged(task, run, path) for task, run in runs.items()}
        result = {**_summary(graph, path), "tasks": verdicts, "cost": {**cost, **seconds}}
        reporter.say(f"{graph.num_parameters:,} parameters in all, {result['parameters']['shared']:,} of them shared")
        folder.write_json("result.json", result)
    return result


def settings_of(config: TasksConfig) -> dict[str, DistillConfig]:
    """Each task's settings: its environment's own under those that all share.

    Raises:
        KDError: A task is named twice, a teacher does not fit, or a setting cannot serve several tasks.
    """
    _check_numbers(config)
    joint = {name: value for name, value in plain(config).items() if name in _JOINT and value is not None}
    own = {"env_steps": config.env_steps, "loss": config.loss}
    joint |= {name: value for name, value in own.items() if value is not None}
    teachers = config.teacher or [()] * len(config.tasks)
    settings = {
        task: resolve(DistillConfig, {"env": task, "teacher": teacher, "quiet": config.quiet, **joint})
        for task, teacher in zip(config.tasks, teachers, strict=True)
    }
    for task, each in settings.items():
        _check_task(task, each)
    return settings


def learn(
    config: TasksConfig, runs: Mapping[str, Session], folder: RunFolder
) -> tuple[Mapping[str, Student], dict[str, int]]:
    """Rounds of collecting and fitting, then last fits until every task's student holds its teacher's return.

    Of several attempts the one that holds in the most tasks is kept, the later of two alike. Rounds finished
    before are read from the folder.

    Returns:
        The tied students by task, and what they cost.
    """
    together = Together(
        runs,
        {task: make_env(run.recipe, run.effort.n_envs) for task, run in runs.items()},
        {task: [] for task in runs},
        {task: Exam(run) for task, run in runs.items()},
    )
    students, finished = together.restore(folder)
    for number in range(finished, config.rounds):
        together.collect(students, number)
        students = students or together.build(0)
        if number + 1 < config.rounds:
            together.fit(students, name=f"fit {number + 1}", steps=config.round_steps, number=number)
        together.keep(folder, students, number)
    best = {task: Attempt(student, 0, 0.0, False, 0) for task, student in students.items()}
    tried = 0
    while tried < config.attempts and not all(attempt.holds for attempt in best.values()):
        if tried:
            together.collect({task: attempt.student for task, attempt in best.items()}, config.rounds + tried - 1)
        students = together.build(tried)
        together.fit(students, name=f"last fit, attempt {tried + 1}", steps=config.final_steps,
                     number=config.rounds + tried)  # fmt: skip
        best = max(best, together.grade(students, tried), key=_held_or_later)
        tried += 1
    for env in together.envs.values():
        env.close()
    return {task: attempt.student for task, attempt in best.items()}, {
        "env_steps": sum(rollout.driver.size for rollouts in together.rollouts.values() for rollout in rollouts),
        "gradient_steps": (config.rounds - 1) * config.round_steps + tried * config.final_steps,
        "exam_steps": sum(exam.arena.steps for exam in together.exams.values()),
    }


def _held_or_later(attempts: Mapping[str, Attempt]) -> tuple[int, int]:
    return sum(attempt.holds for attempt in attempts.values()), max(attempt.tried for attempt in attempts.values())


def _check_numbers(config: TasksConfig) -> None:
    if len(set(config.tasks)) < len(config.tasks) or not 2 <= len(config.tasks) <= MAX_TASKS:
        raise KDError(f"tasks: needs 2 to {MAX_TASKS} different environments, got {', '.join(config.tasks)}")
    if config.teacher and len(config.teacher) != len(config.tasks):
        raise KDError(f"teacher: {len(config.teacher)} for {len(config.tasks)} tasks; name one for each, or none")
    if len(config.hidden) < 2:
        raise KDError(f"hidden: {len(config.hidden)} layers leave none to share; the first is each task's own, "
                      "so name two or more")  # fmt: skip


def _check_task(task: str, config: DistillConfig) -> None:
    """Find what is wrong with a task's settings before anything is trained or written."""
    check(config)
    recipe = named_recipe(config)
    spaces = spaces_of(recipe)
    teacher, seen = load_named(config, spaces), observation_specs(spaces[0])
    if config.temperature == "auto" or needs(config.loss or ()):
        raise KDError(f"task {task}: an automatic temperature, and losses of layers or values, are for one task")
    if teacher and default_kind(teacher, seen) != "mlp":
        raise KDError(
            f"task {task}: needs a {default_kind(teacher, seen)} student; the tasks of one are shared by an mlp"
        )


def _session(config: DistillConfig, folder: RunFolder, reporter: Reporter, stack: ExitStack) -> Session:
    """A task's session, with the teacher that is named, or one trained now or earlier."""
    recipe = named_recipe(config)
    spaces = spaces_of(recipe)
    teacher = load_named(config, spaces) or train_named(config, training_of_teacher(config, spaces), spaces, reporter)
    seen = observation_specs(spaces[0])
    config = settled(replace(config, student="mlp"), teacher, seen)
    check_losses(config, teacher, seen)
    events = stack.enter_context(SummaryWriter(str(folder.path / config.env.replace("/", "-"))))
    return Session(config, effort(config, teacher, seen), recipe, seen, teacher, folder, reporter, events)


def _remember(folder: RunFolder, config: TasksConfig, runs: Mapping[str, Session]) -> None:
    """Write settings and teachers into the run folder, or hold them against what lies there."""
    teachers = {task: run.teacher.origin.sha256 for task, run in runs.items()}
    if config.resume:
        compare_settings(folder, config)
        known = folder.read_json("teacher.json")
        changed = [task for task, digest in teachers.items() if known.get(task) != digest]
        if changed:
            raise KDError(f"{folder.path}: was begun with another teacher of {changed[0]}")
    folder.write_json("teacher.json", teachers)
    folder.write_text("config.yaml", to_yaml(config))


def _graph(config: TasksConfig, runs: Mapping[str, Session], students: Mapping[str, Student]) -> TaskGraph:
    provenances = {task: provenance(run.config, run.recipe, run.teacher) for task, run in runs.items()}
    return to_graph(students, provenances, {"tasks": list(config.tasks), "seed": config.seed})


def _judged(task: str, run: Session, path: Path) -> dict[str, Any]:
    run.reporter.say(f"{task}:")
    return judge(run.config, run.recipe, run.teacher, path, run.reporter, task=task)


def _summary(graph: TaskGraph, path: Path) -> dict[str, Any]:
    raw = path.read_bytes()
    apart = sum(graph.task(task).num_parameters for task in graph.tasks)
    shared = (apart - graph.num_parameters) // (len(graph.tasks) - 1)
    return {"format": 1, "file": path.name, "sha256": hashlib.sha256(raw).hexdigest(), "bytes": len(raw),
            "parameters": {"total": graph.num_parameters, "shared": shared}}  # fmt: skip
