"""The checks of what is asked of a command that learns from a teacher, each once; `Problem` makes them in order."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

import gymnasium as gym
import numpy as np
import torch

from kd_agent import plugins
from kd_agent.distillation.fitting import new_student, objective_of
from kd_agent.distillation.temperature import check_temperature, temperature_matters
from kd_agent.errors import KDError
from kd_agent.losses import BoundObjective, needs
from kd_agent.networks import LAYER, Teacher
from kd_agent.policies import Array, ObservationSpec
from kd_agent.ppo.control import check_control
from kd_agent.runs import Plan
from kd_agent.settings import DistillConfig, names_recording
from kd_agent.students import COUNTED
from kd_agent.teachers import RecordedTeacher

Spaces = tuple[gym.Space[Any], gym.Space[Any]]
"""Observation and action space."""


@dataclass(frozen=True)
class Use:
    """What a command does with a problem.

    Attributes:
        refuses: Why it cannot honour a setting, by the setting's name: one that differs from its default is refused.
        resumes: Whether a run of it can be gone on with: then settings and teacher are kept from the beginning.
        masks: Whether it can be taught by a teacher that plays with action masks.
        recordings: Whether it can be taught by recorded data, which cannot be asked about other states.
    """

    refuses: Mapping[str, str] = field(default_factory=dict)
    resumes: bool = True
    masks: bool = True
    recordings: bool = False


def check_settings(config: DistillConfig, use: Use) -> None:
    """Find what is wrong with the settings by themselves.

    Args:
        config: The settings.
        use: What the command does with them.

    Raises:
        KDError: The message names the setting.
    """
    for name in config.loss or {}:
        plugins.load("losses", name)
    plugins.load("students", config.student or "mlp")
    changed = changed_settings(config)
    for name, why in use.refuses.items():
        if name in changed:
            raise KDError(why)
    for name in ("teacher_activation", "teacher_squash"):
        if name in changed and not config.teacher:
            raise KDError(f"--{name.replace('_', '-')} is of a teacher that is named (--teacher)")
    check_temperature(config)
    check_size(config)
    try:
        torch.empty(0, device=config.device)
    except (RuntimeError, AssertionError) as error:
        raise KDError(f"device {config.device!r} is not to be had ({str(error).splitlines()[0]})") from None


_ASKS = {
    "realtime": "--realtime follows a teacher in training",
    "control": "--control is held against as many steps of collecting",
    "search_size": "--search-size measures sizes on states that are collected",
    "label_budget": "--label-budget counts the answers of a teacher who is asked",
    "then_ppo": "--then-ppo is guided by a teacher who looks at states",
    "seeds": "--seeds is for a teacher who plays the episodes of all students",
    "teacher_env": "--teacher-env is for a teacher that is trained",
    "teacher_wrapper": "--teacher-wrapper is for a teacher who looks at states",
    "teacher_keys": "--teacher-keys is for a teacher who looks at states",
}
"""Settings that ask more of a teacher than a recording can give."""
_PLAYS = ("env_kwargs", "wrapper", "max_episode_steps", "step_timeout", "render")
"""Settings of an environment that is played in."""


def check_recording(config: DistillConfig, teacher: Teacher | None, use: Use) -> None:
    """Refuse what recorded data cannot do; without recorded data, nothing.

    Args:
        config: The settings.
        teacher: One that was loaded before; None: the settings name it.
        use: What the command does.

    Raises:
        KDError: The message names the setting, or what to do instead.
    """
    named = [source for source in config.teacher if names_recording([source])]
    if isinstance(teacher, RecordedTeacher):
        named = [teacher.origin.source]
    if not named or (teacher and not isinstance(teacher, RecordedTeacher)):
        return
    if not use.recordings:
        raise KDError(f"{named[0]}: this command asks its teacher, and a recording cannot be asked; distil it alone")
    changed = changed_settings(config)
    for name, why in _ASKS.items():
        if name in changed:
            raise KDError(f"{named[0]}: {why}, and this one is a recording: leave it out")
    if config.temperature == "auto":
        raise KDError(f"{named[0]}: --temperature auto measures on states that are collected: name a number")
    for name in _PLAYS:
        if not config.env and name in changed:
            raise KDError(f"--{name.replace('_', '-')} is of an environment that is played in: name it too (--env)")


def check_returns(teacher: Teacher, plays: bool) -> None:
    """Require of a recording something to hold a student's play against, where that plays.

    Args:
        teacher: The teacher; any but a recording can be played itself.
        plays: Whether there is an environment.

    Raises:
        KDError: No recorded episode has a return.
    """
    if plays and isinstance(teacher, RecordedTeacher) and not teacher.recording.returns:
        raise KDError(
            f"{teacher.origin.source}: tells the return of no whole episode (rewards, and where episodes end): there "
            "is nothing to hold a student's play against; leave --env out, and play it by kd-agent evaluate"
        )


_COLLECTING = ("env_steps", "rounds", "n_envs", "beta_fraction", "exploration", "round_steps")
"""Settings of DAgger's rounds."""
_JUDGING = ("exam_episodes", "episodes", "max_episodes", "margin")
"""Settings of validation and verdict."""


def check_size(config: DistillConfig) -> None:
    """Refuse settings of a student's size that contradict each other, or that its kind has not.

    Args:
        config: The settings.

    Raises:
        KDError: The message names them.
    """
    if config.compression is not None and config.hidden is not None:
        raise KDError("--hidden and --compression both say the student's size: name one")
    for name, asked in (("compression", config.compression is not None), ("grow", bool(config.grow))):
        if asked and config.student not in (None, *COUNTED):
            raise KDError(f"--{name} counts the parameters of an mlp or a gru, not of a {config.student}")


def changed_settings(config: DistillConfig) -> list[str]:
    """Names of the settings that are not what they are by default."""
    # Without an environment there is a recording, or the settings would not be valid.
    default = type(config)(env=config.env, teacher=config.teacher)
    names = [field.name for field in fields(config)]
    return [name for name in names if getattr(config, name) != getattr(default, name)]


def check_learner(config: DistillConfig, observed: Mapping[str, ObservationSpec], teacher: Teacher | None) -> None:
    """Let the learner of the student's kind refuse what it cannot fit.

    Args:
        config: The settings.
        observed: What the student sees of an observation, by key.
        teacher: The teacher; None where it is still to be trained.
    """
    kind = plugins.load("students", config.student or "mlp").build.learner
    learner = plugins.load("learners", kind)
    if hasattr(learner, "check"):
        learner.check(config, observed, teacher)


def check_plan(plan: Plan, config: DistillConfig, spaces: Spaces) -> None:
    """Refuse what a decided plan cannot be combined with.

    Args:
        plan: The plan.
        config: The settings.
        spaces: Observation and action space.
    """
    check_control(replace(config, student=plan.student), spaces[0])


def check_budget(asked: int, rounds: int, n_envs: int, env_steps: int) -> None:
    """Refuse a label budget that rounds, environments and their steps have no use for.

    Args:
        asked: The budget.
        rounds: Rounds.
        n_envs: Environments.
        env_steps: Steps of all environments together.
    """
    least = rounds * n_envs
    if asked < least:
        one_each = f"one in each round and environment, {rounds} x {n_envs}"
        raise KDError(
            f"--label-budget {asked}: {least} questions are the fewest ({one_each}); ask more or name --rounds"
        )
    if asked > env_steps:
        steps = f"{env_steps:,} environment steps"
        raise KDError(f"--label-budget {asked}: in {steps} there are no more states to ask about; raise --env-steps")


def check_questions(plan: Plan, config: DistillConfig, teacher: Teacher) -> None:
    """Refuse a label budget that a plan or a teacher cannot keep.

    Args:
        plan: The plan.
        config: The settings.
        teacher: The teacher.

    Raises:
        KDError: The message names the nearest budget that is possible, or what the teacher has.
    """
    asked = config.label_budget
    if asked is None:
        return
    check_budget(asked, plan.rounds, plan.n_envs, plan.env_steps)
    for has, what in ((teacher.recurrent, "has a memory"), (teacher.expects_masks, "plays with action masks")):
        if has:
            raise KDError(
                f"{teacher.origin.source} {what}, and a --label-budget asks about single states; leave it out"
            )


def check_losses(plan: Plan, teacher: Teacher, observed: Mapping[str, ObservationSpec]) -> None:
    """Require what teacher and student answer to a blank observation to serve every loss.

    Args:
        plan: The plan.
        teacher: The teacher.
        observed: What the student sees of an observation, by key.
    """
    if isinstance(teacher, RecordedTeacher):
        answer = teacher.first_label()
    else:
        answer = teacher(blank(teacher.observations), None, np.ones(1, bool))
    layer = {}
    if plan.teacher_layer:
        layer = {LAYER: answer.layer(plan.teacher_layer, "the teacher")}
    objective = objective_of(plan)
    target = replace(answer, features=layer)
    objective.check(target, teacher.head)
    if layer:
        student = new_student(plan, teacher, observed, blank(observed), seed=0)
        shown = {key: torch.from_numpy(array) for key, array in blank(observed).items()}
        BoundObjective(objective, teacher.head, student(shown), target, None)


def idle_settings(config: DistillConfig, plan: Plan, teacher: Teacher) -> list[str]:
    """A line for each setting that was asked for and does nothing in this run.

    Args:
        config: The settings.
        plan: The plan.
        teacher: The teacher.
    """
    changed = changed_settings(config)
    may_grow = plan.attempts > 1 and not (config.search_size or config.realtime)
    several_teachers = len(config.teacher) > 1
    compares_layers = "layer" in needs(plan.loss)
    layers = "no loss compares layers, as hint, relation and intuition do"
    teachers = "there is one teacher"
    has_outputs = any(source.endswith((".onnx", ".yaml", ".yml")) for source in config.teacher)
    is_network = plan.student != "tree"
    steps = "a tree is grown, not fitted in steps"
    effects = [
        ("temperature", temperature_matters(plan, teacher.head), "this loss and action head are the same at any"),
        ("beta_fraction", config.label_budget is None, "under a label budget the teacher drives the first round alone"),
        ("choose_by", config.temperature == "auto", "the temperature is not chosen (--temperature auto)"),
        ("leaves", not is_network, "only a tree has leaves (--student tree)"),
        ("activation", is_network, "a tree has none"),
        ("hidden", is_network, "a tree has no layers"),
        ("grow", may_grow, "there is one final fit, or a strategy that has one size or tries all"),
        ("round_steps", is_network or isinstance(teacher, RecordedTeacher), steps),
        ("final_steps", is_network, steps),
        ("batch_size", is_network, steps),
        ("learning_rate", is_network, steps),
        ("combine", several_teachers, teachers),
        ("teacher_gate", several_teachers, teachers),
        ("onnx_output", has_outputs, "no teacher is an ONNX file or a LEAPP graph"),
        ("teacher_layer", compares_layers, layers),
        ("student_layer", compares_layers, layers),
        *_idle_with_recording(config, teacher),
    ]
    lines = []
    for name, has_effect, why in effects:
        if name in changed and not has_effect:
            lines.append(f"note: --{name.replace('_', '-')} has no effect here: {why}")
    return lines


def _idle_with_recording(config: DistillConfig, teacher: Teacher) -> list[tuple[str, bool, str]]:
    """Settings that do nothing where the teacher is a recording, each with its reason; none where it is not."""
    if not isinstance(teacher, RecordedTeacher):
        return []
    collected = "nothing is collected for a recording"
    read = "a recording is read as data, and as it is"
    effects = [(name, False, collected) for name in _COLLECTING]
    effects += [(name, False, read) for name in ("statistics", "allow_missing_statistics", "trust_teacher")]
    if not config.env:
        effects += [(name, False, "nobody plays without --env") for name in _JUDGING]
    return effects


def blank(observations: Mapping[str, ObservationSpec]) -> dict[str, Array]:
    """An observation of zeros, `[1, *O]` by key."""
    return {key: np.zeros((1, *spec.shape), spec.dtype) for key, spec in observations.items()}
