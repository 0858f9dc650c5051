"""What a teacher sees through wrappers of its own, beside what its student sees: two views of the same step."""

from collections.abc import Mapping
from typing import Any

import gymnasium as gym

from kd_agent.errors import KDError
from kd_agent.policies import OBSERVATION

_PREFIX = "teacher:"
"""Before each key of the teacher's view; no environment has such keys."""


class Remembered(gym.Wrapper[Any, Any, Any, Any]):
    """An environment whose last observation can be read from outside of the wrappers around it.

    Attributes:
        shown: The last observation.
    """

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        super().__init__(env)
        self.shown: Any = None

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start an episode.

        Args:
            seed: The environment's.
            options: The environment's.
        """
        self.shown, info = self.env.reset(seed=seed, options=options)
        return self.shown, info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """One step, remembered."""
        self.shown, reward, terminated, truncated, info = self.env.step(action)
        return self.shown, reward, terminated, truncated, info


class Beside(gym.ObservationWrapper[Any, Any, Any]):
    """Shows both views in one Dict: the student's under its own keys, the teacher's under marked ones.

    Args:
        env: The environment as the teacher sees it.
        inner: Inside of it, the one that the student sees.

    Raises:
        KDError: The teacher's wrappers change the actions, which the student takes too.
    """

    def __init__(self, env: gym.Env[Any, Any], inner: Remembered) -> None:
        super().__init__(env)
        self._inner = inner
        if env.action_space != inner.action_space:
            raise KDError(
                f"--teacher-wrapper makes the actions {env.action_space} of {inner.action_space}: a teacher's own "
                "wrappers may change what it sees; those that change actions are around both (--wrapper)"
            )
        parts = [*_named(inner.observation_space).items()]
        parts += [(f"{_PREFIX}{key}", part) for key, part in _named(env.observation_space).items()]
        # As pairs: Dict sorts the keys of a dictionary.
        self.observation_space = gym.spaces.Dict(parts)

    def observation(self, observation: Any) -> dict[str, Any]:
        """Both views of a step."""
        both = dict(_parts(self._inner.shown))
        for key, part in _parts(observation).items():
            both[f"{_PREFIX}{key}"] = part
        return both


def view_of_teacher(space: gym.Space[Any]) -> tuple[gym.Space[Any], dict[str, str]]:
    """What the teacher sees of an observation space, and what it calls each of its keys ({} where it sees all)."""
    parts = _named(space)
    names = {key: key.removeprefix(_PREFIX) for key in parts if key.startswith(_PREFIX)}
    if not names:
        return space, {}
    return _unnamed([(name, parts[key]) for key, name in names.items()]), names


def view_of_student(space: gym.Space[Any]) -> gym.Space[Any]:
    """What the student sees of an observation space."""
    _, names = view_of_teacher(space)
    if not names:
        return space
    return _unnamed([(key, part) for key, part in _named(space).items() if key not in names])


def _named(space: gym.Space[Any]) -> dict[str, gym.Space[Any]]:
    return dict(space.spaces) if isinstance(space, gym.spaces.Dict) else {OBSERVATION: space}


def _parts(observation: Any) -> Mapping[str, Any]:
    return observation if isinstance(observation, Mapping) else {OBSERVATION: observation}


def _unnamed(parts: list[tuple[str, gym.Space[Any]]]) -> gym.Space[Any]:
    """Inverse of `_named`."""
    if [key for key, _ in parts] == [OBSERVATION]:
        return parts[0][1]
    return gym.spaces.Dict(parts)
