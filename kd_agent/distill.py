"""The loop, top to bottom: collect -> aggregate -> fit -> evaluate -> save."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from stable_baselines3.common.vec_env import VecEnv
from torch.utils.tensorboard import SummaryWriter

from kd_agent import plugins
from kd_agent.actions import Softening
from kd_agent.attempts import Attempt, Exam
from kd_agent.checkpoint import next_folder, open_run
from kd_agent.closeness import along
from kd_agent.config import DistillConfig, resolve
from kd_agent.environments import Recipe, make_env, recipe_of, spaces_of
from kd_agent.errors import KDError
from kd_agent.graph import OBSERVATION
from kd_agent.head import Array
from kd_agent.judge import judge
from kd_agent.normalizer import Normalizer
from kd_agent.objective import Objective
from kd_agent.policy import LAYER, KeyedTeacher, Student, Teacher
from kd_agent.progress import Reporter
from kd_agent.rollouts import Rollout, collect
from kd_agent.session import Session, provenance, remember, timed
from kd_agent.sizing import effort, has_bias, settled
from kd_agent.spaces import observation_specs, select
from kd_agent.teachers import load_teacher, recipe_for
from kd_agent.train import trained_teacher

STUDENT_FILE = "student.safetensors"
_FINISHED = "finished rounds"


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
    with open_run(Path(config.out) if config.out else next_folder(recipe.env_id), resume=config.resume) as folder:
        reporter.say(f"run folder: {folder.path}")
        with timed(seconds, "teacher_s"):
            teacher = given or load_teacher(str(trained_teacher(config, reporter)), env=spaces)
        config = settled(config, teacher, seen)
        check_losses(config, teacher)
        remember(folder, config, teacher)
        with timed(seconds, "distill_s"), SummaryWriter(str(folder.path)) as events:
            student, cost = learn(
                Session(config, effort(config, teacher, seen), recipe, seen, teacher, folder, reporter, events)
            )
        student.save(folder.path / STUDENT_FILE, provenance(config, recipe, teacher))
        with timed(seconds, "evaluate_s"):
            result = judge(config, recipe, teacher, folder.path / STUDENT_FILE, reporter)
        result["cost"] = {**cost, **seconds}
        plugins.load("report", "html").write(folder, result)
        folder.write_json("result.json", result)
    return result


def learn(run: Session) -> tuple[Student, dict[str, int]]:
    """Rounds of collecting and fitting, then longer fits until one holds the teacher's return.

    Returns:
        The student and what it cost.
    """
    config = run.config
    rollouts, driver, best = restore(run)
    env = make_env(run.recipe, run.effort.n_envs)
    for number in range(len(rollouts), config.rounds):
        rollouts.append(collect_round(run, env, driver, number))
        driver = driver or build_student(run, rollouts[0], 0)
        fit_all(run, driver, rollouts, name=f"fit {number + 1}", steps=run.effort.round_steps, number=number)
        run.folder.save_arrays(f"round-{number}", rollouts[-1].arrays())
        run.folder.save_arrays("driver", driver.arrays() | {_FINISHED: np.array(number + 1)})
    exam = Exam(run)
    while not best or (best.tried < run.effort.attempts and not best.holds):
        tried = best.tried if best else 0
        if best:
            rollouts.append(collect_round(run, env, best.student, config.rounds + tried - 1))
            run.folder.save_arrays(f"round-{len(rollouts) - 1}", rollouts[-1].arrays())
        student = build_student(run, rollouts[0], tried)
        fit_all(run, student, rollouts, name=f"last fit, attempt {tried + 1}", steps=run.effort.final_steps,
                number=config.rounds + tried)  # fmt: skip
        best = exam.grade(student, tried, best).or_better(best)
        run.folder.save_arrays("best", best.arrays())
    env.close()
    return best.student, {
        "env_steps": sum(rollout.driver.size for rollout in rollouts),
        "gradient_steps": config.rounds * run.effort.round_steps + best.tried * run.effort.final_steps,
        "exam_steps": exam.steps,
    }


def collect_round(run: Session, env: VecEnv, student: Student | None, number: int) -> Rollout:
    """One round of labelled states; beta falls from 1 over the first rounds."""
    config = run.config
    steps = -(-run.effort.env_steps // (config.rounds * run.effort.n_envs))
    beta = max(0.0, 1 - number / max(config.rounds * config.beta_fraction, 1e-9)) if number else 1.0
    policy = student.policy() if student else None
    with run.reporter.stage(f"round {number + 1}", steps * run.effort.n_envs, "steps") as advance:
        rollout = collect(env, run.teacher, policy, steps=steps, beta=beta,
                          exploration=config.exploration, seed=(config.seed, number), layer=config.teacher_layer,
                          advance=advance)  # fmt: skip
    if policy:
        close = along(run.teacher, policy, rollout)
        run.events.add_scalar("distill/agreement_before_fit", close.agreement, number)
    return rollout


def fit_all(run: Session, student: Student, rollouts: list[Rollout], *, name: str, steps: int, number: int) -> None:
    """Fit to the states of all rounds so far."""
    config = run.config
    learner = plugins.load("learners", student.learner)
    with run.reporter.stage(name, steps, "gradient steps") as advance:
        loss = learner.fit(student, rollouts, objective_of(config), steps=steps, batch_size=run.effort.batch_size,
                           learning_rate=run.effort.learning_rate, l2=config.l2, seed=config.seed * 1_000 + number,
                           on_step=lambda step, loss: advance(step, loss=loss))  # fmt: skip
    run.events.add_scalar("distill/loss", loss, number)


def objective_of(config: DistillConfig) -> Objective:
    """What a fit minimises."""
    assert config.loss is not None, "a session's settings are settled"
    assert config.temperature != "auto", "a session's settings are settled"
    return Objective(config.loss, Softening(config.temperature, config.convention), config.student_layer)


def check_losses(config: DistillConfig, teacher: Teacher) -> None:
    """Require the teacher's answer to a blank observation to serve every loss."""
    blank = {key: np.zeros((1, *spec.shape), spec.dtype) for key, spec in teacher.observations.items()}
    answer = teacher(blank, None, np.ones(1, bool))
    layer = {LAYER: answer.layer(config.teacher_layer, "the teacher")} if config.teacher_layer else {}
    objective_of(config).check(replace(answer, features=layer), teacher.head)


def restore(run: Session) -> tuple[list[Rollout], Student | None, Attempt | None]:
    """The rounds finished before, the student that drove them, and the best attempt."""
    arrays, best = run.folder.load_arrays("driver"), run.folder.load_arrays("best")
    if arrays is None:
        return [], None, None
    number, score, holds, tried = best.pop("attempt") if best else (0, 0, 0, 1)
    count = int(arrays.pop(_FINISHED)) + int(tried) - 1
    files = [run.folder.load_arrays(f"round-{index}") for index in range(count)]
    if None in files:
        raise KDError(f"{run.folder.path}: its checkpoint lacks round-{files.index(None)}.npz")
    rollouts = [Rollout.from_arrays(file) for file in files if file]
    driver = load_student(run, rollouts[0], 0, arrays)
    if not best:
        return rollouts, driver, None
    student = load_student(run, rollouts[0], int(number), best)
    return rollouts, driver, Attempt(student, int(number), float(score), bool(holds), int(tried))


def load_student(run: Session, rollout: Rollout, attempt: int, arrays: Mapping[str, Array]) -> Student:
    """A student with the weights of a checkpoint."""
    student = build_student(run, rollout, attempt)
    try:
        student.load_state_dict({name: torch.from_numpy(array) for name, array in arrays.items()})
    except RuntimeError:
        raise KDError(f"{run.folder.path}: its checkpoint is of another student") from None
    return student


def build_student(run: Session, rollout: Rollout, attempt: int) -> Student:
    """A new student, normalised by the first round's states; each attempt has other initial weights."""
    config, teacher = run.config, run.teacher
    specs = run.seen
    normalizers = {
        key: Normalizer.of(rollout.obs[key].reshape(-1, *spec.shape))
        for key, spec in specs.items()
        if not spec.categories
    }
    assert config.student is not None, "a session's settings are settled"
    assert config.hidden is not None, "a session's settings are settled"
    student: Student = plugins.load("students", config.student).build(
        specs, teacher.head, normalizers, hidden=config.hidden, activation=config.activation,
        dropout=config.dropout, bias=has_bias(teacher, specs, config.hidden), seed=config.seed * 1_000 + attempt,
    )  # fmt: skip
    return student.to(config.device)


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


def recipe_asked_for(config: DistillConfig) -> Recipe:
    """The environment that the settings name, as the teacher plays in it where one is given."""
    if config.teacher:
        return recipe_for(config.teacher[0], config.env, config.env_kwargs)
    return recipe_of(config.env, config.env_kwargs)


def load_given(config: DistillConfig, spaces: Any) -> Teacher | None:
    """The teacher that the settings name; None where one is to be trained."""
    if len(config.teacher) > 1:
        raise KDError("several teachers at once are not supported yet; name one")
    if not config.teacher:
        return None
    observation_space = select(spaces[0], config.teacher_keys, "--teacher-keys")
    teacher = load_teacher(config.teacher[0], env=(observation_space, spaces[1]), statistics=config.statistics,
                           allow_missing_statistics=config.allow_missing_statistics,
                           trust_teacher=config.trust_teacher)  # fmt: skip
    return KeyedTeacher(teacher, config.teacher_keys) if config.teacher_keys else teacher
