"""Which spaces PPO can be trained in: those that Stable-Baselines3's PPO refuses by a traceback, in one line each."""

from typing import Any

import gymnasium as gym
import numpy as np

from kd_agent.environments import flattening, observation_specs
from kd_agent.errors import KDError
from kd_agent.networks import head_for


def check_trainable(env_id: str, spaces: tuple[gym.Space[Any], gym.Space[Any]]) -> None:
    """Refuse spaces that PPO cannot be trained in, before anything is written.

    Args:
        env_id: The environment's id, for the message.
        spaces: Its observation and action space, inside its wrappers.

    Raises:
        KDError: The message says what does not fit, and which wrapper helps.
    """
    observation_space, action_space = spaces
    # What no policy at all reads, or no head serves.
    observation_specs(observation_space)
    head_for(action_space)
    parts: list[gym.Space[Any]] = [observation_space]
    if isinstance(observation_space, gym.spaces.Dict):
        parts = list(observation_space.values())
    for part in parts:
        why = _why_unread(part)
        if why:
            raise KDError(
                f"PPO cannot be trained on {env_id}: it observes {part}, {why}{flattening(observation_space)}"
            )
    why = _why_unserved(action_space)
    if why:
        raise KDError(
            f"PPO cannot be trained on {env_id}: its actions are {action_space}, {why}; "
            "a wrapper of your own may make others of them: --wrapper module:Class"
        )


def _why_unread(part: gym.Space[Any]) -> str:
    """Why PPO cannot observe an array; "" where it can."""
    shape = part.shape or ()
    if isinstance(part, gym.spaces.MultiDiscrete) and len(shape) > 1:
        return "choices of several axes"
    if isinstance(part, gym.spaces.Box) and not shape:
        return "a number without an axis"
    if 0 in shape:
        return "no numbers at all"
    return ""


def _why_unserved(space: gym.Space[Any]) -> str:
    """Why PPO cannot act in a space that has a head; "" where it can."""
    if isinstance(space, gym.spaces.MultiDiscrete | gym.spaces.MultiBinary) and len(space.shape) > 1:
        return "choices of several axes"
    if isinstance(space, gym.spaces.Box) and not np.isfinite([space.low, space.high]).all():
        return "without bounds"
    return ""
