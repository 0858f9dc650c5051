"""Wrappers that RL Zoo agents were trained in and that no library offers by itself."""

from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

Vector = NDArray[Any]


class FrameSkip(gym.Wrapper[Any, Any, Any, Any]):
    """Repeats each action and adds up the rewards.

    Args:
        env: The environment.
        skip: Steps an action.
    """

    def __init__(self, env: gym.Env[Any, Any], skip: int = 4) -> None:
        super().__init__(env)
        self.skip = skip

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """`skip` steps, fewer where the episode ends."""
        total = 0.0
        for _ in range(self.skip):
            observation, reward, terminated, truncated, info = self.env.step(action)
            total += float(reward)
            if terminated or truncated:
                break
        return observation, total, terminated, truncated, info


class HistoryWrapper(gym.Wrapper[Any, Any, Any, Any]):
    """Shows the last observations, then the last actions, oldest first; zeros before the episode.

    Args:
        env: With a flat Box for observations and for actions.
        horizon: How many of each.
    """

    def __init__(self, env: gym.Env[Any, Any], horizon: int = 2) -> None:
        super().__init__(env)
        observed = env.observation_space
        acted = env.action_space
        assert isinstance(observed, gym.spaces.Box)
        assert isinstance(acted, gym.spaces.Box)
        low = np.concatenate([observed.low] * horizon + [acted.low] * horizon).astype(observed.dtype)
        high = np.concatenate([observed.high] * horizon + [acted.high] * horizon).astype(observed.dtype)
        self.observation_space = gym.spaces.Box(low, high, dtype=observed.dtype.type)
        self._horizon = horizon
        self._observations: list[Vector] = []
        self._actions: list[Vector] = []

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Vector, dict[str, Any]]:
        """Forget everything.

        Args:
            seed: The environment's.
            options: The environment's.
        """
        observation, info = self.env.reset(seed=seed, options=options)
        self._observations = [np.zeros_like(observation)] * self._horizon
        self._actions = [np.zeros(self.action_space.shape or (), np.float32)] * self._horizon
        return self._remember(observation), info

    def step(self, action: Vector) -> tuple[Vector, Any, bool, bool, dict[str, Any]]:
        """One step, remembered."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        self._actions = [*self._actions[1:], np.asarray(action)]
        return self._remember(observation), reward, terminated, truncated, info

    def _remember(self, observation: Vector) -> Vector:
        self._observations = [*self._observations[1:], observation]
        return np.concatenate([*self._observations, *self._actions]).astype(self.observation_space.dtype)


class MaskVelocityWrapper(gym.ObservationWrapper[Any, Any, Any]):
    """Hides velocities (as zeros), so that a policy needs a memory.

    Args:
        env: One of `velocities`, in any version.
    """

    velocities: ClassVar[dict[str, tuple[int, ...]]] = {
        "CartPole": (1, 3),
        "MountainCar": (1,),
        "MountainCarContinuous": (1,),
        "Pendulum": (2,),
        "LunarLander": (2, 3, 5),
        "LunarLanderContinuous": (2, 3, 5),
    }
    """Places of the velocities in the observation, by the environment's name."""

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        super().__init__(env)
        # The innermost one's: a wrapper may be part of an id that says more than the environment's name.
        spec = env.unwrapped.spec
        name = spec.id.rpartition("-v")[0] if spec else ""
        if name not in self.velocities:
            raise TypeError(f"where the velocities of {name or 'an unregistered environment'} are is not known")
        self._places = list(self.velocities[name])

    def observation(self, observation: Vector) -> Vector:
        """The observation without its velocities."""
        # A copy: MountainCarContinuous, for one, shows the very array that it keeps as its state.
        masked = np.array(observation)
        masked[self._places] = 0
        return masked


class ZeroContactForces(gym.ObservationWrapper[Any, Any, Any]):
    """Ends the observation in contact forces of 0, as MuJoCo 2 under `mujoco_py` showed them to Ant and Humanoid.

    (gym issue 1541: with MuJoCo 2.0 the forces were never computed.)

    Args:
        env: With a flat Box for observations.
        size: Numbers in the observation, the forces included.
        forces: How many of them are forces.
    """

    def __init__(self, env: gym.Env[Any, Any], size: int, forces: int = 84) -> None:
        super().__init__(env)
        self._kept = size - forces
        self._zeros = np.zeros(forces)
        if not 0 < self._kept <= int(np.prod(env.observation_space.shape or ())):
            raise ValueError(f"{size} numbers, {forces} of them forces, do not fit {env.observation_space}")
        self.observation_space = gym.spaces.Box(-np.inf, np.inf, (size,), np.float64)

    def observation(self, observation: Vector) -> Vector:
        """The observation up to the forces, then zeros."""
        return np.concatenate([observation[: self._kept], self._zeros])


def inner(base: str, **kwargs: Any) -> gym.Env[Any, Any]:
    """A registered environment, to be wrapped.

    Args:
        base: Its id. A module before it is not imported: the argument may stand in a file.
        kwargs: Its keyword arguments.
    """
    return gym.make(str(base).rpartition(":")[2], **kwargs)


def without_velocities(base: str, **kwargs: Any) -> gym.Env[Any, Any]:
    """The environment `base` behind `MaskVelocityWrapper`."""
    return MaskVelocityWrapper(inner(base, **kwargs))
