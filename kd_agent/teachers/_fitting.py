"""What an environment lacks to look as a teacher saw it, told by the sizes alone."""

import warnings
from dataclasses import replace
from typing import Any

import gymnasium as gym
from gymnasium.spaces.utils import flatdim

from kd_agent.environments import TIME_FEATURE, ZERO_FORCES, Recipe, versions
from kd_agent.environments.teacher_view import view_of_teacher
from kd_agent.environments.vector import spaces_of
from kd_agent.errors import KDError
from kd_agent.teachers._features import as_observed

_OLD_MUJOCO = {
    ("Ant", 111): ("Ant-v5", {"include_cfrc_ext_in_observation": False}),
    ("Humanoid", 376): ("Humanoid-v4", {}),
    ("HumanoidStandup", 376): ("HumanoidStandup-v4", {}),
}
"""What shows the rest of the observation of versions 2 and 3, by name and size."""


def fit(recipe: Recipe, own: gym.Space[Any] | None, source: str) -> Recipe:
    """The recipe, or with a warning a like one whose observations have the teacher's shape.

    Tried in turn: MuJoCo's Ant and Humanoid as they were before version 4, another version. A size alone does not
    tell a wrapper: one more number is the remaining time to one, and a goal to another. Where nothing fits, the
    recipe as it is: loading the teacher then says what does not.

    Args:
        recipe: The environment found so far.
        own: The teacher's observation space, where it is known.
        source: The teacher's name for messages.

    Raises:
        KDError: It looks as if it was trained in a wrapper, which the message says how to name.
    """
    if not isinstance(own, gym.spaces.Box):
        return recipe
    space = _seen(recipe)
    if _fits(space, own):
        return recipe
    for candidate, what in _candidates(recipe, own):
        try:
            fits = _fits(_seen(candidate), own)
        except KDError:  # an extra is missing, or an argument is of another version
            continue
        if fits:
            warnings.warn(
                f"{source}: its observations have shape {own.shape}, {recipe.env_id} has {space.shape}; playing {what}",
                stacklevel=2,
            )
            return candidate
    guess = _likely_wrapper(space, own)
    if guess and not recipe.wrappers and recipe.frame_stack == 1:
        raise KDError(
            f"{source}: its observations have shape {own.shape}, {recipe.env_id} has {space.shape}; "
            f"name the wrapper that it was trained in: {guess}"
        )
    return recipe


def _fits(space: gym.Space[Any], own: gym.spaces.Box) -> bool:
    return as_observed(space, own).shape == own.shape


def _seen(recipe: Recipe) -> gym.Space[Any]:
    """What a teacher sees of an environment."""
    return view_of_teacher(spaces_of(recipe)[0])[0]


def _candidates(recipe: Recipe, own: gym.spaces.Box) -> list[tuple[Recipe, str]]:
    """Like recipes and what to call each, the likeliest first."""
    found = []
    old = _old_mujoco(recipe, own)
    if old is not None:
        found.append((old, "with contact forces of 0, as MuJoCo 2 showed them"))
    for env_id in versions(recipe.env_id):
        found.append((replace(recipe, env_id=env_id), env_id))
    return found


def _likely_wrapper(space: gym.Space[Any], own: gym.spaces.Box) -> str:
    """The flags of wrappers that would make such observations; "" where none is known."""
    if not isinstance(space, gym.spaces.Dict) and len(space.shape or ()) != 1 and own.shape == (flatdim(space),):
        return "--wrapper gymnasium.wrappers:FlattenObservation"
    shape = space.shape
    if not isinstance(space, gym.spaces.Box) or not shape:
        return ""
    # Of images, the teacher's channels come first, ours last; of vectors, both indices mean the one axis.
    frames, rest = divmod(own.shape[0], shape[-1])
    if len(own.shape) in (1, 3) and 1 < frames <= 64 and not rest:
        return (
            f"--wrapper stable_baselines3.common.vec_env:VecFrameStack,n_stack={frames} if that was it, "
            "or module:Class of another"
        )
    if len(own.shape) == 2 and own.shape[1:] == shape:
        return f"--wrapper gymnasium.wrappers:FrameStackObservation,stack_size={own.shape[0]} if that was it"
    if own.shape == (shape[0] + 1,):
        return (
            f"--wrapper {TIME_FEATURE.replace('.TimeF', ':TimeF')} or gymnasium.wrappers:TimeAwareObservation "
            "if it saw the time, or module:Class of another"
        )
    return ""


def _old_mujoco(recipe: Recipe, own: gym.spaces.Box) -> Recipe | None:
    """Ant or Humanoid as versions 2 and 3 showed them; None where the environment or the size is another."""
    key = (recipe.env_id.rpartition("-v")[0], own.shape[0])
    if key not in _OLD_MUJOCO:
        return None
    env_id, kwargs = _OLD_MUJOCO[key]
    wrappers = ((ZERO_FORCES, {"size": own.shape[0]}), *recipe.wrappers)
    return replace(recipe, env_id=env_id, env_kwargs={**kwargs, **recipe.env_kwargs}, wrappers=wrappers)
