"""An environment that is out of use: it stands still, at no cost, while its neighbours play on."""

from typing import Any

import gymnasium as gym
import numpy as np
from stable_baselines3.common.vec_env import VecEnv

from kd_agent.environments.guarded import LAST_EPISODE
from kd_agent.policies import Array


class ParkedEnv(gym.Wrapper[Any, Any, Any, Any]):
    """Stands in for an environment: every step shows the same observation, and the last episode's report.

    Args:
        env: The environment.
        observation: What it shows.
    """

    def __init__(self, env: gym.Env[Any, Any], observation: Any) -> None:
        super().__init__(env)
        self._observation = observation
        # An episode that a wrapper ended is reported in the first step of the next one, which never comes.
        self._info = {LAST_EPISODE: env.get_wrapper_attr("last_episode")}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """No step.

        Args:
            action: Not needed.
        """
        return self._observation, 0.0, False, False, dict(self._info)


def park_those_without_seed(venv: VecEnv, ended: Array) -> None:
    """Park each environment that has just ended an episode and got no seed for another one.

    Args:
        venv: Made by `make_env`, and started with finitely many seeds.
        ended: Which of them ended an episode, `[N]`.
    """
    vector: Any = venv.unwrapped
    for index in map(int, np.flatnonzero(ended)):
        env = vector.envs[index]
        # A wrapper may end an episode (a lost life) that goes on inside: that one still has its seed.
        if env.get_wrapper_attr("episode_seed") is None:
            vector.envs[index] = ParkedEnv(env, _shown_by(vector, index))


def _shown_by(vector: Any, index: int) -> Any:
    """What an environment of SB3's vector shows now."""
    parts = {key: array[index].copy() for key, array in vector.buf_obs.items()}
    # What is no mapping has the key None there.
    return parts.get(None, parts)
