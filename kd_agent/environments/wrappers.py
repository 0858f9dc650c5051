"""The wrappers that teachers are trained in, by the names that RL Zoo's settings have for them."""

import importlib
import re
from typing import Any

import gymnasium as gym

from kd_agent.environments.recipe import Recipe
from kd_agent.errors import KDError

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
    "YAMLCompatResizeObservation": "gymnasium.wrappers:ResizeObservation",
    "GrayScaleObservation": "gymnasium.wrappers:GrayscaleObservation",
    **{name: f"gymnasium.wrappers:{name}" for name in (
        "ResizeObservation", "GrayscaleObservation", "ClipAction", "RescaleAction", "FilterObservation",
        "FlattenObservation", "TimeLimit", "TimeAwareObservation",
    )},
}  # fmt: skip
"""Class of each wrapper that a teacher may have been trained in, by its name in any of `_LIBRARIES`."""


def wrapped(env: gym.Env[Any, Any], recipe: Recipe) -> gym.Env[Any, Any]:
    """An environment inside the wrappers of its recipe, the innermost first."""
    for name, kwargs in recipe.wrappers:
        cls, shape = wrapper(name), kwargs.get("shape")
        fixed = {} if shape is None else {"shape": tuple(shape) if isinstance(shape, list | tuple) else (shape, shape)}
        try:
            env = cls(env, **{**kwargs, **fixed})
        except (TypeError, ValueError, AssertionError, gym.error.Error) as error:
            raise KDError(f"{recipe.env_id} does not fit into {name}: {' '.join(str(error).split())}") from None
    return env


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
