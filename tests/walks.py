"""An environment whose states hang on every action since its seed, and wrappers that begin and end episodes oddly."""

from typing import Any

import gymnasium as gym
import numpy as np

WALK = "Walk-v0"
STACKED = "stable_baselines3.common.vec_env:VecFrameStack,n_stack=3"
WRAPPERS: dict[str, tuple[str, ...]] = {
    "plain": (),
    "time": ("sb3_contrib.common.wrappers:TimeFeatureWrapper,max_steps=40",),
    "stacked": (STACKED,),
    "lives": ("walks:Lives",),
    "restless": ("walks:Restless",),
    "restless lives, stacked": ("walks:Restless", "walks:Lives", STACKED),
}
"""What is put around it, by name."""


class Walk(gym.Env[Any, Any]):
    """Drifts by its actions and by chance, and ends where it has come too far."""

    def __init__(self, render_mode: str | None = None) -> None:
        self.observation_space = gym.spaces.Box(-100, 100, (4,), np.float32)
        self.action_space = gym.spaces.Discrete(4)
        self.render_mode = render_mode
        self.place = np.zeros(4)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.place = self.np_random.normal(size=4)
        return self.place.astype(np.float32), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.place = self.place + 0.2 * self.np_random.normal(size=4)
        self.place[int(action)] += 0.3
        far = float(np.abs(self.place).max())
        return self.place.astype(np.float32), far, far > 3, False, {}


class Lives(gym.Wrapper[Any, Any, Any, Any]):
    """Calls every fifth step an end, after which the same episode goes on, as Atari's lost lives do."""

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        super().__init__(env)
        self.over, self.count, self.last = True, 0, None

    def reset(self, **settings: Any) -> tuple[Any, dict[str, Any]]:
        if self.over:
            self.over, self.count = False, 0
            return self.env.reset(**settings)
        return self.last, {}

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        self.last, reward, self.over, cut, info = self.env.step(action)
        self.count += 1
        return self.last, reward, self.over or self.count % 5 == 0, cut, info


class Restless(gym.Wrapper[Any, Any, Any, Any]):
    """Begins each episode a second time, now and then after some steps, as Atari's no-ops may."""

    def reset(self, **settings: Any) -> tuple[Any, dict[str, Any]]:
        self.env.reset(**settings)
        if self.unwrapped.np_random.random() < 0.5:
            self.env.reset()
        shown, *_, info = self.env.step(0)
        return shown, info
