"""The teacher that the settings name, or the several that are one, and the environment that it plays in."""

from pathlib import Path
from typing import Any

import gymnasium as gym

from kd_agent import plugins
from kd_agent.environments import Recipe, observation_specs, recipe_of, select
from kd_agent.errors import KDError
from kd_agent.networks import Teacher
from kd_agent.policies import OBSERVATION, ObservationSpec
from kd_agent.settings import DistillConfig
from kd_agent.teachers._ensemble import EnsembleTeacher
from kd_agent.teachers._keyed_teacher import KeyedTeacher
from kd_agent.teachers._load import load_teacher, recipe_for


def named_recipe(config: DistillConfig) -> Recipe:
    """The environment that the settings name, as the teacher plays in it where one is given.

    Raises:
        KDError: Several teachers do not play in the same environment and wrappers; the message names the pair.
    """
    if not config.teacher:
        return recipe_of(config.env, config.env_kwargs)
    recipes = [recipe_for(source, config.env, config.env_kwargs) for source in config.teacher]
    for source, recipe in zip(config.teacher, recipes, strict=True):
        if recipe != recipes[0]:
            raise KDError(
                f"{config.teacher[0]} and {source} cannot teach together: one plays in {_named(recipes[0])}, "
                f"the other in {_named(recipe)}; teachers of one environment and the same wrappers would fit"
            )
    return recipes[0]


def observations_of_student(config: DistillConfig, observation_space: gym.Space[Any]) -> dict[str, ObservationSpec]:
    """What the student sees of an observation, by key; a single key keeps its name."""
    seen = observation_specs(select(observation_space, config.student_keys, "--student-keys"))
    return {config.student_keys[0]: seen[OBSERVATION]} if len(config.student_keys) == 1 else seen


def load_named(config: DistillConfig, spaces: Any) -> Teacher | None:
    """The teacher that the settings name, several of them as one; None where one is to be trained.

    Raises:
        KDError: A teacher cannot be read or does not fit the environment, or two do not go together.
    """
    plugins.load("teachers.combine", config.combine)
    if not config.teacher:
        return None
    if len(config.teacher) == 1:
        return load_one(config, config.teacher[0], spaces)
    if config.statistics:
        raise KDError("--statistics is of one teacher; keep each of several beside its own statistics")
    return EnsembleTeacher([_load_beside(config, source, spaces) for source in config.teacher], config.combine)


def _load_beside(config: DistillConfig, source: str, spaces: Any) -> Teacher:
    """One of several teachers; the environment is the one that all were found to play in."""
    try:
        return load_one(config, source, spaces)
    except KDError as error:
        if source == config.teacher[0] or not Path(source).exists():
            raise
        raise KDError(f"{config.teacher[0]} and {source} cannot teach together: {error}") from None


def load_one(config: DistillConfig, source: str, spaces: Any) -> Teacher:
    """One teacher, as the settings have teachers read."""
    observation_space = select(spaces[0], config.teacher_keys, "--teacher-keys")
    teacher = load_teacher(source, env=(observation_space, spaces[1]), statistics=config.statistics,
                           allow_missing_statistics=config.allow_missing_statistics,
                           trust_teacher=config.trust_teacher)  # fmt: skip
    return KeyedTeacher(teacher, config.teacher_keys) if config.teacher_keys else teacher


def _named(recipe: Recipe) -> str:
    """A recipe in one line: id, arguments, wrappers and frames."""
    wrappers = [f"{name.rpartition('.')[2]}{dict(kwargs) or ''}" for name, kwargs in recipe.wrappers]
    stack = [f"{recipe.frame_stack} frames"] if recipe.frame_stack > 1 else []
    kwargs = [str(dict(recipe.env_kwargs))] if recipe.env_kwargs else []
    return " ".join([recipe.env_id, *kwargs, *wrappers, *stack])
