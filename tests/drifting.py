"""A world that drifts, and a student that was distilled before it did."""

from typing import Any

import gymnasium as gym
import numpy as np
from kd_envs.probe import ProbeEnv
from numpy.typing import NDArray

from kd_agent.evaluation.agreement import agree
from kd_agent.networks.base import Teacher
from kd_agent.policies.policy import Policy

ENV = "test/DriftingProbe-v0"
SHIFT = 4.0
OLD: dict[str, Any] = {"env_steps": 3000, "final_steps": 600, "attempts": 1}
"""Settings of a distillation whose student agrees with its teacher in the old world."""


class DriftingProbe(ProbeEnv):
    """The Discrete probe, whose observations move by `shift` after `begin` steps."""

    def __init__(self, begin: int = 600, shift: float = SHIFT, render_mode: str | None = None) -> None:
        super().__init__("Discrete", render_mode)
        self.observation_space = gym.spaces.Box(-5, 5, (4,), np.float32)
        self._steps, self._begin, self._shift = 0, begin, shift

    def _draw(self) -> NDArray[np.float32]:
        self._steps += 1
        moved = np.float32([self._shift, -self._shift, 0, 0]) if self._steps > self._begin else 0
        self._observation = self.np_random.uniform(-1, 1, 4).astype(np.float32) + moved
        return self._observation.astype(np.float32)


def states(seed: int, shift: float) -> dict[str, np.ndarray]:
    moved = np.float32([shift, -shift, 0, 0])
    return {"obs": np.random.default_rng(seed).uniform(-1, 1, (2000, 4)).astype(np.float32) + moved}


def agreement(policy: Policy, teacher: Teacher, shift: float) -> float:
    visited = states(9, shift)
    return float(np.mean(agree(policy.graph.head, teacher(visited).params.numpy(), policy.params_batch(visited))))
