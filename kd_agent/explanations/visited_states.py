"""The states that a student visits, and what a policy says there, also of other observations.

Letters: `S` states, `T` steps, `N` environments, `P` head parameters, `*O` shape of an observation.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper

from kd_agent.environments import Recipe
from kd_agent.environments.vector import make_env
from kd_agent.explanations.features import Feature
from kd_agent.networks import Teacher
from kd_agent.policies import Array, Policy
from kd_agent.rollouts import collect
from kd_agent.runs import Advance

_N_ENVS, _CHUNK = 16, 2048


@dataclass(frozen=True)
class Visited:
    """States of episodes that the student plays, environment by environment, in the order of the steps.

    Attributes:
        observations: `[S, *O]` by key.
        starts: `[S]`, whether a state is the first of an episode.
        episode: `[S]`, number of its episode.
        seed: `[S]`, seed of its episode.
        step: `[S]`, decisions since the episode began.
        steps: `T` of each environment; `S` is `T` times their number.
    """

    observations: Mapping[str, Array]
    starts: Array
    episode: Array
    seed: Array
    step: Array
    steps: int


@dataclass(frozen=True)
class Reading:
    """What a policy says along the states.

    Attributes:
        keys: Keys of the observations that it sees.
        rows: Its rows `[S, P]`.
        ask: Its rows `[n, P]` for other observations `[n, *O]` at the states of the given indices `[n]`, its memory
            there being what it was.
    """

    keys: frozenset[str]
    rows: Array
    ask: Callable[[Mapping[str, Array], Array], Array]


def visit(teacher: Teacher, student: Policy, recipe: Recipe, *, states: int, seed: int, advance: Advance) -> Visited:
    """About `states` states of episodes that the student plays: the same ones as `closeness` judges by."""
    env = _Witness(make_env(recipe, _N_ENVS))
    steps = -(-states // _N_ENVS)
    rollout = collect(env, teacher, student, steps=steps, beta=0.0, seed=(seed,), advance=advance)
    env.close()
    seeds = np.array(env.seeds[:steps], np.int64)
    new = np.vstack([np.ones((1, _N_ENVS), bool), seeds[1:] != seeds[:-1]])
    number = np.arange(steps)[:, None]
    step = number - np.maximum.accumulate(np.where(new, number, 0), axis=0)
    flat = {key: _by_environment(array) for key, array in rollout.obs.items()}
    starts, seeds, new, step = map(_by_environment, (rollout.episode_start, seeds, new, step))
    return Visited(flat, starts, np.cumsum(new) - 1, seeds, step, steps)


def read(policy: Teacher | Policy, visited: Visited) -> Reading:
    """Follow a policy along the states, so that it can be asked about them again."""
    keys = policy.observations if isinstance(policy, Teacher) else policy.graph.observations
    memory = _memories(policy, visited) if policy.recurrent else None

    def ask(observations: Mapping[str, Array], at: Array) -> Array:
        parts = []
        for first in range(0, len(at), _CHUNK):
            now = at[first : first + _CHUNK]
            batch = {key: array[first : first + _CHUNK] for key, array in observations.items()}
            before = [array[now] for array in memory] if memory else None
            parts.append(_step(policy, batch, before, visited.starts[now])[0])
        return np.concatenate(parts)

    return Reading(frozenset(keys), ask(visited.observations, np.arange(len(visited.starts))), ask)


def typical(feature: Feature, visited: Visited) -> Array:
    """What a feature mostly is: its median over the states, or its most frequent value where it is no measure."""
    values = feature.of(visited.observations)
    if values.dtype.kind == "f" or feature.cell:
        return np.asarray(np.median(values, axis=0), values.dtype)
    known, counts = np.unique(values, return_counts=True)
    return np.asarray(known[counts.argmax()])


class _Witness(VecEnvWrapper):
    """Writes down which episode each state belongs to.

    Attributes:
        seeds: Seeds `[N]` of the episodes of the first and every later observation.
    """

    def __init__(self, venv: VecEnv) -> None:
        super().__init__(venv)
        self.seeds: list[list[int]] = []

    def reset(self) -> Any:
        observations = self.venv.reset()
        self.seeds.append(self.venv.get_attr("episode_seed"))
        return observations

    def step_wait(self) -> Any:
        outcome = self.venv.step_wait()
        self.seeds.append(self.venv.get_attr("episode_seed"))
        return outcome


def _by_environment(array: Array) -> Array:
    """`[T, N, ...]` as `[N * T, ...]`."""
    return np.asarray(array.swapaxes(0, 1).reshape(-1, *array.shape[2:]))


def _step(policy: Teacher | Policy, observations: Any, memory: Any, starts: Array) -> tuple[Array, Any]:
    if isinstance(policy, Policy):
        return policy.step_batch(observations, memory, starts)
    output = policy(observations, memory, starts)
    return output.params.numpy(), output.state


def _memories(policy: Teacher | Policy, visited: Visited) -> list[Array]:
    """What a policy remembers before each state, arrays `[S, *M]`."""
    n = len(visited.starts) // visited.steps
    memory: Any = None
    before = []
    for step in range(visited.steps):
        now = np.arange(n) * visited.steps + step
        batch = {key: array[now] for key, array in visited.observations.items()}
        following = _step(policy, batch, memory, visited.starts[now])[1]
        before.append([np.zeros_like(x) for x in following] if memory is None else memory)
        memory = [np.asarray(x) for x in following]
    return [_by_environment(np.stack(arrays)) for arrays in zip(*before, strict=True)]
