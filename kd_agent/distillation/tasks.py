"""Several tasks in one student: DAgger rounds of each, one fit to all, a verdict for each."""

import hashlib
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from kd_agent.distillation.checks import Use
from kd_agent.distillation.dagger import collect_rounds
from kd_agent.distillation.final_fits import final_fits
from kd_agent.distillation.outcome import TasksResult
from kd_agent.distillation.problem import Problem
from kd_agent.distillation.validation import Validation
from kd_agent.errors import KDError
from kd_agent.evaluation import judge
from kd_agent.losses import needs
from kd_agent.networks import Student
from kd_agent.policies import file as graph_file
from kd_agent.policies.multitask_graph import MAX_TASKS, TaskGraph
from kd_agent.runs import (
    CONFIG_FILE,
    RESULT_FILE,
    STUDENT_FILE,
    TEACHER_FILE,
    Costs,
    Reporter,
    Run,
    choose_folder,
    compare_settings,
    folder_name,
    open_run,
    provenance,
)
from kd_agent.settings import DistillConfig, TasksConfig, plain, resolve, to_yaml
from kd_agent.students import default_kind, to_graph

_JOINT = (
    "allow_missing_statistics",
    "trust_teacher",
    "seed",
    "device",
    "hidden",
    "activation",
    "rounds",
    "round_steps",
    "final_steps",
    "attempts",
    "exam_episodes",
    "batch_size",
    "learning_rate",
    "sampled",
    "episodes",
    "max_episodes",
    "margin",
    "progress",
    "quiet",
)
"""Settings that all tasks share; the others are each environment's own."""

_TASK = Use(
    refuses={
        "control": "a control is trained for one task: leave --control out",
        "then_ppo": "PPO goes on from a student of one task: leave --then-ppo out",
        "label_budget": "a label budget is of one task: leave it out",
    }
)


def distill_tasks(config: TasksConfig | Mapping[str, Any]) -> TasksResult:
    """Distil the teachers of several tasks into one student and judge it in each.

    Args:
        config: Settings, or a mapping of those that differ from the defaults.

    Returns:
        The content of `result.json`; the student lies beside it in the run folder, and what belongs to one task
        alone in a folder of the task's name.

    Raises:
        KDError: An input is wrong; nothing half-written is left.
    """
    if not isinstance(config, TasksConfig):
        config = resolve(TasksConfig, config)
    problems = problems_of(config)
    out = choose_folder(config.out, "tasks", resume=config.resume)
    config = replace(config, out=str(out))
    reporter = Reporter(quiet=config.quiet, progress=config.progress)
    with open_run(out, resume=config.resume) as folder, ExitStack() as stack:
        reporter.say(f"run folder: {folder.path}")
        if config.resume:
            compare_settings(folder, config)
        # One ledger: a joint fit is no task's own.
        costs = Costs()
        runs = {}
        for task, problem in problems.items():
            own = problem.in_folder(folder.path / folder_name(problem.config.env))
            runs[task] = stack.enter_context(own.begin(costs=costs))
        sources = {task: run.teacher.origin.sha256 for task, run in runs.items()}
        folder.write_json(TEACHER_FILE, sources)
        folder.write_text(CONFIG_FILE, to_yaml(config))
        students = learn(runs)
        path = graph_file.write(_graph(config, runs, students), folder.path / STUDENT_FILE)
        verdicts = {task: _verdict(task, run, path) for task, run in runs.items()}
        result = {**_summary(path), "tasks": verdicts}
        result["cost"] = costs.to_json()
        sizes = result["parameters"]
        reporter.say(f"{sizes['total']:,} parameters in all, {sizes['shared']:,} of them shared")
        folder.write_json(RESULT_FILE, result)
        return TasksResult(result, folder.path)


def problems_of(config: TasksConfig) -> dict[str, Problem]:
    """Each task's problem: its environment's own settings under those that all share.

    Raises:
        KDError: A task is named twice, a teacher does not fit, or a setting cannot serve several tasks.
    """
    _check_numbers(config)
    joint: dict[str, Any] = {"student": "mlp"}
    for name, value in plain(config).items():
        if name in (*_JOINT, "env_steps", "loss") and value is not None:
            joint[name] = value
    # Without teachers each task's is trained, as a distillation's is.
    teachers = config.teacher or [()] * len(config.tasks)
    problems = {}
    for task, teacher in zip(config.tasks, teachers, strict=True):
        settings = resolve(DistillConfig, {"env": task, "teacher": teacher, **joint})
        problems[task] = _problem(task, settings)
    return problems


def learn(runs: Mapping[str, Run]) -> dict[str, Student]:
    """Rounds of collecting and fitting, then final fits until every task's student holds its teacher's return.

    Of several attempts the one that holds in the most tasks is kept, the later of two alike.

    Args:
        runs: By task.

    Returns:
        The students by task, which share their layers.
    """
    rounds = collect_rounds(list(runs.values()))
    best = final_fits(rounds, [Validation(run) for run in runs.values()])
    rounds.close()
    return dict(zip(runs, best.students, strict=True))


def _problem(task: str, config: DistillConfig) -> Problem:
    """A task's problem; what only one task can do is refused."""
    if config.temperature == "auto" or needs(config.loss or ()):
        raise KDError(f"task {task}: an automatic temperature, and losses of layers or values, are for one task")
    problem = Problem.of(config, use=_TASK)
    if problem.teacher:
        kind = default_kind(problem.teacher, problem.observed)
        if kind != "mlp":
            raise KDError(f"task {task}: needs a {kind} student; the tasks of one are shared by an mlp")
    return problem


def _check_numbers(config: TasksConfig) -> None:
    if len(set(config.tasks)) < len(config.tasks) or not 2 <= len(config.tasks) <= MAX_TASKS:
        raise KDError(f"tasks: needs 2 to {MAX_TASKS} different environments, got {', '.join(config.tasks)}")
    if config.teacher and len(config.teacher) != len(config.tasks):
        raise KDError(f"teacher: {len(config.teacher)} for {len(config.tasks)} tasks; name one for each, or none")
    if len(config.hidden) < 2:
        raise KDError(
            f"hidden: {len(config.hidden)} layers leave none to share; the first is each task's own, "
            "so name two or more"
        )


def _graph(config: TasksConfig, runs: Mapping[str, Run], students: Mapping[str, Student]) -> TaskGraph:
    provenances = {task: provenance(run) for task, run in runs.items()}
    return to_graph(students, provenances, {"tasks": list(config.tasks), "seed": config.seed})


def _verdict(task: str, run: Run, path: Path) -> dict[str, Any]:
    run.reporter.say(f"{task}:")
    with run.costs.timed("evaluate_s"):
        return judge(run, path, task=task)


def _summary(path: Path) -> dict[str, Any]:
    """What the file of all tasks is like."""
    raw = path.read_bytes()
    graph = graph_file.read_tasks(path)
    apart = sum(graph.task(task).num_parameters for task in graph.tasks)
    # What is shared is counted once in the whole and once a task in the parts.
    shared = (apart - graph.num_parameters) // (len(graph.tasks) - 1)
    return {
        "format": 1,
        "file": path.name,
        "sha256": hashlib.sha256(raw).hexdigest(),
        "bytes": len(raw),
        "parameters": {"total": graph.num_parameters, "shared": shared},
    }
