"""Recorded episodes: what was seen, done and earned, step by step, and what the teacher said of it.

Letters: `T` steps, `N` environments, `P` head parameters, `*A` shape of an action, `*O` shape of an observation.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from stable_baselines3.common.vec_env import VecEnv

from kd_agent.environments import Recipe, as_mapping
from kd_agent.environments.parked import park_those_without_seed
from kd_agent.environments.vector import make_env
from kd_agent.errors import KDError
from kd_agent.networks import State, Teacher
from kd_agent.policies import Array
from kd_agent.rollouts.evaluate import N_ENVS
from kd_agent.rollouts.rollout import TEACHER, Rollout
from kd_agent.rollouts.steps import Step, play
from kd_agent.runs import Advance
from kd_agent.runs.seeds import seed_of


@dataclass(frozen=True)
class RecordedEpisode:
    """One episode.

    Attributes:
        observations: `[T + 1, *O]` by key: the last is the one after the last step.
        actions: What was done, `[T, *A]`.
        rewards: `[T]`.
        params: The teacher's rows, `[T, P]`.
        drivers: Who acted, `[T]`: the teacher, a student, or nobody but chance.
        terminated: Whether the last step ended the episode.
        truncated: Whether a limit did.
        seed: The episode's seed; None: it is not known.
    """

    observations: Mapping[str, Array]
    actions: Array
    rewards: Array
    params: Array
    drivers: Array
    terminated: bool
    truncated: bool
    seed: int | None = None

    def __len__(self) -> int:
        return len(self.rewards)


def record_episodes(
    teacher: Teacher,
    recipe: Recipe,
    *,
    seeds: Sequence[int],
    deterministic: bool = True,
    advance: Advance = lambda done, **figures: None,
) -> list[RecordedEpisode]:
    """Let a teacher play one episode a seed.

    Args:
        teacher: Who plays.
        recipe: Where.
        seeds: Seed of each episode.
        deterministic: Greedy actions rather than samples.
        advance: Called with the number of finished episodes.

    Returns:
        The episodes, in the order of the seeds.

    Raises:
        KDError: The environment failed, or the teacher plays with action masks, for which a recording has no place.
    """
    if teacher.expects_masks:
        raise KDError(f"{teacher.origin.source} plays with action masks, for which recorded data have no place")
    env = make_env(recipe, min(N_ENVS, len(seeds)))
    player = _Player(env, teacher, deterministic, seed_of(seeds[0], "sample"))
    found: dict[int, RecordedEpisode] = {}
    try:
        for step in play(env, iter(seeds), player.act):
            found |= {episode.seed: episode for episode in player.ended(step) if episode.seed is not None}
            park_those_without_seed(env, step.ended)
            advance(len(found))
            if len(found) == len(seeds):
                break
    finally:
        env.close()
    return [found[seed] for seed in seeds]


class _Player:
    """A teacher that plays, and what each environment has seen of its episode so far."""

    def __init__(self, env: VecEnv, teacher: Teacher, deterministic: bool, seed: int) -> None:
        self._env = env
        self._teacher = teacher
        self._deterministic = deterministic
        self._rng = np.random.default_rng(seed)
        self._memory: State = None
        self._params: Array = np.empty(0)
        self._seeds: list[int | None] = []
        self._rows: list[list[dict[str, Any]]] = [[] for _ in range(env.num_envs)]

    def act(self, observations: Mapping[str, Array], starts: Array, action_masks: Array | None = None) -> Array:
        """Actions `[N, *A]`.

        Args:
            observations: `[N, *O]` by key.
            starts: Whether each is the first of its episode, `[N]`.
            action_masks: None: nobody asked.
        """
        # Before the step, after which an environment has the seed of its next episode.
        self._seeds = self._env.get_attr("episode_seed")
        label = self._teacher.label(observations, self._memory, starts, action_masks)
        self._memory = label.state
        self._params = label.params.numpy()
        head = self._teacher.head.spec
        return head.greedy(self._params) if self._deterministic else head.sample(self._params, self._rng)

    def ended(self, step: Step) -> Iterator[RecordedEpisode]:
        """Keep a step of every environment, and hand out the episodes that it ended."""
        for index, rows in enumerate(self._rows):
            row = {"reward": step.rewards[index], "params": self._params[index], "action": step.actions[index]}
            rows.append({**row, "observation": {key: array[index] for key, array in step.observations.items()}})
            if step.ended[index]:
                yield self._episode(rows, step.infos[index], self._seeds[index])
                rows.clear()

    def _episode(self, rows: Sequence[Mapping[str, Any]], info: Mapping[str, Any], seed: int | None) -> RecordedEpisode:
        last = {key: array[0] for key, array in as_mapping(_batched(info["terminal_observation"])).items()}
        shown = [row["observation"] for row in rows] + [last]
        truncated = bool(info.get("TimeLimit.truncated", False))
        return RecordedEpisode(
            {key: np.stack([each[key] for each in shown]) for key in shown[0]},
            np.stack([row["action"] for row in rows]),
            np.array([row["reward"] for row in rows], np.float64),
            np.stack([row["params"] for row in rows]),
            np.full(len(rows), TEACHER, np.int8),
            terminated=not truncated,
            truncated=truncated,
            seed=seed,
        )


def _batched(observation: Any) -> Any:
    """An observation as a batch of one."""
    if isinstance(observation, Mapping):
        return {key: np.asarray(part)[None] for key, part in observation.items()}
    return np.asarray(observation)[None]


def episodes_of(rollouts: Sequence[Rollout]) -> list[RecordedEpisode]:
    """The episodes of rollouts that were played on from one to the next.

    A rollout has no observation after an episode's last step: the one before stands in its place, and an episode that
    was still running ends a step earlier.

    Args:
        rollouts: All of them, in their order.

    Raises:
        KDError: They do not tell what was done, as those of older versions.
    """
    columns: dict[str, Array] = {}
    for name in rollouts[0].arrays():
        columns[name] = np.concatenate([rollout.arrays()[name] for rollout in rollouts])
    if not {"action", "terminated"} <= set(columns):
        raise KDError("its rounds do not tell what was done, as those of older versions")
    starts = columns["episode_start"]
    steps, environments = starts.shape
    episodes = []
    for n in range(environments):
        first = np.flatnonzero(starts[:, n])
        for begin, end in zip(map(int, first), [*map(int, first[1:]), steps], strict=True):
            episode = _piece(columns, n, begin, end, running=end == steps)
            if len(episode):
                episodes.append(episode)
    return episodes


def _piece(columns: Mapping[str, Array], n: int, begin: int, end: int, *, running: bool) -> RecordedEpisode:
    """The episode of one environment from one step to before another.

    Args:
        columns: Arrays `[T, N, ...]` by name.
        n: The environment.
        begin: The first step.
        end: The step after the last.
        running: Whether the rollouts end here; whether the episode did too, its last step then says.
    """
    own = {name: array[begin:end, n] for name, array in columns.items()}
    terminated = bool(own["terminated"][-1])
    running = running and not terminated
    shown = {name.removeprefix("obs."): array for name, array in own.items() if name.startswith("obs.")}
    steps = end - begin - running
    if not running:
        shown = {key: np.concatenate([array, array[-1:]]) for key, array in shown.items()}
    return RecordedEpisode(
        shown,
        own["action"][:steps],
        own["reward"][:steps].astype(np.float64),
        own["params"][:steps],
        own["driver"][:steps],
        terminated=terminated,
        truncated=not (terminated or running),
    )
