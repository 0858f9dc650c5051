"""The loop, top to bottom: collect -> aggregate -> fit -> evaluate -> save."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.tensorboard import SummaryWriter

from kd_agent import plugins
from kd_agent.distillation.dagger import gather
from kd_agent.distillation.final_fits import Exam, last_fits
from kd_agent.distillation.fitting import new_student, objective_of
from kd_agent.distillation.online import FOLLOWED, Follower, check_realtime
from kd_agent.distillation.size_search import Judged, check_search, search_size
from kd_agent.distillation.temperature import check_temperature, known_choice, recall_temperature
from kd_agent.environments.vector import make_env, spaces_of
from kd_agent.errors import KDError
from kd_agent.evaluation import judge, weighed
from kd_agent.losses import BoundObjective
from kd_agent.networks import LAYER, Student, Teacher
from kd_agent.policies import Array, ObservationSpec
from kd_agent.policies.tree_rules import rules
from kd_agent.ppo.control import add_control, check_control
from kd_agent.ppo.teacher import train_named, training_of_teacher
from kd_agent.runs import Reporter, next_folder, open_run
from kd_agent.runs.plan import effort, settled
from kd_agent.runs.record import Session, provenance, remember, timed
from kd_agent.settings import DistillConfig, resolve
from kd_agent.teachers import load_named, named_recipe, observations_of_student

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
    recipe = named_recipe(config)
    spaces = spaces_of(recipe)
    reporter, seconds = Reporter(quiet=config.quiet, progress=config.progress), dict[str, float]()
    seen = observations_of_student(config, spaces[0])
    given = teacher or load_named(config, spaces)
    check_student(config, seen, given)
    check_control(config, spaces[0])
    check_realtime(config, given)
    if given:
        check_losses(settled(config, given, seen), given, seen)
    school = config if given else training_of_teacher(config, spaces)
    with open_run(Path(config.out) if config.out else next_folder(recipe.env_id), resume=config.resume) as folder:
        reporter.say(f"run folder: {folder.path}")
        follower = Follower(config, recipe, seen, spaces, folder=folder, reporter=reporter) if config.realtime else None
        with timed(seconds, "teacher_s"):
            teacher = given or train_named(config, school, spaces, reporter, follower)
            teacher = weighed(teacher, config, recipe, folder, reporter)
        config = settled(config, teacher, seen)
        check_control(config, spaces[0])
        if not given:
            check_losses(config, teacher, seen)
        config = recall_temperature(folder, config)
        remember(folder, config, teacher)
        with timed(seconds, "distill_s"), SummaryWriter(str(folder.path)) as events:
            run = Session(config, effort(config, teacher, seen), recipe, seen, teacher, folder, reporter, events)
            run, result = learn(run, lambda run, student: judged(run, student, seconds), follower)
        seconds["distill_s"] = round(seconds["distill_s"] - seconds["evaluate_s"], 2)
        if follower:
            result["realtime"] = follower.timeline
            seconds["follow_s"] = round(follower.seconds, 2)
        result["cost"] |= {"gate_steps": teacher.origin.gate_steps, **seconds}
        if config.control:
            add_control(run.config, recipe, folder, result, reporter)
        plugins.load("report", "html").write(folder, result)
        folder.write_json("result.json", result)
    return result


def learn(run: Session, judged: Judged, follower: Follower | None = None) -> tuple[Session, dict[str, Any]]:
    """Rounds of collecting and fitting, then longer fits until one holds the teacher's return, then the verdict.

    A follower has been through its rounds while the teacher was in training.

    Returns:
        The run, all that it chose by itself settled, and its result.
    """
    env, exam = make_env(run.recipe, run.effort.n_envs), Exam(run)
    name, dropped, gradient_steps = "best", 0, (run.effort.rounds - 1) * run.effort.round_steps
    if follower and follower.student:
        name, gradient_steps, rollouts = FOLLOWED, follower.gradient_steps, follower.hand_over(run, exam)
        dropped = follower.env_steps - sum(rollout.driver.size for rollout in rollouts)
    else:
        run, rollouts = gather(run, env)
    if run.config.search_size:
        run, result, searched = search_size(run, env, rollouts, exam, judged)
        gradient_steps += searched
    else:
        best = last_fits(run, env, rollouts, exam, name=name)
        result = judged(run, best.student)
        gradient_steps += best.tried * run.effort.final_steps
    env.close()
    if choice := known_choice(run.folder):
        result["temperature"] = choice
    result["cost"] = {
        "env_steps": sum(rollout.driver.size for rollout in rollouts) + dropped,
        "gradient_steps": gradient_steps,
        "exam_steps": exam.arena.steps,
    }
    return run, result


def judged(run: Session, student: Student, seconds: dict[str, float]) -> dict[str, Any]:
    """Save a student and judge it; `result.json` without its costs."""
    path = student.save(run.folder.path / STUDENT_FILE, provenance(run.config, run.recipe, run.teacher))
    if student.learner == "tree":
        run.folder.write_text("rules.txt", rules(student.graph()))
    with timed(seconds, "evaluate_s"):
        return judge(run.config, run.recipe, run.teacher, path, run.reporter)


def check_losses(config: DistillConfig, teacher: Teacher, seen: Mapping[str, ObservationSpec]) -> None:
    """Require what teacher and student answer to a blank observation to serve every loss."""
    answer = teacher(blank(teacher.observations), None, np.ones(1, bool))
    layer = {LAYER: answer.layer(config.teacher_layer, "the teacher")} if config.teacher_layer else {}
    if config.temperature == "auto":
        config = replace(config, temperature=1.0)
    objective, target = objective_of(config), replace(answer, features=layer)
    objective.check(target, teacher.head)
    if layer:
        student = new_student(config, teacher, seen, blank(seen), seed=0)
        shown = {key: torch.from_numpy(array) for key, array in blank(seen).items()}
        BoundObjective(objective, teacher.head, student(shown), target, None)


def blank(observations: Mapping[str, ObservationSpec]) -> dict[str, Array]:
    """An observation of zeros, `[1, *O]` by key."""
    return {key: np.zeros((1, *spec.shape), spec.dtype) for key, spec in observations.items()}


def check(config: DistillConfig) -> None:
    """Find what is wrong with the settings before anything is written; prepare torch."""
    for name in config.loss or {}:
        plugins.load("losses", name)
    plugins.load("students", config.student or "mlp")
    check_temperature(config)
    check_search(config)
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
