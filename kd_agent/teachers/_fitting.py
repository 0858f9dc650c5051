"""What an environment lacks to look as a teacher saw it, told by the sizes alone."""

import warnings
from dataclasses import replace
from typing import Any

import gymnasium as gym

from kd_agent.environments import TIME_FEATURE, Recipe, spaces_of, versions
from kd_agent.errors import KDError
from kd_agent.teachers._features import as_seen


def fit(recipe: Recipe, own: gym.Space[Any] | None, source: str) -> Recipe:
    """The recipe, or with a warning a like one whose observations have the teacher's shape.

    Tried in turn: another version, a stack of frames, the remaining time as one more number. Where nothing
    fits, the recipe as it is: loading the teacher then says what does not.

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
        except KDError:
            continue
        if fits:
            warnings.warn(f"{source}: its observations have shape {own.shape}, {recipe.env_id} has {space.shape}; "
                          f"playing {what}", stacklevel=2)  # fmt: skip
            return candidate
    return recipe


def _fits(space: gym.Space[Any], own: gym.spaces.Box) -> bool:
    return as_seen(space, own).shape == own.shape


def _candidates(recipe: Recipe, space: gym.Space[Any], own: gym.spaces.Box) -> list[tuple[Recipe, str]]:
    found = [(replace(recipe, env_id=other), other) for other in versions(recipe.env_id)]
    shape = space.shape or (1,)
    frames, rest = divmod(own.shape[0], shape[-1])  # images: the teacher's channels come first, ours last
    if recipe.frame_stack == 1 and len(own.shape) in (1, 3) and 1 < frames <= 64 and not rest:
        found.append((replace(recipe, frame_stack=frames), f"with {frames} frames side by side"))
    if own.shape == (shape[0] + 1,):
        timed = replace(recipe, wrappers=(*recipe.wrappers, (TIME_FEATURE, {})))
        found.append((timed, "with the remaining time as the last number"))
    return found
