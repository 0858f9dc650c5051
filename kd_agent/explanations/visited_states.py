"""The states that a student visits, and what a policy says there, also of other observations.

Letters: `S` states, `T` steps, `N` environments, `P` head parameters, `M` flags of an action mask, `*O` shape of an
observation, `*H` of a memory.
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
from kd_agent.runs.seeds import seed_of

_N_ENVS = 16
_CHUNK = 2048
"""States that a policy is asked about at once: the layers of a network for 10,000 images would take gigabytes."""


@dataclass(frozen=True)
class VisitedStates:
    """States of episodes that the student plays, environment by environment, in the order of the steps.

    Attributes:
        observations: `[S, *O]` by key.
        starts: `[S]`, whether a state is the first of an episode.
        episode: `[S]`, number of its episode.
        seed: `[S]`, seed of its episode.
        step: `[S]`, decisions since the episode began.
        steps: `T` of each environment; `S` is `T` times their number.
        masks: `[S, M]`, what is allowed in a state; None where nobody plays with action masks.
    """

    observations: Mapping[str, Array]
    starts: Array
    episode: Array
    seed: Array
    step: Array
    steps: int
    masks: Array | None = None


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


def visit(
    teacher: Teacher, student: Policy, recipe: Recipe, *, states: int, seed: int, advance: Advance
) -> VisitedStates:
    """Play the student, and keep the states of its episodes and where each stands in its own.

    Args:
        teacher: Labels the states.
        student: Plays, as it is meant to be played.
        recipe: The world.
        states: How many at least; each of 16 environments gives as many.
        seed: The episodes' seeds follow from it.
        advance: Called with the number of states so far.

    Raises:
        KDError: The environment failed.
    """
    env = _Witness(make_env(recipe, _N_ENVS))
    steps = -(-states // _N_ENVS)
    rollout = collect(
        env,
        teacher,
        student,
        steps=steps,
        beta=0.0,
        deterministic=not student.sampled,
        seed=seed_of(seed, "agreement"),
        advance=advance,
    )
    env.close()
    # One more was written down than was labelled: that of the state in which the rollout stopped.
    seeds = np.array(env.seeds[:steps], np.int64)
    first = np.ones((1, _N_ENVS), bool)
    begins = np.vstack([first, seeds[1:] != seeds[:-1]])
    number = np.arange(steps)[:, None]
    # The running maximum of the numbers at which episodes begin is where the present one began.
    step = number - np.maximum.accumulate(np.where(begins, number, 0), axis=0)
    observations = {key: _by_environment(array) for key, array in rollout.obs.items()}
    return VisitedStates(
        observations,
        starts=_by_environment(rollout.episode_start),
        episode=np.cumsum(_by_environment(begins)) - 1,
        seed=_by_environment(seeds),
        step=_by_environment(step),
        steps=steps,
        masks=None if rollout.mask is None else _by_environment(rollout.mask),
    )


def read(policy: Teacher | Policy, visited: VisitedStates) -> Reading:
    """Follow a policy along the states, so that it can be asked about them again.

    Args:
        policy: Teacher or student.
        visited: The states.
    """
    memory = _memories(policy, visited) if policy.recurrent else None

    def _ask(observations: Mapping[str, Array], at: Array) -> Array:
        parts = []
        for first in range(0, len(at), _CHUNK):
            chunk = slice(first, first + _CHUNK)
            now = at[chunk]
            batch = {key: array[chunk] for key, array in observations.items()}
            before = [array[now] for array in memory] if memory else None
            rows, _ = _step(policy, batch, before, visited, now)
            parts.append(rows)
        return np.concatenate(parts)

    specs = policy.observations if isinstance(policy, Teacher) else policy.graph.observations
    every = np.arange(len(visited.starts))
    return Reading(frozenset(specs), _ask(visited.observations, every), _ask)


def typical(feature: Feature, visited: VisitedStates) -> Array:
    """What a feature mostly is: its median over the states, or its most frequent value where it is no measure.

    Args:
        feature: The feature.
        visited: The states.
    """
    values = feature.of(visited.observations)
    if values.dtype.kind == "f" or feature.cell:
        # Of an even number of pixels the median may lie between two shades; it keeps the image's type.
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


def _step(
    policy: Teacher | Policy, observations: Any, memory: Any, visited: VisitedStates, at: Array
) -> tuple[Array, Any]:
    """What a policy says of observations `[n, *O]` at the states of the indices `[n]`, and its memory after them."""
    starts = visited.starts[at]
    masks = None if visited.masks is None else visited.masks[at]
    if isinstance(policy, Policy):
        return policy.step_batch(observations, memory, starts, masks)
    output = policy.label(observations, memory, starts, masks)
    return output.params.numpy(), output.state


def _memories(policy: Teacher | Policy, visited: VisitedStates) -> list[Array]:
    """What a policy remembers before each state, arrays `[S, *H]`."""
    n_envs = len(visited.starts) // visited.steps
    memory: Any = None
    before = []
    for step in range(visited.steps):
        now = np.arange(n_envs) * visited.steps + step
        batch = {key: array[now] for key, array in visited.observations.items()}
        _, following = _step(policy, batch, memory, visited, now)
        following = list(map(np.asarray, following))
        # How large a memory is shows with the first one; before it there is nothing to remember.
        before.append(list(map(np.zeros_like, following)) if memory is None else memory)
        memory = following
    return [_by_environment(np.stack(arrays)) for arrays in zip(*before, strict=True)]
