"""What a policy looks at.

Saliency is permutation importance (Breiman 2001; Fisher, Rudin and Dominici 2019) with the policy's own row in the
place of a label: how far, in nats, the row moves when a feature is exchanged among the visited states. Patches of
images are covered with what is typical of them instead (occlusion, Zeiler and Fergus 2014). A policy with a memory
keeps the memory of what really happened: only what it reads of the present observation is measured.

Letters: `S` states, `F` features, `R` resamples, `P` head parameters.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.stats import rankdata, spearmanr

from kd_agent.evaluation import agree
from kd_agent.explanations.features import Feature
from kd_agent.explanations.visited_states import Reading, VisitedStates, typical
from kd_agent.networks import ActionHead
from kd_agent.policies import Array
from kd_agent.runs import Advance

REPEATS = 5
"""Permutations of each feature."""
IMAGE_STATES = 500
"""States on which patches of images are covered: a policy is asked 64 times about each."""
_RESAMPLES = 2000
"""Of a bootstrap: 50 of them lie beyond each end of a 95 % interval."""

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


def effects(
    reading: Reading,
    head: ActionHead,
    features: Sequence[Feature],
    visited: VisitedStates,
    at: Array,
    *,
    seed: int = 0,
    advance: Advance = lambda done, **figures: None,
) -> tuple[Array, Array]:
    """What happens to a policy's rows without each feature.

    Args:
        reading: The policy.
        head: Its action head.
        features: The features `F`.
        visited: The states.
        at: Indices `[n]` of those that are measured.
        seed: Seed of the permutations.
        advance: Called with the number of features done.

    Returns:
        KL from the row to that without the feature, and whether the greedy action is another, each `[F, n]`: means over
        `REPEATS` permutations. A feature that the policy does not see has 0.
    """
    own = {key: array[at] for key, array in visited.observations.items()}
    rows = reading.ask(own, at)
    kl = np.zeros((len(features), len(at)))
    changed = np.zeros((len(features), len(at)))
    for index, feature in enumerate(features):
        if feature.key in reading.keys:
            # Seeded by the feature: every policy has the same permutations, whatever else each of them sees.
            rng = np.random.default_rng([seed, index])
            replacements = _replacements(feature, visited, own, rng)
            for values in replacements:
                without = reading.ask(feature.replaced(own, values), at)
                kl[index] += divergence(head, rows, without) / len(replacements)
                changed[index] += ~agree(head.spec, rows, without) / len(replacements)
        advance(index + 1)
    return kl, changed


def saliency(kl: Array, changed: Array, episode: Array, seed: int = 0) -> list[Saliency]:
    """Means over the states of `effects`, with intervals.

    Args:
        kl: KL without each feature `[F, n]`, in nats.
        changed: Whether the greedy action is another without it `[F, n]`.
        episode: Number of each state's episode `[n]`.
        seed: Seed of the bootstrap.
    """
    drawn = bootstrap_ratios(kl, np.ones(len(episode)), episode, seed)
    low, high = np.percentile(drawn, [2.5, 97.5], axis=0).tolist()
    found = []
    for index, mean in enumerate(kl.mean(1).tolist()):
        share = float(changed[index].mean())
        found.append(Saliency(mean, (low[index], high[index]), share))
    return found


def rank_correlation(first: Array, second: Array, episode: Array, seed: int = 0) -> tuple[float, Interval] | None:
    """Spearman's rank correlation of two policies' saliencies and its 95 % interval, a bootstrap over episodes.

    Args:
        first: KL `[F, n]` of the features that both see.
        second: The other policy's.
        episode: Number of each state's episode `[n]`.
        seed: Seed of the bootstrap.

    Returns:
        None where there are fewer than three features, or all are equal to one of the policies.
    """
    # Two features have no order but one and its reverse.
    if len(first) < 3:
        return None
    means = first.mean(1), second.mean(1)
    if np.ptp(means[0]) == 0 or np.ptp(means[1]) == 0:
        return None
    a = _centred_ranks(first, episode, seed)
    b = _centred_ranks(second, episode, seed)
    # Spearman's coefficient is Pearson's of the ranks, here of all resamples at once.
    scale = np.sqrt((a * a).sum(1) * (b * b).sum(1))
    # In a resample too all features may be equal.
    defined = scale > 0
    correlation = (a * b).sum(1)[defined] / scale[defined]
    low, high = np.percentile(correlation, [2.5, 97.5])
    return float(spearmanr(*means).statistic), (float(low), float(high))


def divergence(head: ActionHead, p: Array, q: Array) -> Array:
    """`KL(p || q)` `[B]`, in nats.

    Args:
        head: The action head of both.
        p: Rows `[B, P]`.
        q: Rows `[B, P]`.
    """
    return np.asarray(head.kl(torch.from_numpy(p), torch.from_numpy(q)).double())


def bootstrap_ratios(part: Array, whole: Array, episode: Array, seed: int) -> Array:
    """`sum(part) / sum(whole)` of episodes drawn with replacement, `[R, F]`.

    Episodes are drawn rather than states, which are alike within one: an interval from states would be too narrow.

    Args:
        part: Of each state and feature, `[F, n]`.
        whole: Of each state, `[n]`.
        episode: Number of each state's episode `[n]`.
        seed: Seed of the draws.
    """
    _, number = np.unique(episode, return_inverse=True)
    n = int(number.max()) + 1
    sums = np.stack([np.bincount(number, weights=row, minlength=n) for row in part], axis=1)
    totals = np.bincount(number, weights=whole)
    # How often each episode is drawn is all that sums depend on: `[R, n]` counts stand for R lists of episodes.
    times = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=_RESAMPLES)
    with np.errstate(invalid="ignore"):
        return np.asarray((times @ sums) / (times @ totals)[:, None])


def _replacements(
    feature: Feature, visited: VisitedStates, own: Mapping[str, Array], rng: np.random.Generator
) -> list[Array]:
    """What a feature is replaced by among the states whose observations are `own`, one time after the other."""
    if feature.cell:
        # Another state's patch would show what is not there; to cover it needs no chance, so that once is enough.
        return [typical(feature, visited)]
    values = feature.of(own)
    return [values[rng.permutation(len(values))] for _ in range(REPEATS)]


def _centred_ranks(kl: Array, episode: Array, seed: int) -> Array:
    """Ranks of the features less their mean, `[R, F]`, by their mean KL in each resample of the episodes."""
    # The same seed draws the same episodes for everybody, so that the comparison is a paired one.
    ranks = rankdata(bootstrap_ratios(kl, np.ones(len(episode)), episode, seed), axis=1)
    return np.asarray(ranks - ranks.mean(1, keepdims=True))
