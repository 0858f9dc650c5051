"""Stacked frames: the last observations of an episode shown side by side, within each environment."""

from typing import Any

import gymnasium as gym
import numpy as np
from stable_baselines3.common.vec_env.stacked_observations import StackedObservations

from kd_agent.errors import KDError


class StackedFrames(gym.Wrapper[Any, Any, Any, Any]):
    """Shows what Stable-Baselines3's `VecFrameStack` does, to the bit.

    There the frames of all environments lie in one wrapper around them; here each environment has its own, so that one
    can be played to where it was (`RunningEpisodes`) without the others.

    Args:
        env: The environment.
        frames: How many observations are shown.

    Raises:
        KDError: What is observed cannot be stacked.
    """

    def __init__(self, env: gym.Env[Any, Any], frames: int) -> None:
        super().__init__(env)
        self._frames = frames
        self._shown = self._empty()
        self.observation_space = self._shown.stacked_observation_space

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start an episode: nothing has been seen before.

        Args:
            seed: The environment's.
            options: The environment's.
        """
        observation, info = self.env.reset(seed=seed, options=options)
        # A new stack, because the old one's last content is still shown as how the last episode ended.
        self._shown = self._empty()
        return _only(self._shown.reset(_batch(observation))), info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """One step."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        # That the episode ends here is left to the reset that follows.
        shown, _ = self._shown.update(_batch(observation), np.zeros(1, bool), [{}])
        return _only(shown), reward, terminated, truncated, info

    def _empty(self) -> StackedObservations[Any]:
        """A stack of one environment, of zeros."""
        space: Any = self.env.observation_space
        try:
            return StackedObservations(1, self._frames, space)
        except TypeError:
            raise KDError(f"frames of {space} cannot be stacked: it is neither a Box nor a Dict of them") from None


def _batch(observation: Any) -> Any:
    """`[1, *O]`, by key where the observation has keys."""
    if isinstance(observation, dict):
        return {key: np.asarray(part)[None] for key, part in observation.items()}
    return np.asarray(observation)[None]


def _only(batch: Any) -> Any:
    """Inverse of `_batch`."""
    if isinstance(batch, dict):
        return {key: part[0] for key, part in batch.items()}
    return batch[0]
