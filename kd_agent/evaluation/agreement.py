"""How close a student is to its teacher on the states that it visits."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from kd_agent.environments import Recipe
from kd_agent.environments.vector import make_env
from kd_agent.networks import Teacher
from kd_agent.policies import Array, HeadSpec, Policy
from kd_agent.rollouts import Rollout, collect

STATES = 10_000
_N_ENVS = 16


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


def closeness(teacher: Teacher, student: Policy, recipe: Recipe, seed: int = 0) -> Closeness:
    """KL and agreement on about `STATES` states of episodes that the student plays."""
    env = make_env(recipe, _N_ENVS)
    rollout = collect(env, teacher, student, steps=STATES // _N_ENVS, beta=0.0, seed=(seed,))
    env.close()
    return along(teacher, student, rollout)


def along(teacher: Teacher, student: Policy, rollout: Rollout) -> Closeness:
    """KL and agreement on the states of a rollout."""
    head = teacher.head
    p = torch.from_numpy(rollout.params.reshape(-1, head.num_params))
    q = torch.from_numpy(follow(student, rollout).reshape(-1, head.num_params))
    return Closeness(
        kl=float(head.kl(p, q).mean()),
        kl_uniform=float(head.kl(p, head.uniform(len(p))).mean()),
        agreement=float(np.mean(agree(head.spec, p.numpy(), q.numpy()))),
    )


def follow(student: Policy, rollout: Rollout) -> Array:
    """What a student says, `[T, N, P]`, along the states of a rollout."""
    memory: Any = None
    rows = []
    for step, starts in enumerate(rollout.episode_start):
        row, memory = student.step_batch({key: x[step] for key, x in rollout.obs.items()}, memory, starts)
        rows.append(row)
    return np.stack(rows)


def agree(spec: HeadSpec, p: Array, q: Array) -> Array:
    """`[B]`, where the greedy actions of two rows agree (Box: every part within 5 % of its range)."""
    first, second = (spec.greedy(row).reshape(len(row), -1) for row in (p, q))
    if not spec.is_gaussian:
        return np.asarray((first == second).all(-1))
    width = np.asarray(spec.high) - np.asarray(spec.low)
    tolerance = 0.05 * np.where(np.isfinite(width), width, 2.0)
    return np.asarray((np.abs(first - second) <= tolerance).all(-1))
