"""An environment that is stopped at the step where it misbehaves."""

import math
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import gymnasium as gym
import numpy as np

from kd_agent.environments.spaces import observation_specs
from kd_agent.environments.watchdog import Watchdog
from kd_agent.errors import KDError
from kd_agent.policies import OBSERVATION, ObservationSpec

EPISODE, LAST_EPISODE = "kd_agent.episode", "kd_agent.last_episode"
"""Keys of `info` under which whole episodes are reported."""
_FOREIGN_EPISODE = "episode"
"""What environments and wrappers say of episodes under this key, Stable-Baselines3 takes for its own monitor's."""


class GuardedEnv(gym.Wrapper[Any, Any, Any, Any]):
    """Stops at the step where an environment misbehaves, plays given seeds, and reports whole episodes.

    The last step of an episode carries `info[EPISODE] = (seed, return, length)`, and the first step of the
    next one repeats it as `info[LAST_EPISODE]`: a wrapper may end an episode unseen, within its reset.

    Args:
        env: The environment.
        index: Its number, for messages.
        limit: Steps after which an episode is cut, where it has no limit of its own; None: never.
        watchdog: Watches each step, where one may hang.

    Attributes:
        seeds: Seeds of the coming episodes; each reset takes the next one.
        episode_seed: Seed of the present episode; None: it has none.
        last_episode: Seed, return and length of the one before; None: there was none.
    """

    def __init__(
        self, env: gym.Env[Any, Any], index: int, *, limit: int | None = None, watchdog: Watchdog | None = None
    ) -> None:
        super().__init__(env)
        self.seeds: Iterator[int] = iter(())
        self.episode_seed: int | None = None
        self._index = index
        self._limit = limit
        self._watchdog = watchdog
        self._length = 0
        self._return = 0.0
        self.last_episode: tuple[int | None, float, int] | None = None
        self._cut_outside = False
        self._specs = _readable_specs(env.observation_space)
        self._actions = env.action_space

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
        if self._cut_outside:
            self.last_episode = (self.episode_seed, self._return, self._length)
        self._cut_outside = False
        self.episode_seed = next(self.seeds, seed)
        self._length = 0
        self._return = 0.0
        answer = self._ask(lambda: self.env.reset(seed=self.episode_seed, options=options))
        observation, info = self._unpacked(answer, ("observation", "info"), "reset")
        self._check(observation, self._specs)
        if self.env.action_space != self._actions:
            raise self._failure(f"changed its action space to {self.env.action_space}, it was {self._actions}")
        return observation, self._own(info)

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """One step; a KDError says which environment, seed and step went wrong."""
        self._length += 1
        self._cut_outside = False
        answer = self._ask(lambda: self.env.step(action))
        names = ("observation", "reward", "terminated", "truncated", "info")
        observation, reward, terminated, truncated, info = self._unpacked(answer, names, "step")
        self._check(observation, self._specs)
        earned = self._number(reward, "reward")
        over = bool(self._number(terminated, "value of terminated"))
        cut = bool(self._number(truncated, "value of truncated")) or (not over and self._at_limit())
        self._return += earned
        if not math.isfinite(self._return):
            raise self._failure("earned more in one episode than a number can hold")
        info = self._own(info)
        if self._length == 1 and self.last_episode:
            info[LAST_EPISODE] = self.last_episode
        if over or cut:
            self.last_episode = (self.episode_seed, self._return, self._length)
            info[EPISODE] = self.last_episode
        return observation, earned, over, cut, info

    def close(self) -> None:
        """Close the environment; one that cannot be closed has given all that was wanted of it."""
        if self._watchdog:
            self._watchdog.stop()
        try:
            super().close()
        except Exception as error:
            message = f"environment {self._index} cannot be closed ({type(error).__name__}: {error})"
            warnings.warn(" ".join(message.split()), stacklevel=2)

    def _ask(self, call: Callable[[], Any]) -> Any:
        """What the environment answers; KDError where it raises or takes too long."""
        if self._watchdog:
            self._watchdog.begin(f"environment {self._index} (seed {self.episode_seed}, step {self._length})")
        try:
            return call()
        except KeyboardInterrupt:
            if self._watchdog and self._watchdog.expired:
                seconds = self._watchdog.timeout
                raise self._failure(f"takes longer than {seconds:g} s for a step (--step-timeout)") from None
            raise
        except Exception as error:
            raise self._failure(f"raised {type(error).__name__}: {error}") from error
        finally:
            if self._watchdog:
                self._watchdog.end()

    def _unpacked(self, answer: Any, names: tuple[str, ...], method: str) -> tuple[Any, ...]:
        if isinstance(answer, tuple) and len(answer) == len(names):
            return answer
        returned = f"{len(answer)} values" if isinstance(answer, tuple) else f"a {type(answer).__name__}"
        raise self._failure(f"returned {returned} from {method}(); Gymnasium's returns {', '.join(names)}")

    def _own(self, info: Any) -> dict[str, Any]:
        """The environment's info as a mapping that may be written into."""
        if info is None:
            return {}
        if not isinstance(info, Mapping):
            raise self._failure(f"returned an info of type {type(info).__name__}, which is no mapping")
        own = dict(info)
        own.pop(_FOREIGN_EPISODE, None)
        return own

    def _number(self, value: Any, what: str) -> float:
        """A finite number, also where it comes as an array of one."""
        try:
            # Numbers first: NumPy takes longer to look at one than most environments take for a step.
            number = float(value) if isinstance(value, float | int) else _only_number(value)
        except (TypeError, ValueError, OverflowError):
            number = math.nan
        if not math.isfinite(number):
            raise self._failure(f"returned the {what} {value!r}")
        return number

    def _at_limit(self) -> bool:
        """Whether an episode without a limit of its own has become too long; said once."""
        if self._limit is None or self._length < self._limit:
            return False
        warnings.warn(
            f"episodes without an end are cut after {self._limit:,} steps: the environment has no limit of its own "
            "(--max-episode-steps sets one)",
            stacklevel=2,
        )
        return True

    def _check(self, observation: Any, specs: Mapping[str, ObservationSpec]) -> None:
        parts = observation if isinstance(observation, Mapping) else {OBSERVATION: observation}
        for key, spec in specs.items():
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


class AroundWrappers(gym.Wrapper[Any, Any, Any, Any]):
    """Outside of the wrappers around a guard: tells it of episodes that they end, and stops where they misbehave.

    Args:
        env: The guard inside its wrappers.
        guard: The guard.

    Raises:
        KDError: What they make of the observations is no array.
    """

    def __init__(self, env: gym.Env[Any, Any], guard: GuardedEnv) -> None:
        super().__init__(env)
        self._guard = guard
        self._shown = observation_specs(env.observation_space)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start an episode.

        Args:
            seed: As the guard's.
            options: As the guard's.
        """
        with self._blaming():
            observation, info = self.env.reset(seed=seed, options=options)
        self._guard._check(observation, self._shown)
        return observation, info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """One step."""
        with self._blaming():
            observation, reward, terminated, truncated, info = self.env.step(action)
        self._guard._check(observation, self._shown)
        # Whether the episode is over the guard learns at its next call: a reset means it is; a step, that a wrapper
        # only calls a lost life an end.
        self._guard._cut_outside = bool(terminated or truncated) and EPISODE not in info
        return observation, reward, terminated, truncated, info

    @contextmanager
    def _blaming(self) -> Iterator[None]:
        """Errors of the wrappers in one line; the guard's own have one."""
        try:
            yield
        except KDError:
            raise
        except Exception as error:
            raise self._guard._failure(f"is in a wrapper that raised {type(error).__name__}: {error}") from error


def _only_number(value: Any) -> float:
    """The number of an array that holds one; text is none, whatever it spells."""
    array = np.asarray(value)
    if array.dtype.kind not in "fiub":
        raise TypeError(f"{array.dtype} is no number")
    return float(array.reshape(()))


def _readable_specs(space: gym.Space[Any]) -> dict[str, ObservationSpec]:
    """What can be checked of an observation: nothing of one that only a wrapper around the guard makes arrays of."""
    try:
        return observation_specs(space)
    except KDError:
        return {}
