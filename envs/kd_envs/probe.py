"""Probe: a task with a known answer, in every action space."""

import copy
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

_SPACES: dict[str, gym.Space[Any]] = {
    "Discrete": gym.spaces.Discrete(4),
    "MultiDiscrete": gym.spaces.MultiDiscrete([3, 4]),
    "MultiBinary": gym.spaces.MultiBinary(3),
    "Box": gym.spaces.Box(np.float32([-1, -2]), np.float32([1, 3])),
}


class ProbeEnv(gym.Env[NDArray[np.float32], Any]):
    """Observations are uniform in [-1, 1]^4; the best action is a fixed function of them.

    The reward of a step is 1 minus the mean distance of the action from `best_action(observation)`, so a
    perfect policy earns exactly 1 a step.

    Args:
        action: "Discrete", "MultiDiscrete", "MultiBinary" or "Box".
    """

    metadata: ClassVar[dict[str, Any]] = {"render_modes": []}

    def __init__(self, action: str = "Discrete", render_mode: str | None = None) -> None:
        self.observation_space = gym.spaces.Box(-1, 1, (4,), np.float32)
        self.action_space = copy.deepcopy(_SPACES[action])
        self.render_mode = render_mode
        self._observation = np.zeros(4, np.float32)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Draw an observation.

        Args:
            seed: Seed of the observations to come.
            options: Not used.
        """
        super().reset(seed=seed)
        return self._draw(), {}

    def step(self, action: Any) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """Reward the action and draw the next observation; episodes end by the time limit alone."""
        best = best_action(self.action_space, self._observation)
        error = np.abs(np.asarray(action, np.float64) - best)
        if not isinstance(self.action_space, gym.spaces.Box):
            # Of actions that are names, another one is wrong however near its number.
            error = error > 0
        return self._draw(), 1 - float(np.mean(error)), False, False, {}

    def _draw(self) -> NDArray[np.float32]:
        self._observation = self.np_random.uniform(-1, 1, 4).astype(np.float32)
        return self._observation.copy()


class ProbeDictEnv(gym.ObservationWrapper[Any, Any, Any]):
    """The Discrete probe with its observation twice: "all" of it, and the first "half"."""

    # Gymnasium asks the class and not the object, and up to 1.2 takes a wrapper's own, a property, for a mistake.
    metadata: ClassVar[dict[str, Any]] = ProbeEnv.metadata

    def __init__(self, render_mode: str | None = None) -> None:
        super().__init__(ProbeEnv("Discrete", render_mode))
        box = gym.spaces.Box
        self.observation_space = gym.spaces.Dict(
            {"all": box(-1, 1, (4,), np.float32), "half": box(-1, 1, (2,), np.float32)}
        )

    def observation(self, observation: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        """Both views."""
        return {"all": observation, "half": observation[:2]}


def best_action(space: gym.Space[Any], observation: NDArray[np.float32]) -> Any:
    """The action that earns 1.

    Args:
        space: The probe's action space.
        observation: `[4]`.
    """
    if isinstance(space, gym.spaces.Discrete):
        return int(np.argmax(observation))
    if isinstance(space, gym.spaces.MultiDiscrete):
        return np.array([np.argmax(observation[:3]), np.argmax(observation)])
    if isinstance(space, gym.spaces.MultiBinary):
        return (observation[:3] > 0).astype(np.int8)
    assert isinstance(space, gym.spaces.Box)
    return np.clip(2 * observation[:2], space.low, space.high)
