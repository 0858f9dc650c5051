"""Rollouts: states visited by teacher, student or chance, each labelled by the teacher.

Letters: `T` steps, `N` environments, `P` head parameters, `F` features of a layer, `*O` shape of an observation.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from gymnasium.vector.utils import batch_space
from stable_baselines3.common.vec_env import VecEnv

from kd_agent.environments import as_mapping
from kd_agent.environments.vector import start
from kd_agent.errors import KDError
from kd_agent.networks import PolicyOutput, State, Teacher
from kd_agent.policies import Array, Policy
from kd_agent.runs import Advance

TEACHER, STUDENT, CHANCE = 0, 1, 2
"""Who chose an action, in `Rollout.driver`."""


@dataclass(frozen=True)
class Rollout:
    """Arrays of one round.

    Attributes:
        obs: Observations `[T, N, *O]` by key.
        params: The teacher's rows `[T, N, P]`, float32.
        driver: Who chose the action, `[T, N]`.
        reward: `[T, N]`.
        episode_start: `[T, N]`, whether the observation is the first of an episode.
        weight: `[T, N]`, weight of each state in the fit.
        value: The teacher's estimates `[T, N]`, where it has a critic.
        layer: One of the teacher's layers `[T, N, F]`, where that was asked for.
    """

    obs: Mapping[str, Array]
    params: Array
    driver: Array
    reward: Array
    episode_start: Array
    weight: Array
    value: Array | None = None
    layer: Array | None = None

    def __post_init__(self) -> None:
        shape = self.driver.shape
        if len(shape) != 2 or any(array.shape[:2] != shape for array in self.arrays().values()):
            raise KDError("the arrays of a rollout differ in steps or environments")
        if not np.isfinite(self.params).all():
            raise KDError("the teacher answered NaN or infinity")

    def arrays(self) -> dict[str, Array]:
        """Plain arrays, for a checkpoint."""
        named = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "obs"}
        rest = {name: array for name, array in named.items() if array is not None}
        return {**{f"obs.{key}": value for key, value in self.obs.items()}, **rest}

    @staticmethod
    def from_arrays(arrays: Mapping[str, Array]) -> "Rollout":
        """Inverse of `arrays`."""
        obs = {key.removeprefix("obs."): value for key, value in arrays.items() if key.startswith("obs.")}
        return Rollout(obs, **{key: value for key, value in arrays.items() if not key.startswith("obs.")})


def collect(
    env: VecEnv,
    teacher: Teacher,
    student: Policy | None,
    *,
    steps: int,
    beta: float,
    exploration: float = 0.0,
    seed: Sequence[int] = (0,),
    layer: str | None = None,
    advance: Advance = lambda done, **figures: None,
) -> Rollout:
    """Play from fresh episodes and label every state.

    At each step of each environment the teacher acts greedily with probability `beta`, else the
    student does (DAgger, Ross et al. 2011); a share `exploration` of the actions is random. Both carry
    their memory along every step, whoever acts, and begin anew with each episode.

    Args:
        env: Made by `make_env`.
        teacher: Labels, and acts where beta says so.
        student: Acts elsewhere; None: the teacher always does.
        steps: Steps `T` of each environment.
        beta: Probability that the teacher acts.
        exploration: Probability of a random action.
        seed: Entropy of everything random here, the episodes' seeds included.
        layer: Name of the teacher's layer to keep.
        advance: Called with the number of steps taken, over all environments.

    Raises:
        KDError: The environment failed, or the teacher answered NaN or has no such layer.
    """
    rng = np.random.default_rng(np.random.SeedSequence(list(seed)))
    observations = start(env, episode_seeds(int(rng.integers(2**63))))
    chance = batch_space(env.action_space, env.num_envs)
    chance.seed(int(rng.integers(2**31)))
    starts = np.ones(env.num_envs, bool)
    rows: list[dict[str, Any]] = []
    recalled: State = None
    memory: State = None
    for step in range(steps):
        label = teacher(observations, recalled, starts)
        params, recalled = label.params.numpy(), label.state
        driver = _drivers(rng, env.num_envs, beta if student else 1.0, exploration)
        actions = teacher.head.spec.greedy(params)
        if student and (student.recurrent or (driver == STUDENT).any()):
            chosen, memory = student.step_batch(observations, memory, starts)
            _overwrite(actions, driver == STUDENT, student.graph.head.greedy(chosen))
        if (driver == CHANCE).any():
            _overwrite(actions, driver == CHANCE, np.asarray(chance.sample()))
        row = {"obs": observations, "params": params, "driver": driver, "episode_start": starts, **_more(label, layer)}
        following, rewards, starts, _ = env.step(actions)
        rows.append({**row, "reward": rewards})
        observations = as_mapping(following)
        advance((step + 1) * env.num_envs)
    return _stack(rows)


def episode_seeds(entropy: int) -> Iterator[int]:
    """An endless stream of episode seeds."""
    rng = np.random.default_rng(entropy)
    while True:
        yield int(rng.integers(2**31))


def aggregate(rollouts: Sequence[Rollout]) -> dict[str, Array]:
    """The arrays of all rollouts, `Rollout.arrays`, state by state `[S, ...]`: DAgger's data set."""
    flat = [{k: x.reshape(-1, *x.shape[2:]) for k, x in rollout.arrays().items()} for rollout in rollouts]
    return {name: np.concatenate([arrays[name] for arrays in flat]) for name in flat[0]}


def _more(label: PolicyOutput, layer: str | None) -> dict[str, Array]:
    """What else of the teacher's answer is kept."""
    kept = {} if label.value is None else {"value": label.value.numpy()}
    return kept if layer is None else {**kept, "layer": label.layer(layer, "the teacher").numpy()}


def _drivers(rng: np.random.Generator, n: int, beta: float, exploration: float) -> Array:
    driver = np.where(rng.random(n) < beta, TEACHER, STUDENT)
    return np.where(rng.random(n) < exploration, CHANCE, driver).astype(np.int8)


def _overwrite(actions: Array, where: Array, other: Array) -> None:
    actions[where] = other[where]


def _stack(rows: Sequence[Mapping[str, Any]]) -> Rollout:
    obs = {key: np.stack([row["obs"][key] for row in rows]) for key in rows[0]["obs"]}
    rest = {name: np.stack([row[name] for row in rows]) for name in rows[0] if name != "obs"}
    return Rollout(obs, weight=np.ones(rest["driver"].shape, np.float32), **rest)
