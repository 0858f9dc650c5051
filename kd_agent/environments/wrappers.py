"""The wrappers that teachers are trained in, by the names that RL Zoo's settings have for them."""

import importlib
import os
import re
import sys
from collections.abc import Iterable, Mapping
from typing import Any

import gymnasium as gym

from kd_agent.environments.recipe import Recipe
from kd_agent.environments.teacher_view import Beside, Remembered
from kd_agent.errors import KDError

# Settings of RL Zoo come from several years, in which the same wrappers moved from library to library.
_LIBRARIES = re.compile(
    r"(sb3_contrib\.common\.wrappers|rl_zoo3?\.wrappers|utils\.wrappers|gym\.wrappers|gymnasium\.wrappers"
    r"|stable_baselines3\.common\.(atari_wrappers|monitor|vec_env)|kd_envs\.wrappers)\.(\w+\.)*(?P<cls>\w+)"
)
_HARMLESS = (
    "Monitor",
    "VecMonitor",
    "OrderEnforcing",
    "PassiveEnvChecker",
    "RecordEpisodeStatistics",
    "RecordVideo",
    "VecVideoRecorder",
    "VecCheckNan",
    # Images keep their channels last here, and teachers turn them by themselves.
    "VecTransposeImage",
    # Rewards are learned from, and no policy sees them.
    "ClipReward",
    "ClipRewardEnv",
    "NormalizeReward",
)
"""Wrappers of the libraries that change nothing of what a policy sees and does."""
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
    "FrameStackObservation": "gymnasium.wrappers:FrameStackObservation",
    # Its name, and that of its argument, in gym and in Gymnasium before 1.0.
    "FrameStack": "gymnasium.wrappers:FrameStackObservation",
}
"""Class of each wrapper that a teacher may have been trained in, by its name in any of `_LIBRARIES`."""


def wrapped(env: gym.Env[Any, Any], recipe: Recipe) -> gym.Env[Any, Any]:
    """An environment inside the wrappers of its recipe, the innermost first; beside it, what its teacher sees of it.

    Args:
        env: The environment alone.
        recipe: What to put around it.

    Raises:
        KDError: A wrapper is not known, was not typed, or refuses the environment or its arguments.
    """
    env = _inside(env, recipe.wrappers, recipe)
    if not recipe.teacher_wrappers:
        return env
    shown = Remembered(env)
    return Beside(_inside(shown, recipe.teacher_wrappers, recipe), shown)


def _inside(
    env: gym.Env[Any, Any], wrappers: Iterable[tuple[str, Mapping[str, Any]]], recipe: Recipe
) -> gym.Env[Any, Any]:
    for name, kwargs in wrappers:
        cls = wrapper(name, recipe.allowed)
        arguments = _arguments(env, kwargs)
        try:
            env = cls(env, **arguments)
        except Exception as error:  # of a wrapper of one's own, anything
            raise KDError(
                f"{recipe.env_id} does not fit into {name}: {type(error).__name__}: {' '.join(str(error).split())}"
            ) from None
        if not isinstance(env, gym.Env):
            raise KDError(f"the wrapper {name} makes no environment of {recipe.env_id}, but {type(env).__name__}")
    return env


def _arguments(env: gym.Env[Any, Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Keyword arguments as the wrappers take them now.

    That is a picture's shape as a pair, frames by one name, the masks' method as a function.
    """
    arguments = dict(kwargs)
    method = arguments.get("action_mask_fn")
    if method is not None:
        # ActionMasker would look for the name on the next wrapper alone, and the method is the environment's own.
        mask = _mask_method(env, str(method))
        arguments["action_mask_fn"] = lambda _: mask()
    if "num_stack" in arguments:
        arguments["stack_size"] = arguments.pop("num_stack")
    shape = arguments.get("shape")
    if shape is not None:
        # YAML has lists in place of tuples, and gym's wrappers took one number for a square.
        arguments["shape"] = tuple(shape) if isinstance(shape, list | tuple) else (shape, shape)
    return arguments


def _mask_method(env: gym.Env[Any, Any], name: str) -> Any:
    if name.startswith("_") or not hasattr(env.unwrapped, name):
        raise KDError(f"the environment has no method {name!r} that would say which actions are allowed")
    return getattr(env.unwrapped, name)


def is_harmless(name: str) -> bool:
    """Whether a wrapper that settings name changes nothing of what a policy sees and does."""
    found = _LIBRARIES.fullmatch(name.replace(":", "."))
    return found is not None and found["cls"] in _HARMLESS


def canonical(name: str) -> str:
    """The name under which a wrapper is kept: `library.Class` of those known here, `module:Class` of one's own."""
    dotted = name.replace(":", ".")
    found = _LIBRARIES.fullmatch(dotted)
    if found and found["cls"] in (*_WRAPPERS, "VecFrameStack"):
        return dotted
    module, _, cls = dotted.rpartition(".")
    return f"{module}:{cls}" if module else name


def wrapper(name: str, allowed: frozenset[str] = frozenset()) -> Any:
    """The class of a wrapper.

    Args:
        name: As in RL Zoo's settings, or `module:Class` of one's own.
        allowed: Those of one's own that were typed, and whose code may therefore run.

    Raises:
        KDError: It is not among those known here and was not typed, or its library is not installed.
    """
    own = canonical(name)
    found = _LIBRARIES.fullmatch(own)
    if not found or found["cls"] not in _WRAPPERS:
        if own in allowed:
            return _load(own)
        typed = f"; one of your own runs where it is typed: --wrapper {own}" if ":" in own else ""
        raise KDError(
            f"the environment wrapper {name!r} is not known here{typed}; known are: {', '.join(sorted(_WRAPPERS))}"
        )
    module, _, cls = _WRAPPERS[found["cls"]].partition(":")
    try:
        return getattr(importlib.import_module(module), cls)
    except ImportError:
        raise KDError(f"the environment wrapper {name!r} needs: pip install {module.partition('.')[0]}") from None


def _load(name: str) -> Any:
    """A wrapper of one's own, in the working folder too.

    Args:
        name: `module:Class`; it was typed.

    Raises:
        KDError: There is no such module, or nothing of that name in it that could be called.
    """
    module, _, cls = name.partition(":")
    folder = os.getcwd()
    # Last, so that no file of the folder takes the place of a library.
    if folder not in sys.path:
        sys.path.append(folder)
    try:
        found = getattr(importlib.import_module(module), cls, None)
    except (Exception, SystemExit) as error:
        raise KDError(f"wrapper {name!r}: its module cannot be imported ({type(error).__name__}: {error})") from None
    if not callable(found):
        raise KDError(f"wrapper {name!r}: there is no such class in {module}")
    return found
