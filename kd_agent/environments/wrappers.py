"""The wrappers that teachers are trained in, by the names that RL Zoo's settings have for them."""

import importlib
import re
from collections.abc import Mapping
from typing import Any

import gymnasium as gym

from kd_agent.environments.recipe import Recipe
from kd_agent.errors import KDError

# Settings of RL Zoo come from several years, in which the same wrappers moved from library to library.
_LIBRARIES = re.compile(
    r"(sb3_contrib\.common\.wrappers|rl_zoo3?\.wrappers|utils\.wrappers|gym\.wrappers|gymnasium\.wrappers"
    r"|stable_baselines3\.common\.atari_wrappers|kd_envs\.wrappers)\.(\w+\.)*(\w+)"
)
_WRAPPERS = {
    "TimeFeatureWrapper": "sb3_contrib.common.wrappers:TimeFeatureWrapper",
    "HistoryWrapper": "kd_envs.wrappers:HistoryWrapper",
    "MaskVelocityWrapper": "kd_envs.wrappers:MaskVelocityWrapper",
    "FrameSkip": "kd_envs.wrappers:FrameSkip",
    "ZeroContactForces": "kd_envs.wrappers:ZeroContactForces",
    "AtariWrapper": "stable_baselines3.common.atari_wrappers:AtariWrapper",
    # RL Zoo's subclass differs in taking a list for its shape; `_arguments` makes a tuple of it.
    "YAMLCompatResizeObservation": "gymnasium.wrappers:ResizeObservation",
    # Its spelling in gym and in Gymnasium before 1.0.
    "GrayScaleObservation": "gymnasium.wrappers:GrayscaleObservation",
    "ResizeObservation": "gymnasium.wrappers:ResizeObservation",
    "GrayscaleObservation": "gymnasium.wrappers:GrayscaleObservation",
    "ClipAction": "gymnasium.wrappers:ClipAction",
    "RescaleAction": "gymnasium.wrappers:RescaleAction",
    "FilterObservation": "gymnasium.wrappers:FilterObservation",
    "FlattenObservation": "gymnasium.wrappers:FlattenObservation",
    "TimeLimit": "gymnasium.wrappers:TimeLimit",
    "TimeAwareObservation": "gymnasium.wrappers:TimeAwareObservation",
    "ActionMasker": "sb3_contrib.common.wrappers:ActionMasker",
}
"""Class of each wrapper that a teacher may have been trained in, by its name in any of `_LIBRARIES`."""


def wrapped(env: gym.Env[Any, Any], recipe: Recipe) -> gym.Env[Any, Any]:
    """An environment inside the wrappers of its recipe, the innermost first.

    Args:
        env: The environment alone.
        recipe: What to put around it.

    Raises:
        KDError: A wrapper is not known, or refuses the environment or its arguments.
    """
    for name, kwargs in recipe.wrappers:
        cls = wrapper(name)
        arguments = _arguments(env, kwargs)
        try:
            env = cls(env, **arguments)
        except (TypeError, ValueError, AssertionError, gym.error.Error) as error:
            raise KDError(f"{recipe.env_id} does not fit into {name}: {' '.join(str(error).split())}") from None
    return env


def _arguments(env: gym.Env[Any, Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Keyword arguments as the wrappers take them: a picture's shape as a pair, the masks' method as a function."""
    method = kwargs.get("action_mask_fn")
    if method is not None:
        # ActionMasker would look for the name on the next wrapper alone, and the method is the environment's own.
        mask = _mask_method(env, str(method))
        return {**kwargs, "action_mask_fn": lambda _: mask()}
    shape = kwargs.get("shape")
    if shape is None:
        return dict(kwargs)
    # YAML has lists in place of tuples, and gym's wrappers took one number for a square.
    pair = tuple(shape) if isinstance(shape, list | tuple) else (shape, shape)
    return {**kwargs, "shape": pair}


def _mask_method(env: gym.Env[Any, Any], name: str) -> Any:
    if name.startswith("_") or not hasattr(env.unwrapped, name):
        raise KDError(f"the environment has no method {name!r} that would say which actions are allowed")
    return getattr(env.unwrapped, name)


def wrapper(name: str) -> Any:
    """The class of a wrapper that RL Zoo's settings name.

    Raises:
        KDError: It is not among those known here, or its library is not installed.
    """
    found = _LIBRARIES.fullmatch(name)
    if not found or found.group(3) not in _WRAPPERS:
        raise KDError(f"the environment wrapper {name!r} is not known here; known are: {', '.join(sorted(_WRAPPERS))}")
    module, _, cls = _WRAPPERS[found.group(3)].partition(":")
    try:
        return getattr(importlib.import_module(module), cls)
    except ImportError:
        raise KDError(f"the environment wrapper {name!r} needs: pip install {module.partition('.')[0]}") from None
