"""Where two policies disagree and why, and how much of that lies in near-ties.

Letters: `S` states, `F` features, `P` head parameters.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from kd_agent.evaluation import agree
from kd_agent.explanations.features import Feature
from kd_agent.explanations.saliency import Interval, bootstrap_ratios, divergence
from kd_agent.explanations.visited_states import Reading, VisitedStates, typical
from kd_agent.networks import ActionHead
from kd_agent.policies import Array

NEAR_TIE = 0.1
"""A decision whose two best actions differ by less in probability."""


@dataclass(frozen=True)
class NearTies:
    """How much of the difference lies where the teacher hardly prefers its action, each with a 95 % interval.

    Attributes:
        states: Share of the states that are near-ties.
        kl: Share of the summed KL that lies in them.
        disagreements: Share of the states with different greedy actions that are near-ties (None: there are none).
        differing: Number of the states with different greedy actions.
    """

    states: float
    states_ci: Interval
    kl: float | None
    kl_ci: Interval | None
    disagreements: float | None
    disagreements_ci: Interval | None
    differing: int


@dataclass(frozen=True)
class Decision:
    """One policy in one state.

    Attributes:
        action: The greedy one, in the environment's units.
        distribution: Probabilities as laid out in a row, or the means followed by the standard deviations.
    """

    action: Any
    distribution: list[float]


@dataclass(frozen=True)
class Disagreement:
    """A state in which the policies differ.

    Attributes:
        seed: Seed of its episode.
        step: Decisions since that began.
        observation: Its numbers by name.
        kl: KL from teacher to student, in nats.
        gap: How clear the teacher's decision is: probability of its action less that of its second (several parts: of
            the clearest part in which the student decides otherwise, else of the least clear); None for a Box.
        differs: Whether the greedy actions are not the same (Box: a part differs by more than 5 % of its range).
        teacher: Its decision.
        student: Its decision.
        feature: The one whose replacement by what is typical lowers the KL most.
        value: Its value (None: a patch of an image).
        typical: Its replacement, the median of all states, or their most frequent category.
        kl_without: The KL after that.
    """

    seed: int
    step: int
    observation: dict[str, float]
    kl: float
    gap: float | None
    differs: bool
    teacher: Decision
    student: Decision
    feature: str
    value: float | None
    typical: float | None
    kl_without: float


def near_ties(gap: Array, kl: Array, differs: Array, episode: Array, seed: int = 0) -> NearTies:
    """How much of KL and disagreement lies in states of a small decision gap.

    Args:
        gap: How clear each of the teacher's decisions is `[S]`, a difference of probabilities.
        kl: KL from teacher to student `[S]`, in nats.
        differs: Whether the greedy actions are not the same `[S]`.
        episode: Number of each state's episode `[S]`.
        seed: Seed of the bootstrap.
    """
    tie = gap < NEAR_TIE
    states, states_ci = _share(tie, np.ones(len(tie)), episode, seed)
    of_kl, of_kl_ci = _share(tie * kl, kl, episode, seed)
    of_disagreements, of_disagreements_ci = _share(tie & differs, differs, episode, seed)
    assert states is not None, "there are states"
    assert states_ci is not None, "there are states"
    return NearTies(
        states,
        states_ci,
        kl=of_kl,
        kl_ci=of_kl_ci,
        disagreements=of_disagreements,
        disagreements_ci=of_disagreements_ci,
        differing=int(differs.sum()),
    )


def disagreements(
    teacher: Reading,
    student: Reading,
    head: ActionHead,
    features: Sequence[Feature],
    visited: VisitedStates,
    *,
    top: int,
) -> list[Disagreement]:
    """The states of the largest KL from teacher to student, and the feature that each is about.

    Args:
        teacher: What the teacher says.
        student: What the student says.
        head: The action head of both.
        features: The features of what either sees.
        visited: The states.
        top: How many are kept.
    """
    kl = divergence(head, teacher.rows, student.rows)
    # Stable, so that equals come in the order in which they were visited.
    at = np.argsort(-kl, kind="stable")[:top]
    kl_without = _kl_without(teacher, student, head, features, visited, at=at)
    reason = kl_without.argmin(0)
    gap = decision_gap(head, teacher.rows[at], student.rows[at])
    differs = ~agree(head.spec, teacher.rows[at], student.rows[at])
    by_teacher = _decisions(head, teacher.rows[at])
    by_student = _decisions(head, student.rows[at])
    own = {key: array[at] for key, array in visited.observations.items()}
    numbers = {feature.name: feature.of(own) for feature in features if feature.cell is None}
    found = []
    for i, (state, index) in enumerate(zip(at, reason, strict=True)):
        feature = features[index]
        is_number = feature.cell is None
        found.append(
            Disagreement(
                seed=int(visited.seed[state]),
                step=int(visited.step[state]),
                observation={name: float(values[i]) for name, values in numbers.items()},
                kl=float(kl[state]),
                gap=None if gap is None else float(gap[i]),
                differs=bool(differs[i]),
                teacher=by_teacher[i],
                student=by_student[i],
                feature=feature.name,
                value=float(feature.of(own)[i]) if is_number else None,
                typical=float(typical(feature, visited)) if is_number else None,
                kl_without=float(kl_without[index, i]),
            )
        )
    return found


def decision_gap(head: ActionHead, teacher: Array, student: Array) -> Array | None:
    """How clear the teacher's decisions are `[S]`, as `Disagreement.gap` has it; None for a Box.

    Args:
        head: The action head of both.
        teacher: The teacher's rows `[S, P]`.
        student: The student's rows `[S, P]`.
    """
    if head.spec.is_gaussian:
        return None
    gaps = []
    missed = []
    teacher_parts = head.log_probabilities(torch.from_numpy(teacher))
    student_parts = head.log_probabilities(torch.from_numpy(student))
    for p, q in zip(teacher_parts, student_parts, strict=True):
        # A part that has a single value decides nothing.
        if p.shape[-1] > 1:
            best, second = p.exp().topk(2).values.unbind(-1)
            gaps.append((best - second).numpy())
            missed.append((p.argmax(-1) != q.argmax(-1)).numpy())
    if not gaps:
        return np.ones(len(teacher))
    gap = np.stack(gaps)
    wrong = np.stack(missed)
    # No gap is negative, so that -1 leaves a part out of the maximum.
    clearest_missed = np.where(wrong, gap, -1).max(0)
    least_clear = gap.min(0)
    return np.asarray(np.where(wrong.any(0), clearest_missed, least_clear))


def _kl_without(
    teacher: Reading,
    student: Reading,
    head: ActionHead,
    features: Sequence[Feature],
    visited: VisitedStates,
    *,
    at: Array,
) -> Array:
    """KL from teacher to student `[F, n]` at the states `at [n]`, each feature replaced by what is typical of it."""
    own = {key: array[at] for key, array in visited.observations.items()}
    kl = []
    for feature in features:
        changed = feature.replaced(own, typical(feature, visited))
        kl.append(divergence(head, teacher.ask(changed, at), student.ask(changed, at)))
    return np.stack(kl)


def _decisions(head: ActionHead, rows: Array) -> list[Decision]:
    if head.spec.is_gaussian:
        mean, log_std = head.mean_log_std(torch.from_numpy(rows))
        shown = torch.cat([mean, log_std.exp()], -1).numpy()
    else:
        shown = head.spec.probabilities(rows)
    actions = head.spec.greedy(rows)
    return list(map(Decision, actions.tolist(), shown.tolist()))


def _share(part: Array, whole: Array, episode: Array, seed: int) -> tuple[float | None, Interval | None]:
    """`sum(part) / sum(whole)` of arrays `[S]` and its interval; None where the whole is nothing."""
    if not whole.sum() > 0:
        return None, None
    drawn = bootstrap_ratios(part[None], whole, episode, seed)
    # A resample may have no episode with anything in it; such a share is NaN and left out.
    low, high = np.nanpercentile(drawn, [2.5, 97.5])
    return float(part.sum() / whole.sum()), (float(low), float(high))
