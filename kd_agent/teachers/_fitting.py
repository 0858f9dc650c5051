"""What an environment lacks to look as a teacher saw it, told by the sizes alone."""

import warnings
from dataclasses import replace
from typing import Any

import gymnasium as gym

from kd_agent.environments import TIME_FEATURE, ZERO_FORCES, Recipe, versions
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

    Tried in turn: MuJoCo's Ant and Humanoid as they were before version 4, another version, a stack of
    frames, the remaining time as one more number. Where nothing fits, the recipe as it is: loading the
    teacher then says what does not.

    Args:
        recipe: The environment found so far.
        own: The teacher's observation space, where it is known.
        source: The teacher's name for messages.
    """
    if not isinstance(own, gym.spaces.Box):
        return recipe
    space = spaces_of(recipe)[0]
    if _fits(space, own):
        return recipe
    for candidate, what in _candidates(recipe, space, own):
        try:
            fits = _fits(spaces_of(candidate)[0], own)
        except KDError:  # an extra is missing, or an argument is of another version
            continue
        if fits:
            warnings.warn(
                f"{source}: its observations have shape {own.shape}, {recipe.env_id} has {space.shape}; playing {what}",
                stacklevel=2,
            )
            return candidate
    return recipe


def _fits(space: gym.Space[Any], own: gym.spaces.Box) -> bool:
    return as_observed(space, own).shape == own.shape


def _candidates(recipe: Recipe, space: gym.Space[Any], own: gym.spaces.Box) -> list[tuple[Recipe, str]]:
    """Like recipes and what to call each, the likeliest first."""
    found = []
    old = _old_mujoco(recipe, own)
    if old is not None:
        found.append((old, "with contact forces of 0, as MuJoCo 2 showed them"))
    for env_id in versions(recipe.env_id):
        found.append((replace(recipe, env_id=env_id), env_id))
    shape = space.shape or (1,)
    # Of images, the teacher's channels come first, ours last; of vectors, both indices mean the one axis.
    frames, rest = divmod(own.shape[0], shape[-1])
    if recipe.frame_stack == 1 and len(own.shape) in (1, 3) and 1 < frames <= 64 and not rest:
        found.append((replace(recipe, frame_stack=frames), f"with {frames} frames side by side"))
    if own.shape == (shape[0] + 1,):
        timed = replace(recipe, wrappers=(*recipe.wrappers, (TIME_FEATURE, {})))
        found.append((timed, "with the remaining time as the last number"))
    return found


def _old_mujoco(recipe: Recipe, own: gym.spaces.Box) -> Recipe | None:
    """Ant or Humanoid as versions 2 and 3 showed them; None where the environment or the size is another."""
    key = (recipe.env_id.rpartition("-v")[0], own.shape[0])
    if key not in _OLD_MUJOCO:
        return None
    env_id, kwargs = _OLD_MUJOCO[key]
    wrappers = ((ZERO_FORCES, {"size": own.shape[0]}), *recipe.wrappers)
    return Recipe(env_id, {**kwargs, **recipe.env_kwargs}, wrappers, recipe.frame_stack)
