"""The teacher that the settings name, or the several that are one, and the environment that it plays in."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import gymnasium as gym

from kd_agent import plugins
from kd_agent.environments import Recipe, observation_specs, recipe_of, select
from kd_agent.environments.own_wrappers import TypedWrappers
from kd_agent.environments.teacher_view import view_of_student, view_of_teacher
from kd_agent.errors import KDError
from kd_agent.networks import Teacher
from kd_agent.policies import OBSERVATION, ObservationSpec
from kd_agent.settings import DistillConfig, names_recording
from kd_agent.teachers._ensemble import EnsembleTeacher
from kd_agent.teachers._keyed_teacher import KeyedTeacher
from kd_agent.teachers._load import load_teacher, recipe_for
from kd_agent.teachers._request import asked_by
from kd_agent.teachers.recording import RecordedTeacher


def named_recipe(config: DistillConfig) -> Recipe:
    """The environment that the settings name, as the named teacher plays in it where there is one.

    Its id is empty where there is none, and recorded data are all that there is.

    Raises:
        KDError: Several teachers do not play in the same environment and wrappers; the message names the pair.
    """
    if not config.env:
        # Of recorded data alone, which nobody plays: `DistillConfig` sees to it.
        return Recipe("")
    typed = TypedWrappers(config.wrapper, config.teacher_wrapper)
    if not config.teacher:
        return typed.around(recipe_of(config.env, config.env_kwargs)).limited(config)
    recipes = [recipe_for(source, config.env, config.env_kwargs, typed) for source in config.teacher]
    for source, recipe in zip(config.teacher, recipes, strict=True):
        if recipe != recipes[0]:
            raise KDError(
                f"{config.teacher[0]} and {source} cannot teach together: one plays in {_in_one_line(recipes[0])}, "
                f"the other in {_in_one_line(recipe)}; teachers of one environment and the same wrappers would fit"
            )
    return recipes[0].limited(config)


def observations_of_student(config: DistillConfig, observation_space: gym.Space[Any]) -> dict[str, ObservationSpec]:
    """What the student observes, by key; a single key keeps its name.

    Args:
        config: The settings; their `student_keys` select.
        observation_space: The environment's.

    Raises:
        KDError: There is no such key.
    """
    shown = view_of_student(observation_space)
    specs = observation_specs(select(shown, config.student_keys, "--student-keys"))
    if len(config.student_keys) != 1:
        return specs
    return {config.student_keys[0]: specs[OBSERVATION]}


def load_named(config: DistillConfig, spaces: Any) -> Teacher | None:
    """The teacher that the settings name, several of them as one; None where one is to be trained.

    Args:
        config: The settings.
        spaces: The environment's observation and action space.

    Raises:
        KDError: A teacher cannot be read or does not fit the environment, or two do not go together.
    """
    # A rule that does not exist is an error even where a single teacher needs none.
    plugins.load("teachers.combine", config.combine)
    if not config.teacher:
        return None
    if len(config.teacher) == 1:
        return load_one(config, config.teacher[0], spaces)
    for source in config.teacher:
        if names_recording([source]):
            raise KDError(
                f"{source}: a recording teaches alone, for it cannot be asked what others are; name one teacher"
            )
    if config.statistics:
        raise KDError("--statistics is of one teacher; keep each of several beside its own statistics")
    teachers = [_load_beside(config, source, spaces) for source in config.teacher]
    return EnsembleTeacher(teachers, config.combine)


def load_recording(config: DistillConfig, teacher: Teacher | None = None) -> RecordedTeacher:
    """The recording that is distilled without an environment, in the spaces that it tells by itself.

    Args:
        config: The settings.
        teacher: One that was loaded before; None: the one that the settings name.

    Raises:
        KDError: It cannot be read, or is none.
    """
    teacher = teacher or load_teacher(config.teacher[0])
    if not isinstance(teacher, RecordedTeacher):
        raise KDError("env is missing (--env)")
    return teacher


def _load_beside(config: DistillConfig, source: str, spaces: Any) -> Teacher:
    """One of several teachers; the environment is the one that all were found to play in."""
    try:
        return load_one(config, source, spaces)
    except KDError as error:
        # The first teacher, or a file that is not there, fails by itself and not beside another.
        if source == config.teacher[0] or not Path(source).exists():
            raise
        raise KDError(f"{config.teacher[0]} and {source} cannot teach together: {error}") from None


def load_one(config: DistillConfig, source: str, spaces: Any) -> Teacher:
    """One teacher, as the settings have teachers read.

    Args:
        config: The settings.
        source: What names the teacher.
        spaces: The environment's observation and action space.

    Raises:
        KDError: It cannot be read or does not fit the environment.
    """
    view, names = view_of_teacher(spaces[0])
    teacher = load_teacher(
        source,
        env=(select(view, config.teacher_keys, "--teacher-keys"), spaces[1]),
        **asked_by(config),
    )
    return viewing(teacher, names, config.teacher_keys)


def viewing(teacher: Teacher, names: Mapping[str, str], keys: Sequence[str] = ()) -> Teacher:
    """A teacher that finds what it observes among all that is shown.

    Args:
        teacher: The teacher, loaded for what it observes.
        names: What its view calls each key that is shown, from `view_of_teacher`.
        keys: Keys of its view that it observes; none: all.
    """
    if keys and not names:
        return KeyedTeacher(teacher, keys)
    if not names:
        return teacher
    own = {name: key for key, name in names.items() if not keys or name in keys}
    # A single key was selected as a plain space, not as a Dict of one.
    if len(keys) == 1:
        own = {OBSERVATION: own[keys[0]]}
    return KeyedTeacher(teacher, list(own.values()), dict(zip(own.values(), own, strict=True)))


def _in_one_line(recipe: Recipe) -> str:
    """A recipe in one line: id, arguments, wrappers and frames."""
    words = [recipe.env_id]
    if recipe.env_kwargs:
        words.append(str(dict(recipe.env_kwargs)))
    for name, kwargs in recipe.wrappers:
        words.append(f"{re.split('[.:]', name)[-1]}{dict(kwargs) or ''}")
    if recipe.frame_stack > 1:
        words.append(f"{recipe.frame_stack} frames")
    return " ".join(words)
