"""Rock, paper, scissors against one who counts: whoever plays greedily is read, whoever draws is not."""

from typing import Any

import gymnasium as gym
import numpy as np

ROUNDS = 30
ID = "RockPaperScissors-v0"


class RockPaperScissors(gym.Env[Any, Any]):
    """The opponent beats the move that was played most often so far, and at first plays anything.

    An observation is how much of the game is over, and the opponent's last move (one-hot). A won round pays 1, a lost
    one -1.
    """

    observation_space = gym.spaces.Box(0, 1, (4,), np.float32)
    action_space = gym.spaces.Discrete(3)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self._counts = np.zeros(3, int)
        return self._observe(None), {}

    def step(self, action: Any) -> Any:
        most_often = np.flatnonzero(self._counts == self._counts.max())
        other = (self.np_random.choice(most_often) + 1) % 3
        # Each move is beaten by the next one.
        reward = (0.0, 1.0, -1.0)[(int(action) - other) % 3]
        self._counts[int(action)] += 1
        over = self._counts.sum() == ROUNDS
        return self._observe(other), reward, bool(over), False, {}

    def _observe(self, other: Any) -> np.ndarray:
        shown = np.zeros(4, np.float32)
        shown[0] = self._counts.sum() / ROUNDS
        if other is not None:
            shown[1 + other] = 1
        return shown


gym.register(ID, RockPaperScissors)


def nearly_uniform(observations: np.ndarray) -> np.ndarray:
    """A teacher's logits `[B, 3]`: it draws its moves nearly alike, and prefers the first a little."""
    return np.tile(np.float32([0.1, 0, 0]), (len(observations), 1))
