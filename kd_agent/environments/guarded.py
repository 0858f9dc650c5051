"""An environment that is stopped at the step where it misbehaves."""

import math
from collections.abc import Iterator
from typing import Any

import gymnasium as gym
import numpy as np

from kd_agent.environments.spaces import observation_specs
from kd_agent.errors import KDError
from kd_agent.policies import OBSERVATION, ObservationSpec


class GuardedEnv(gym.Wrapper[Any, Any, Any, Any]):
    """Stops at the step where an environment misbehaves, plays given seeds, and reports whole episodes.

    The last step of an episode carries `info["episode"] = (seed, return, length)`, and the first step of the
    next one repeats it as `info["last_episode"]`: a wrapper may end an episode unseen, within its reset.

    Attributes:
        seeds: Seeds of the coming episodes; each reset takes the next one.
        episode_seed: Seed of the present episode.
    """

    def __init__(self, env: gym.Env[Any, Any], index: int) -> None:
        super().__init__(env)
        self.seeds: Iterator[int] = iter(())
        self.episode_seed: int | None = None
        self._index = index
        self._length = 0
        self._return = 0.0
        self._last: tuple[int | None, float, int] | None = None
        self._specs = _readable_specs(env.observation_space)

    def take_seeds(self, seeds: Iterator[int]) -> None:
        """Let the coming episodes have these seeds."""
        self.seeds = seeds

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start an episode.

        Args:
            seed: The episode's seed where `seeds` has none left.
            options: Passed on to the environment.

        Raises:
            KDError: The environment raised an error, or what it shows is not what its space says.
        """
        self.episode_seed = next(self.seeds, seed)
        self._length = 0
        self._return = 0.0
        try:
            observation, info = self.env.reset(seed=self.episode_seed, options=options)
        except Exception as error:
            raise self._failure(f"raised {type(error).__name__}: {error}") from error
        self._check(observation)
        return observation, info

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """One step; a KDError says which environment, seed and step went wrong."""
        self._length += 1
        try:
            observation, reward, terminated, truncated, info = self.env.step(action)
        except Exception as error:
            raise self._failure(f"raised {type(error).__name__}: {error}") from error
        self._check(observation)
        if not _is_finite(reward):
            raise self._failure(f"returned the reward {reward}")
        self._return += float(reward)
        if self._length == 1 and self._last:
            info["last_episode"] = self._last
        if terminated or truncated:
            self._last = (self.episode_seed, self._return, self._length)
            info["episode"] = self._last
        return observation, float(reward), terminated, truncated, info

    def _check(self, observation: Any) -> None:
        parts = observation if isinstance(observation, dict) else {OBSERVATION: observation}
        for key, spec in self._specs.items():
            if key not in parts:
                raise self._failure(f"returned an observation without {key!r}")
            part = np.asarray(parts[key])
            if part.shape != spec.shape:
                raise self._failure(f"returned an observation of shape {part.shape}, its space says {spec.shape}")
            if part.dtype.kind == "f":
                flat = part.reshape(-1)
                # One dot product is the cheapest look at all numbers; where it overflows, large ones may be finite.
                if not math.isfinite(flat @ flat) and not np.isfinite(flat).all():
                    raise self._failure("returned an observation that is NaN or infinite")
            elif part.dtype.kind not in "iub":
                raise self._failure(f"returned an observation of type {part.dtype}, which is no number")

    def _failure(self, what: str) -> KDError:
        message = f"environment {self._index} (seed {self.episode_seed}, step {self._length}) {what}"
        # What environments say goes over several lines; an error of ours has one.
        return KDError(" ".join(message.split()))


def _readable_specs(space: gym.Space[Any]) -> dict[str, ObservationSpec]:
    """What can be checked of an observation: nothing of one that only a wrapper around the guard makes arrays of."""
    try:
        return observation_specs(space)
    except KDError:
        return {}


def _is_finite(reward: Any) -> bool:
    """Whether a reward is a number at all, and a finite one."""
    try:
        return math.isfinite(reward)
    except (TypeError, OverflowError):
        return False
