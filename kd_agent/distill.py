"""The loop, top to bottom: collect -> aggregate -> fit -> evaluate -> save."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.tensorboard import SummaryWriter

from kd_agent import plugins
from kd_agent.attempts import Exam, last_fits
from kd_agent.checkpoint import next_folder, open_run
from kd_agent.config import DistillConfig, resolve
from kd_agent.control import add_control, check_control
from kd_agent.environments import make_env, spaces_of
from kd_agent.errors import KDError
from kd_agent.fitting import objective_of
from kd_agent.gate import weighed
from kd_agent.given import load_given, recipe_asked_for
from kd_agent.graph import OBSERVATION, ObservationSpec
from kd_agent.judge import judge
from kd_agent.policy import LAYER, Student, Teacher
from kd_agent.progress import Reporter
from kd_agent.rounds import gather
from kd_agent.rules import rules
from kd_agent.session import Session, provenance, remember, timed
from kd_agent.sizing import effort, settled
from kd_agent.spaces import observation_specs, select
from kd_agent.teachers import load_teacher
from kd_agent.train import trained_teacher

STUDENT_FILE = "student.safetensors"


def distill(config: DistillConfig | Mapping[str, Any], teacher: Teacher | None = None) -> dict[str, Any]:
    """Distil a teacher into a small student and judge it.

    Args:
        config: Settings, or a mapping of those that differ from the defaults.
        teacher: A teacher made by `load_teacher` from a function or a torch module, say; default: the one
            that the settings name, or one that is trained.

    Returns:
        The content of `result.json`; the student lies beside it in the run folder.

    Raises:
        KDError: An input is wrong; nothing half-written is left.
    """
    if not isinstance(config, DistillConfig):
        config = resolve(DistillConfig, config)
    check(config)
    recipe = recipe_asked_for(config)
    spaces = spaces_of(recipe)
    reporter, seconds = Reporter(quiet=config.quiet, progress=config.progress), dict[str, float]()
    seen = observation_specs(select(spaces[0], config.student_keys, "--student-keys"))
    if len(config.student_keys) == 1:
        seen = {config.student_keys[0]: seen[OBSERVATION]}
    given = teacher or load_given(config, spaces)
    check_student(config, seen, given)
    check_control(config, spaces[0])
    with open_run(Path(config.out) if config.out else next_folder(recipe.env_id), resume=config.resume) as folder:
        reporter.say(f"run folder: {folder.path}")
        with timed(seconds, "teacher_s"):
            teacher = given or load_teacher(str(trained_teacher(config, reporter)), env=spaces)
            teacher = weighed(teacher, config, recipe, folder, reporter)
        config = settled(config, teacher, seen)
        check_control(config, spaces[0])
        check_losses(config, teacher)
        remember(folder, config, teacher)
        with timed(seconds, "distill_s"), SummaryWriter(str(folder.path)) as events:
            student, cost = learn(
                Session(config, effort(config, teacher, seen), recipe, seen, teacher, folder, reporter, events)
            )
        student.save(folder.path / STUDENT_FILE, provenance(config, recipe, teacher))
        if student.learner == "tree":
            folder.write_text("rules.txt", rules(student.graph()))
        with timed(seconds, "evaluate_s"):
            result = judge(config, recipe, teacher, folder.path / STUDENT_FILE, reporter)
        result["cost"] = {**cost, "gate_steps": teacher.origin.gate_steps, **seconds}
        if config.control:
            add_control(config, recipe, folder, result, reporter)
        plugins.load("report", "html").write(folder, result)
        folder.write_json("result.json", result)
    return result


def learn(run: Session) -> tuple[Student, dict[str, int]]:
    """Rounds of collecting and fitting, then longer fits until one holds the teacher's return.

    Returns:
        The student and what it cost.
    """
    env, exam = make_env(run.recipe, run.effort.n_envs), Exam(run)
    rollouts = gather(run, env)
    best = last_fits(run, env, rollouts, exam)
    env.close()
    return best.student, {
        "env_steps": sum(rollout.driver.size for rollout in rollouts),
        "gradient_steps": run.config.rounds * run.effort.round_steps + best.tried * run.effort.final_steps,
        "exam_steps": exam.steps,
    }


def check_losses(config: DistillConfig, teacher: Teacher) -> None:
    """Require the teacher's answer to a blank observation to serve every loss."""
    blank = {key: np.zeros((1, *spec.shape), spec.dtype) for key, spec in teacher.observations.items()}
    answer = teacher(blank, None, np.ones(1, bool))
    layer = {LAYER: answer.layer(config.teacher_layer, "the teacher")} if config.teacher_layer else {}
    objective_of(config).check(replace(answer, features=layer), teacher.head)


def check(config: DistillConfig) -> None:
    """Find what is wrong with the settings before anything is written; prepare torch."""
    for name in config.loss or {}:
        plugins.load("losses", name)
    plugins.load("students", config.student or "mlp")
    try:
        torch.empty(0, device=config.device)
    except (RuntimeError, AssertionError) as error:
        raise KDError(f"device {config.device!r} is not to be had ({str(error).splitlines()[0]})") from None
    torch.set_num_threads(1)


def check_student(config: DistillConfig, seen: Mapping[str, ObservationSpec], teacher: Teacher | None) -> None:
    """Let the learner of the student's kind refuse what it cannot fit, before anything takes long."""
    kind = plugins.load("students", config.student or "mlp").build.learner
    learner = plugins.load("learners", kind)
    if hasattr(learner, "check"):
        learner.check(config, seen, teacher)
