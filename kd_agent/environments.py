"""Environments: from a Gymnasium id to a guarded vector environment."""

import importlib
import math
import re
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import gymnasium as gym
import numpy as np
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv

from kd_agent.errors import KDError, unknown
from kd_agent.graph import OBSERVATION
from kd_agent.head import Array
from kd_agent.spaces import as_mapping, observation_specs

_VERSION = re.compile(r"-v(\d+)$")


class GuardedEnv(gym.Wrapper[Any, Any, Any, Any]):
    """Stops at the step where an environment misbehaves, plays given seeds, and reports whole episodes.

    The last step of an episode carries `info["episode"] = (seed, return, length)`.

    Attributes:
        seeds: Seeds of the coming episodes; each reset takes the next one.
    """

    def __init__(self, env: gym.Env[Any, Any], index: int) -> None:
        super().__init__(env)
        self.seeds: Iterator[int] = iter(())
        self._index = index
        self._seed: int | None = None
        self._length, self._return = 0, 0.0
        self._specs = observation_specs(env.observation_space)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start an episode with the next of `seeds`, or else with `seed`."""
        self._seed = next(self.seeds, seed)
        self._length, self._return = 0, 0.0
        try:
            observation, info = self.env.reset(seed=self._seed, options=options)
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
        if not math.isfinite(reward):
            raise self._failure(f"returned the reward {reward}")
        self._return += float(reward)
        if terminated or truncated:
            info["episode"] = (self._seed, self._return, self._length)
        return observation, float(reward), terminated, truncated, info

    def _check(self, observation: Any) -> None:
        parts = observation if isinstance(observation, dict) else {OBSERVATION: observation}
        for key, spec in self._specs.items():
            part = np.asarray(parts[key])
            if part.shape != spec.shape:
                raise self._failure(f"returned an observation of shape {part.shape}, its space says {spec.shape}")
            if part.dtype.kind == "f":
                flat = part.reshape(-1)
                if not math.isfinite(flat @ flat) and not np.isfinite(flat).all():
                    raise self._failure("returned an observation that is NaN or infinite")

    def _failure(self, what: str) -> KDError:
        message = f"environment {self._index} (seed {self._seed}, step {self._length}) {what}"
        return KDError(" ".join(message.split()))


def resolve_id(env_id: str) -> str:
    """The registered id that serves `env_id`.

    A version that is gone maps to the newest one, with a warning.

    Raises:
        KDError: Nothing like it is registered; the message names the nearest.
    """
    importlib.import_module("kd_envs")
    module, _, name = env_id.rpartition(":")
    if module:
        try:
            importlib.import_module(module)
        except ImportError as error:
            raise KDError(f"environment {env_id!r}: module {module!r} cannot be imported ({error})") from None
    if name in gym.registry:
        return name
    base = _VERSION.sub("", name)
    versions = [i for i in gym.registry if _VERSION.search(i) and _VERSION.sub("", i) == base]
    if not versions:
        raise unknown("environment", env_id, gym.registry)
    newest = max(versions, key=lambda i: int(_VERSION.search(i).group(1)))  # type: ignore[union-attr]
    warnings.warn(f"{name} is not registered any more; playing on {newest}", stacklevel=2)
    return newest


def make_single(env_id: str, env_kwargs: Mapping[str, Any], render_mode: str | None = None) -> gym.Env[Any, Any]:
    """One environment; KDError where it cannot be made."""
    try:
        rendering: dict[str, Any] = (
            {"render_mode": render_mode} if render_mode else {}
        )  # not every environment knows the word
        return gym.make(env_id, **rendering, **env_kwargs)
    except TypeError as error:
        raise KDError(f"environment {env_id!r} refuses its arguments: {error}") from None
    except (gym.error.Error, ImportError) as error:
        raise KDError(f"environment {env_id!r} cannot be made: {' '.join(str(error).split())}") from None


def make_env(env_id: str, n_envs: int, env_kwargs: Mapping[str, Any] | None = None) -> DummyVecEnv:
    """A Stable-Baselines3 vector environment without rendering, which would slow every step.

    Args:
        env_id: A registered id (see `resolve_id`).
        n_envs: Number of environments.
        env_kwargs: Keyword arguments of each.
    """
    indices = iter(range(n_envs))

    def make() -> GuardedEnv:
        return GuardedEnv(make_single(env_id, env_kwargs or {}), next(indices))

    return DummyVecEnv([make] * n_envs)


def start(env: VecEnv, seeds: Iterator[int]) -> dict[str, Array]:
    """Reset every environment; this and each later episode takes the next of `seeds`."""
    env.set_attr("seeds", seeds)
    return as_mapping(env.reset())


def spaces_of(env_id: str, env_kwargs: Mapping[str, Any]) -> tuple[gym.Space[Any], gym.Space[Any]]:
    """Observation and action space of an environment."""
    env = make_single(env_id, env_kwargs)
    env.close()
    return env.observation_space, env.action_space
