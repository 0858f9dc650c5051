"""How closely a student agrees with its teacher on the states that it visits.

Letters: `T` steps, `N` environments, `B` batch, `P` head parameters.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from kd_agent.environments import Recipe
from kd_agent.environments.vector import make_env
from kd_agent.networks import Teacher
from kd_agent.policies import Array, HeadSpec, Policy
from kd_agent.rollouts import Rollout, collect
from kd_agent.runs import Costs
from kd_agent.runs.seeds import seed_of

STATES = 10_000
"""States on which agreement is measured: its standard error is half a per cent at most."""
_N_ENVS = 16
_TOLERANCE = 0.05
"""Share of a Box's range within which two actions are alike."""


@dataclass(frozen=True)
class Agreement:
    """How close two policies are on the same states.

    Attributes:
        kl: Mean forward KL from teacher to student, in nats.
        kl_uniform: The same for the least informed policy, the yardstick (which knows what is allowed).
        agreement: Share of states with the same greedy action (Box: every part within 5 % of its range).
    """

    kl: float
    kl_uniform: float
    agreement: float


def measure_agreement(
    teacher: Teacher, student: Policy, recipe: Recipe, seed: int = 0, costs: Costs | None = None
) -> Agreement:
    """KL and agreement on about `STATES` states of episodes that the student plays.

    Args:
        teacher: Who labels them.
        student: Who plays.
        recipe: Where.
        seed: Of the episodes.
        costs: Where the steps are booked; None: nowhere.
    """
    env = make_env(recipe, _N_ENVS)
    rollout = collect(env, teacher, student, steps=STATES // _N_ENVS, beta=0.0, seed=seed_of(seed, "agreement"))
    env.close()
    if costs:
        costs.add("agreement_steps", rollout.driver.size)
    return agreement_on(teacher, student, rollout)


def agreement_on(teacher: Teacher, student: Policy, rollout: Rollout) -> Agreement:
    """KL and agreement on the states of a rollout.

    Args:
        teacher: Whose head the rows have.
        student: Who is asked about the states.
        rollout: States with the teacher's rows.
    """
    head = teacher.head
    p = torch.from_numpy(rollout.params.reshape(-1, head.num_params))
    q = torch.from_numpy(answers(student, rollout).reshape(-1, head.num_params))
    mask = None
    if rollout.mask is not None:
        mask = torch.from_numpy(rollout.mask.reshape(-1, head.spec.num_masks))
    return Agreement(
        kl=float(head.kl(p, q).mean()),
        kl_uniform=float(head.kl(p, head.masked(head.uniform(len(p)), mask)).mean()),
        agreement=float(np.mean(agree(head.spec, p.numpy(), q.numpy()))),
    )


def answers(student: Policy, rollout: Rollout) -> Array:
    """What a student says, `[T, N, P]`, along the states of a rollout, its memory carried from step to step.

    Args:
        student: Who is asked.
        rollout: The states.
    """
    # Step by step, because a student with a memory answers by what came before; the episodes began where these do.
    memory: Any = None
    rows = []
    for step, starts in enumerate(rollout.episode_start):
        observations = {key: array[step] for key, array in rollout.obs.items()}
        allowed = None if rollout.mask is None else rollout.mask[step]
        row, memory = student.step_batch(observations, memory, starts, allowed)
        rows.append(row)
    return np.stack(rows)


def agree(spec: HeadSpec, p: Array, q: Array) -> Array:
    """Where the greedy actions of two policies agree, `[B]` (Box: every part within 5 % of its range).

    Args:
        spec: Head of both.
        p: Rows `[B, P]` of the one.
        q: Rows `[B, P]` of the other.
    """
    first = spec.greedy(p).reshape(len(p), -1)
    second = spec.greedy(q).reshape(len(q), -1)
    if not spec.is_gaussian:
        return np.asarray((first == second).all(-1))
    width = np.asarray(spec.high) - np.asarray(spec.low)
    # An unbounded part has no range: a unit Box's serves.
    tolerance = _TOLERANCE * np.where(np.isfinite(width), width, 2.0)
    return np.asarray((np.abs(first - second) <= tolerance).all(-1))
