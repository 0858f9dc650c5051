"""How closely a student agrees with its teacher on the states that it visits.

Letters: `T` steps, `N` environments, `B` batch, `P` head parameters, `M` flags of an action mask, `*A` shape of an
action.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from kd_agent.environments import Recipe
from kd_agent.environments.vector import make_env
from kd_agent.evaluation.statistics import Floats, bootstrap_interval
from kd_agent.networks import ActionHead, Teacher
from kd_agent.policies import Array, HeadSpec, Policy
from kd_agent.rollouts import Rollout
from kd_agent.rollouts.whole_episodes import Answers, play_whole_episodes
from kd_agent.runs.seeds import seed_of

EPISODES = 32
"""Whole episodes on which agreement is measured, at least."""
STATES = 10_000
"""States in them, at least: where episodes are short, more are played."""
TOLERANCE = 0.05
"""Share of its range by which two values of a Box's part may differ and still count as the same action."""
_N_ENVS = 16
_AT_ONCE = 5_000_000
"""Numbers drawn at once: all resamples of 10,000 episodes would take gigabytes."""


@dataclass(frozen=True)
class Agreement:
    """How close two policies are on the same states.

    Attributes:
        kl: Mean forward KL from teacher to student, in nats.
        kl_uniform: The same for the least informed policy, the yardstick (which knows what is allowed).
        agreement: Share of states with the same greedy action (Box: every part within `TOLERANCE` of its range).
    """

    kl: float
    kl_uniform: float
    agreement: float


@dataclass(frozen=True)
class EpisodesAgreement(Agreement):
    """How close they are on whole episodes, with 95 % intervals over those: states of one episode are alike.

    What happens in one of a hundred episodes is mostly in none of these, and then in no interval either.

    Attributes:
        kl_ci: Interval of `kl`.
        agreement_ci: Interval of `agreement`.
        agreement_tolerance: Of continuous actions, `TOLERANCE`; None of others, which are equal or not.
        mean_abs_difference: Mean absolute difference of two continuous actions over their parts, in the
            environment's units; None of others.
        agreement_episodes: Number of episodes.
        agreement_states: Number of their states.
        agreement_steps: Steps that environments took for it.
    """

    kl_ci: tuple[float, float]
    agreement_ci: tuple[float, float]
    agreement_tolerance: float | None
    mean_abs_difference: float | None
    agreement_episodes: int
    agreement_states: int
    agreement_steps: int

    def figures(self) -> dict[str, Any]:
        """All of them by name, as JSON has them."""
        return {**vars(self), "kl_ci": list(self.kl_ci), "agreement_ci": list(self.agreement_ci)}


def measure_agreement(
    teacher: Teacher, student: Policy, recipe: Recipe, seed: int = 0, *, deterministic: bool = True
) -> EpisodesAgreement:
    """KL and agreement on whole episodes that the student plays: `EPISODES` and `STATES` at least.

    Every state counts alike, and so a long episode more than a short one.

    Args:
        teacher: Who labels them.
        student: Who plays.
        recipe: Where.
        seed: Of the episodes.
        deterministic: Whether it plays greedily, rather than by samples.

    Raises:
        KDError: The environment failed or tells no masks that are needed, or the teacher answered NaN.
    """
    env = make_env(recipe, _N_ENVS)
    # 30 bits: what counts up from there stays among the 31 that environments take.
    first_seed = seed_of(seed, "agreement") >> 33
    try:
        said = play_whole_episodes(
            env,
            teacher,
            student,
            first_seed=first_seed,
            episodes=EPISODES,
            states=STATES,
            deterministic=deterministic,
        )
    finally:
        env.close()
    return agreement_of(teacher.head, said)


def agreement_of(head: ActionHead, said: Answers) -> EpisodesAgreement:
    """KL and agreement of what two policies say in the states of whole episodes.

    Args:
        head: The head of both.
        said: What they say.
    """
    kl, kl_uniform, same = _by_state(head, said.teacher, said.student, said.mask)
    continuous = head.spec.is_gaussian
    return EpisodesAgreement(
        kl=float(kl.mean()),
        kl_uniform=float(kl_uniform.mean()),
        agreement=float(same.mean()),
        kl_ci=_interval_over_episodes(kl, said.episode),
        agreement_ci=_interval_over_episodes(same, said.episode),
        agreement_tolerance=TOLERANCE if continuous else None,
        mean_abs_difference=_mean_abs_difference(head.spec, said.teacher, said.student) if continuous else None,
        agreement_episodes=len(np.unique(said.episode)),
        agreement_states=len(said.episode),
        agreement_steps=said.steps,
    )


def agreement_on(teacher: Teacher, student: Policy, rollout: Rollout) -> Agreement:
    """KL and agreement on the states of a rollout.

    Args:
        teacher: Whose head the rows have.
        student: Who is asked about the states.
        rollout: States with the teacher's rows.
    """
    head = teacher.head
    p = rollout.params.reshape(-1, head.num_params)
    q = answers(student, rollout).reshape(-1, head.num_params)
    mask = None
    if rollout.mask is not None:
        mask = rollout.mask.reshape(-1, head.spec.num_masks)
    kl, kl_uniform, same = _by_state(head, p, q, mask)
    return Agreement(kl=float(kl.mean()), kl_uniform=float(kl_uniform.mean()), agreement=float(same.mean()))


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
    """Where the greedy actions of two policies agree, `[B]` (Box: every part within `TOLERANCE` of its range).

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
    allowed = TOLERANCE * np.where(np.isfinite(width), width, 2.0)
    return np.asarray((np.abs(first - second) <= allowed).all(-1))


def _by_state(head: ActionHead, teacher: Array, student: Array, mask: Array | None) -> tuple[Floats, Floats, Array]:
    """KL, KL of the uniform policy, and whether the actions agree, `[B]` each."""
    p = torch.from_numpy(teacher)
    q = torch.from_numpy(student)
    allowed = None if mask is None else torch.from_numpy(mask)
    uniform = head.masked(head.uniform(len(p)), allowed)
    kl = head.kl(p, q).double().numpy()
    kl_uniform = head.kl(p, uniform).double().numpy()
    return kl, kl_uniform, agree(head.spec, teacher, student)


def _interval_over_episodes(values: Array, episode: Array) -> tuple[float, float]:
    """95 % interval of the mean of all states' values `[B]`, a bootstrap over episodes."""
    # Pairs of an episode's sum and length: what is drawn is an episode with all its states.
    pairs = np.bincount(episode, weights=values), np.bincount(episode)
    return bootstrap_interval(pairs, _ratio, batch=max(1, _AT_ONCE // len(pairs[0])))


def _ratio(sums: Floats, lengths: Array, axis: int = -1) -> Floats:
    return np.asarray(sums.sum(axis) / lengths.sum(axis))


def _mean_abs_difference(spec: HeadSpec, p: Array, q: Array) -> float:
    return float(np.abs(spec.greedy(p) - spec.greedy(q)).mean(dtype=np.float64))
