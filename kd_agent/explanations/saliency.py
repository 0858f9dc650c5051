"""What a policy looks at, and where two policies disagree and why.

Saliency is permutation importance (Breiman 2001; Fisher, Rudin and Dominici 2019) with the policy's own row in the
place of a label: how far, in nats, the row moves when a feature is exchanged among the visited states. Patches of
images are covered with what is typical of them instead (occlusion, Zeiler and Fergus 2014). A policy with a memory
keeps the memory of what really happened: only what it reads of the present observation is measured.

Letters: `S` states, `F` features, `R` resamples, `P` head parameters.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.stats import rankdata, spearmanr

from kd_agent.evaluation import agree
from kd_agent.explanations.features import Feature
from kd_agent.explanations.visited_states import Reading, Visited, typical
from kd_agent.networks import ActionHead
from kd_agent.policies import Array
from kd_agent.runs import Advance

REPEATS = 5
"""Permutations of each feature."""
NEAR_TIE = 0.1
"""A decision whose two best actions differ by less in probability."""
IMAGE_STATES = 500
"""States on which patches of images are covered."""
_RESAMPLES = 2000

Interval = tuple[float, float]


@dataclass(frozen=True)
class Saliency:
    """What a feature means to a policy.

    Attributes:
        kl: Mean KL from the policy's row to its row without the feature, in nats.
        kl_ci: 95 % interval, a bootstrap over episodes.
        changed: Share of states whose greedy action is another without it.
    """

    kl: float
    kl_ci: Interval
    changed: float


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


def effects(
    reading: Reading, head: ActionHead, features: Sequence[Feature], visited: Visited, at: Array, *,
    seed: int = 0, advance: Advance = lambda done, **figures: None,
) -> tuple[Array, Array]:  # fmt: skip
    """What happens to the rows of the states `at [n]` without each feature.

    Returns:
        KL from the row to that without the feature, and whether the greedy action is another, each `[F, n]`: means over
        `REPEATS` permutations. A feature that the policy does not see has 0.
    """
    own = {key: array[at] for key, array in visited.observations.items()}
    rows = reading.ask(own, at)
    kl, changed = np.zeros((len(features), len(at))), np.zeros((len(features), len(at)))
    for index, feature in enumerate(features):
        rng = np.random.default_rng([seed, index])
        repeats = 1 if feature.cell else REPEATS
        for _ in range(repeats if feature.key in reading.keys else 0):
            values = typical(feature, visited) if feature.cell else feature.of(own)[rng.permutation(len(at))]
            without = reading.ask(feature.replaced(own, values), at)
            kl[index] += divergence(head, rows, without) / repeats
            changed[index] += ~agree(head.spec, rows, without) / repeats
        advance(index + 1)
    return kl, changed


def saliency(kl: Array, changed: Array, episode: Array, seed: int = 0) -> list[Saliency]:
    """Means over the states of `effects`, with intervals; `episode [n]` is the number of each state's."""
    drawn = _resampled(kl, np.ones(len(episode)), episode, seed)
    low, high = np.percentile(drawn, [2.5, 97.5], axis=0)
    return [
        Saliency(float(mean), (float(a), float(b)), float(share))
        for mean, a, b, share in zip(kl.mean(1), low, high, changed.mean(1), strict=True)
    ]


def rank_correlation(first: Array, second: Array, episode: Array, seed: int = 0) -> tuple[float, Interval] | None:
    """Spearman's rank correlation of two policies' saliencies and its 95 % interval, a bootstrap over episodes.

    Args:
        first: KL `[F, n]` of the features that both see.
        second: The other policy's.
        episode: Number of each state's episode `[n]`.
        seed: Of the bootstrap.

    Returns:
        None where there are fewer than three features, or all are equal to one of the policies.
    """
    means = first.mean(1), second.mean(1)
    if len(first) < 3 or min(np.ptp(mean) for mean in means) == 0:
        return None
    ranks = [rankdata(_resampled(kl, np.ones(len(episode)), episode, seed), axis=1) for kl in (first, second)]
    a, b = (x - x.mean(1, keepdims=True) for x in ranks)
    scale = np.sqrt((a * a).sum(1) * (b * b).sum(1))
    low, high = np.percentile((a * b).sum(1)[scale > 0] / scale[scale > 0], [2.5, 97.5])
    return float(spearmanr(*means).statistic), (float(low), float(high))


def near_ties(gap: Array, kl: Array, differs: Array, episode: Array, seed: int = 0) -> NearTies:
    """How much of KL and disagreement, each `[S]`, lies in states of a small decision gap."""
    tie = gap < NEAR_TIE
    states, states_ci = _share(tie, np.ones(len(tie)), episode, seed)
    assert states is not None, "there are states"
    assert states_ci is not None, "there are states"
    shares = (*_share(tie * kl, kl, episode, seed), *_share(tie & differs, differs, episode, seed))
    return NearTies(states, states_ci, *shares, int(differs.sum()))


def disagreements(
    teacher: Reading, student: Reading, head: ActionHead, features: Sequence[Feature], visited: Visited, *, top: int
) -> list[Disagreement]:
    """The `top` states of the largest KL from teacher to student, and the feature that each is about."""
    kl = divergence(head, teacher.rows, student.rows)
    at = np.argsort(-kl, kind="stable")[:top]
    own = {key: array[at] for key, array in visited.observations.items()}
    replacement = [typical(feature, visited) for feature in features]
    without = np.stack([
        divergence(head, teacher.ask(changed, at), student.ask(changed, at))
        for changed in (f.replaced(own, value) for f, value in zip(features, replacement, strict=True))
    ])  # fmt: skip
    why = without.argmin(0)
    gap = decision_gap(head, teacher.rows[at], student.rows[at])
    differs = ~agree(head.spec, teacher.rows[at], student.rows[at])
    deciders = [_decisions(head, reading.rows[at]) for reading in (teacher, student)]
    numbers = {f.name: f.of(own) for f in features if f.cell is None}
    found = []
    for i, (state, index) in enumerate(zip(at, why, strict=True)):
        number = features[index].cell is None
        found.append(Disagreement(
            int(visited.seed[state]), int(visited.step[state]),
            {name: float(values[i]) for name, values in numbers.items()},
            float(kl[state]), None if gap is None else float(gap[i]), bool(differs[i]), deciders[0][i], deciders[1][i],
            features[index].name, float(features[index].of(own)[i]) if number else None,
            float(replacement[index]) if number else None, float(without[index, i]),
        ))  # fmt: skip
    return found


def decision_gap(head: ActionHead, teacher: Array, student: Array) -> Array | None:
    """How clear the teacher's decisions are `[S]`, as `Disagreement.gap` has it; None for a Box."""
    if head.spec.is_gaussian:
        return None
    pairs = zip(*(head.log_probabilities(torch.from_numpy(rows)) for rows in (teacher, student)), strict=True)
    choices = [(p.exp(), p.argmax(-1) != q.argmax(-1)) for p, q in pairs if p.shape[-1] > 1]
    if not choices:
        return np.ones(len(teacher))
    gaps = np.stack([-np.diff(p.topk(2).values.numpy())[:, 0] for p, _ in choices])
    differs = np.stack([part.numpy() for _, part in choices])
    return np.asarray(np.where(differs.any(0), np.where(differs, gaps, -1).max(0), gaps.min(0)))


def divergence(head: ActionHead, p: Array, q: Array) -> Array:
    """`KL(p || q)` `[S]` of rows, in nats."""
    return np.asarray(head.kl(torch.from_numpy(p), torch.from_numpy(q)).double())


def _decisions(head: ActionHead, rows: Array) -> list[Decision]:
    actions = head.spec.greedy(rows)
    if head.spec.is_gaussian:
        mean, log_std = head.mean_log_std(torch.from_numpy(rows))
        shown = torch.cat([mean, log_std.exp()], -1).numpy()
    else:
        shown = head.spec.probabilities(rows)
    return [Decision(action.tolist(), row.tolist()) for action, row in zip(actions, shown, strict=True)]


def _share(part: Array, whole: Array, episode: Array, seed: int) -> tuple[float | None, Interval | None]:
    """`sum(part) / sum(whole)` of arrays `[S]` and its interval; None where the whole is nothing."""
    if not whole.sum() > 0:
        return None, None
    low, high = np.nanpercentile(_resampled(part[None], whole, episode, seed), [2.5, 97.5])
    return float(part.sum() / whole.sum()), (float(low), float(high))


def _resampled(part: Array, whole: Array, episode: Array, seed: int) -> Array:
    """`sum(part) / sum(whole)` of episodes drawn with replacement, `[R, F]`, from `part [F, n]` and `whole [n]`."""
    _, number = np.unique(episode, return_inverse=True)
    n = int(number.max()) + 1
    sums = np.stack([np.bincount(number, weights=row, minlength=n) for row in part], axis=1)
    drawn = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=_RESAMPLES)
    with np.errstate(invalid="ignore"):
        return np.asarray((drawn @ sums) / (drawn @ np.bincount(number, weights=whole))[:, None])
