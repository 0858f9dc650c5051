"""PPO of a squashed Gaussian acts before the squash: what it draws goes through tanh and to the Box on its way out.

There its density is a plain Gaussian's, whose log-probability stays finite however far tanh is saturated.
"""

from typing import Any

import gymnasium as gym
import numpy as np
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper
from stable_baselines3.common.vec_env.base_vec_env import VecEnvObs, VecEnvStepReturn

from kd_agent.policies import HeadSpec

SATURATED = 10.0
"""Beyond it tanh is 1 in float32. PPO wants finite bounds, and to clip here changes no action."""


class BeforeSquash(VecEnvWrapper):
    """Takes actions `[N, A]` before the squash, and hands them on in the environment's units.

    Args:
        venv: Where they are taken.
        head: A squashed Gaussian's: the same arithmetic as the deployed policy's.
    """

    def __init__(self, venv: VecEnv, head: HeadSpec) -> None:
        self._head = head
        latent = gym.spaces.Box(-SATURATED, SATURATED, (len(head.low),), np.float32)
        super().__init__(venv, action_space=latent)

    def reset(self) -> VecEnvObs:
        """As the environments'."""
        return self.venv.reset()

    def step_async(self, actions: np.ndarray[Any, Any]) -> None:
        """Squash the actions and begin the step.

        Args:
            actions: `[N, A]`, before the squash.
        """
        squashed = self._head.to_box(actions).astype(self._head.dtype)
        self.venv.step_async(squashed.reshape(len(actions), *self._head.shape))

    def step_wait(self) -> VecEnvStepReturn:
        """As the environments'."""
        return self.venv.step_wait()
