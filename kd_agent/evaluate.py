"""Evaluation: whole episodes on given seeds, the same for everybody who is compared."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Protocol

import numpy as np
import torch
from gymnasium.vector.utils import batch_space
from torch import Tensor

from kd_agent.environments import Recipe, make_env, start
from kd_agent.errors import KDError
from kd_agent.graph import OBSERVATION
from kd_agent.head import Array, HeadSpec
from kd_agent.policy import State, Teacher
from kd_agent.progress import Advance
from kd_agent.runtime import Policy
from kd_agent.spaces import as_mapping

N_ENVS = 16
KEPT_STATES = 10_000
_KEEP_EVERY = 8


class Predicts(Protocol):
    """Anything with Stable-Baselines3's `predict`: a student, a teacher, an SB3 model."""

    def predict(
        self, observation: Any, state: Any = None, episode_start: Any = None, deterministic: bool = False
    ) -> tuple[Array, Any]:
        """Actions and the next state."""


@dataclass(frozen=True)
class Evaluation:
    """Episodes played.

    Attributes:
        returns: Return of each episode, in the order of the seeds.
        lengths: Steps of each.
        states: Up to `KEPT_STATES` of the observations visited `[S, *O]`, by key.
        starts: `[T, N]`, where asked for: the states are then `T` steps on end of `N` environments, and
            this says which of them begin an episode.
    """

    returns: Array
    lengths: Array
    states: Mapping[str, Array] = field(default_factory=dict)
    starts: Array | None = None


@dataclass(frozen=True)
class Closeness:
    """How close two policies are on the same states.

    Attributes:
        kl: Mean forward KL from teacher to student, in nats.
        kl_uniform: The same for the least informed policy, the yardstick.
        agreement: Share of states with the same greedy action (Box: every part within 5 % of its range).
    """

    kl: float
    kl_uniform: float
    agreement: float


def evaluate(
    policy: Predicts | None,
    env: str | Recipe,
    *,
    seeds: Iterable[int],
    env_kwargs: Mapping[str, Any] | None = None,
    deterministic: bool = True,
    in_sequence: bool = False,
    advance: Advance = lambda done, **figures: None,
) -> Evaluation:
    """Play one episode a seed.

    Args:
        policy: Who plays; None: uniformly random actions.
        env: Gymnasium id, or a recipe.
        seeds: Seed of each episode.
        env_kwargs: The environment's keyword arguments.
        deterministic: Greedy actions rather than samples.
        in_sequence: Keep the first states on end rather than a sample of all (for policies with a memory).
        advance: Called with the number of finished episodes.

    Raises:
        KDError: The environment is unknown or failed, or the policy does not fit it.
    """
    wanted = list(seeds)
    if not wanted or len(set(wanted)) != len(wanted):
        raise KDError("an evaluation needs at least one seed, and each seed once")
    venv = make_env(env, min(N_ENVS, len(wanted)), env_kwargs)
    if policy is None:
        policy = _Chance(batch_space(venv.action_space, venv.num_envs), wanted[0])
    found: dict[int, tuple[float, int]] = {}
    states: list[Mapping[str, Array]] = []
    begun: list[Array] = []
    room = max(1, KEPT_STATES // venv.num_envs)
    observations = start(venv, iter(wanted))
    memory, starts, step, every = None, np.ones(venv.num_envs, bool), 0, _KEEP_EVERY
    try:
        while len(found) < len(wanted):
            if len(states) < room if in_sequence else step % every == 0:
                states.append(observations)
                begun.append(starts)
            if len(states) > 2 * room:
                states, every = states[::2], 2 * every
            given: Any = observations[OBSERVATION] if list(observations) == [OBSERVATION] else observations
            actions, memory = policy.predict(given, memory, starts, deterministic)
            following, _, starts, infos = venv.step(actions)
            observations, step = as_mapping(following), step + 1
            ended = [info[key] for info in infos for key in ("episode", "last_episode") if key in info]
            found |= {seed: (score, length) for seed, score, length in ended if seed is not None}
            advance(len(found))
    finally:
        venv.close()
    returns, lengths = zip(*(found[seed] for seed in wanted), strict=True)
    return Evaluation(np.array(returns), np.array(lengths), _thin(states), np.stack(begun) if in_sequence else None)


def closeness(
    teacher: Teacher, student: Policy, states: Mapping[str, Array], starts: Array | None = None
) -> Closeness:  # fmt: skip
    """KL and agreement on states.

    Args:
        teacher: Whom to compare with.
        student: Who is compared.
        states: `[S, *O]` by key.
        starts: `[T, N]`, `Evaluation.starts`: the states are played through in sequence; None: each state
            counts as the first of an episode, which is the same for policies without memory.
    """
    head = teacher.head
    p, q = _rows(teacher, student, states, np.ones((1, len(next(iter(states.values()))))) if starts is None else starts)
    return Closeness(
        kl=float(head.kl(p, q).mean()),
        kl_uniform=float(head.kl(p, head.uniform(len(p))).mean()),
        agreement=float(np.mean(agree(head.spec, p.numpy(), q.numpy()))),
    )


def _rows(teacher: Teacher, student: Policy, states: Mapping[str, Array], starts: Array) -> tuple[Tensor, Tensor]:
    """Both policies' rows `[T * N, P]`, each with its memory."""
    steps = {key: array.reshape(*starts.shape, *array.shape[1:]) for key, array in states.items()}
    recalled: State = None
    memory: State = None
    rows: tuple[list[Tensor], list[Array]] = ([], [])
    for step, begun in enumerate(starts):
        observations = {key: array[step] for key, array in steps.items()}
        label = teacher(observations, recalled, begun)
        params, memory = student.step_batch(observations, memory, begun)
        recalled = label.state
        rows[0].append(label.params)
        rows[1].append(params)
    return torch.cat(rows[0]), torch.from_numpy(np.concatenate(rows[1]))


def agree(spec: HeadSpec, p: Array, q: Array) -> Array:
    """`[B]`, where the greedy actions of two rows agree (Box: every part within 5 % of its range)."""
    first, second = (spec.greedy(row).reshape(len(row), -1) for row in (p, q))
    if not spec.is_gaussian:
        return np.asarray((first == second).all(-1))
    width = np.asarray(spec.high) - np.asarray(spec.low)
    tolerance = 0.05 * np.where(np.isfinite(width), width, 2.0)
    return np.asarray((np.abs(first - second) <= tolerance).all(-1))


class _Chance:
    """Uniformly random actions."""

    def __init__(self, space: Any, seed: int) -> None:
        self._space = space
        self._space.seed(seed)

    def predict(
        self, observation: Any, state: Any = None, episode_start: Any = None, deterministic: bool = False
    ) -> tuple[Array, Any]:
        return np.asarray(self._space.sample()), None


def _thin(states: list[Mapping[str, Array]]) -> dict[str, Array]:
    rows = sum(len(next(iter(s.values()))) for s in states)
    every = max(1, -(-rows // KEPT_STATES))
    return {key: np.concatenate([s[key] for s in islice(states, 0, None, every)]) for key in states[0]}
