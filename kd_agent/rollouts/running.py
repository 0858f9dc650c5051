"""Running episodes: played on from one round to the next, and brought back where they were in another process.

Letters: `N` environments, `L` steps of the longest running episode, `*A` shape of an action.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import numpy as np
from stable_baselines3.common.vec_env import VecEnv

from kd_agent.environments import as_mapping
from kd_agent.errors import KDError
from kd_agent.policies import Array, HeadSpec
from kd_agent.rollouts.steps import Act, Step, play_on


class RunningEpisodes:
    """Environments whose episodes go on from one call of `play` to the next.

    The state of an environment cannot be saved in general. What can be is how it came about: the seeds that were drawn
    before its episode began, and the actions since. An environment that does not follow from its seed and its actions
    alone (it asks the clock, say, or grows harder from episode to episode) comes back to another state than it was in.

    Args:
        env: Made by `make_env`.
        seeds: For each environment, seeds of its episodes. Only streams of their own can be gone on with elsewhere.

    Attributes:
        env: The same.
    """

    def __init__(self, env: VecEnv, seeds: Sequence[Iterator[int]]) -> None:
        self.env = env
        self._seeds = [_Counted(stream) for stream in seeds]
        self._observations: Mapping[str, Array] | None = None
        self._starts = np.ones(env.num_envs, bool)
        # How the running episodes came about: of the actions, the last `lengths` of each environment.
        self._actions: list[Array] = []
        self._lengths = np.zeros(env.num_envs, np.int64)
        self._drawn_before = np.zeros(env.num_envs, np.int64)
        self._drawn = np.zeros(env.num_envs, np.int64)

    def play(self, act: Act, masked: HeadSpec | None = None) -> Iterator[Step]:
        """Play without end, from where the last call stopped.

        Args:
            act: Who plays.
            masked: As `steps.play` has it.
        """
        if self._observations is None:
            self._observations = self._begin()
        for step in play_on(self.env, self._observations, self._starts, act, masked):
            self._observations, self._starts = step.following, step.ended
            self._remember(step)
            yield step

    def arrays(self) -> dict[str, Array]:
        """How the running episodes came about, for a checkpoint: the actions `[L, N, *A]`, and `[N]` numbers."""
        actions = np.stack(self._actions) if self._actions else np.zeros((0, self.env.num_envs))
        return {"actions": actions, "lengths": self._lengths, "drawn_before": self._drawn_before}

    def restore(self, arrays: Mapping[str, Array]) -> None:
        """Go on where other environments of the same kind were; they are played there by the next call of `play`.

        Args:
            arrays: What `arrays` gave.

        Raises:
            KDError: They are of other environments.
        """
        actions, lengths, drawn_before = (arrays[name] for name in ("actions", "lengths", "drawn_before"))
        numbers = (self.env.num_envs,)
        if actions.shape[:2] != (lengths.max(), *numbers) or {lengths.shape, drawn_before.shape} != {numbers}:
            raise KDError("its running episodes are of other environments")
        self._observations = None
        self._actions = list(actions)
        self._lengths = lengths.copy()
        self._drawn_before = drawn_before.copy()

    def close(self) -> None:
        """Close the environments."""
        self.env.close()

    def _begin(self) -> dict[str, Array]:
        """Reset every environment and play its episode as far as it had come; what is observed then.

        Each is played by itself: their episodes began at different steps.
        """
        for index, seeds in enumerate(self._seeds):
            seeds.skip(self._drawn_before[index])
            self.env.env_method("take_seeds", seeds, indices=index)
        observations = as_mapping(self.env.reset())
        self._starts = np.ones(self.env.num_envs, bool)
        for index, length in enumerate(self._lengths):
            for action in self._actions[len(self._actions) - length :]:
                shown, ended = self._step_alone(index, action[index])
            if length:
                self._starts[index] = ended
                for key, part in as_mapping(shown).items():
                    observations[key][index] = part
        self._drawn = self._count()
        return observations

    def _step_alone(self, index: int, action: Any) -> tuple[Any, bool]:
        """One step of one environment, as the vector makes it: what is observed then, and whether an episode ended."""
        [(shown, _, terminated, truncated, _)] = self.env.env_method("step", action, indices=index)
        ended = bool(terminated or truncated)
        if ended:
            [(shown, _)] = self.env.env_method("reset", indices=index)
        return shown, ended

    def _remember(self, step: Step) -> None:
        """Keep an action of each environment, and forget those of episodes that have ended."""
        self._actions.append(step.actions)
        self._lengths += 1
        drawn = self._count()
        # A wrapper may call a lost life an end: where no seed was drawn the environment plays on.
        begun = step.ended & (drawn > self._drawn)
        self._lengths[begun] = 0
        self._drawn_before[begun] = self._drawn[begun]
        self._drawn = drawn
        del self._actions[: len(self._actions) - self._lengths.max()]

    def _count(self) -> Array:
        """How many seeds each environment has drawn, `[N]`."""
        return np.array([seeds.drawn for seeds in self._seeds])


class _Counted(Iterator[int]):
    """Seeds that are counted.

    Attributes:
        drawn: How many have been drawn.
    """

    def __init__(self, seeds: Iterator[int]) -> None:
        self.drawn = 0
        self._seeds = seeds

    def __next__(self) -> int:
        self.drawn += 1
        return next(self._seeds)

    def skip(self, count: int) -> None:
        """Draw so many without use."""
        for _ in islice(self, count):
            pass
