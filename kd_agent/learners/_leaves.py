"""What the leaves of a tree say: means, winners, logits, and what a mistake in a state would cost.

Letters: `S` states, `L` leaves, `C` columns, `P` head parameters, `M` flags of an action mask.
"""

from collections.abc import Sequence

import numpy as np

from kd_agent.networks import ActionHead, Softening
from kd_agent.policies import Array, HeadSpec

CERTAIN = 1e-12
"""Probabilities are kept as far from 0 and 1, and weights from 0: a logarithm of none, and a state of no weight."""
_EDGE = 1e-2
"""By how much a leaf's logit is made the largest where the mean distribution has another mode."""


def decision_gaps(head: HeadSpec, params: Array, mask: Array | None = None) -> Array:
    """What acting wrongly costs in each state, `l(s) = V(s) - min_a Q(s, a)`, `[S]`.

    Value-based teachers' rows are their Q. For the others Q is the log-probability, as the paper has it for
    policy gradients (it is so, up to a constant, for a policy of maximum entropy); several parts of an
    action are independent, so that theirs add up.

    Args:
        head: The teacher's.
        params: Its rows `[S, P]`.
        mask: What was allowed, flags `[S, M]`; what was not is no mistake that could be made.
    """
    if head.kind == "bernoulli":
        # A logit is the difference between pressed and not pressed.
        pressed = np.abs(params)
        if mask is not None:
            pressed = np.where(head.open_columns(mask), pressed, 0)
        return np.asarray(pressed.sum(axis=1))
    lowest = params if mask is None else np.where(mask, params, np.inf)
    gaps = []
    for part, least in zip(head.split(params), head.split(lowest), strict=True):
        best = part.max(axis=1)
        # Where nothing is allowed the least is infinite, and there is no gap either.
        gaps.append(best - np.minimum(least.min(axis=1), best))
    return np.asarray(np.sum(gaps, axis=0))


def means(leaf: Array, columns: Array, weight: Array) -> Array:
    """Weighted mean in each leaf of `columns [S, C]`, `[L, C]`.

    Args:
        leaf: The leaf of each state, `[S]`.
        columns: What is averaged.
        weight: Of each state, `[S]`.
    """
    sums = np.stack([np.bincount(leaf, weight * column) for column in columns.T], axis=1)
    return np.asarray(sums / np.bincount(leaf, weight)[:, None])


def allowed_means(leaf: Array, probabilities: Array, weight: Array, is_open: Array) -> Array:
    """As `means`, each column over the states alone that leave it open, `[L, P]`; of all leaves where none in it does.

    An action that is seldom allowed and always taken then is a good one: its mean over all states would hide that.

    Args:
        leaf: The leaf of each state, `[S]`.
        probabilities: `[S, P]`.
        weight: Of each state, `[S]`.
        is_open: Flags `[S, P]`, `HeadSpec.open_columns`.
    """
    count = leaf.max() + 1
    columns = []
    for probability, flags in zip(probabilities.T, is_open.T, strict=True):
        counted = weight * flags
        everywhere = counted @ probability / max(counted.sum(), CERTAIN)
        total = np.bincount(leaf, counted, count)
        own = np.bincount(leaf, counted * probability, count) / np.maximum(total, CERTAIN)
        columns.append(np.where(total > 0, own, everywhere))
    return np.stack(columns, axis=1)


def winners(leaf: Array, actions: Array, cost: Array, nvec: Sequence[int]) -> Array:
    """The category of each part that has the most weight in a leaf, `[L, parts]`.

    Args:
        leaf: The leaf of each state, `[S]`.
        actions: The categories `[S, parts]`, counted from 0.
        cost: Weight of each state, `[S]`.
        nvec: How many categories each part has.
    """
    count = leaf.max() + 1
    chosen: list[Array] = []
    for part, n in zip(actions.T, nvec, strict=True):
        votes = [np.bincount(leaf, cost * (part == category), count) for category in range(n)]
        chosen.append(np.argmax(votes, axis=0))
    return np.stack(chosen, axis=1)


def leaf_logits(head: ActionHead, probabilities: Array, softening: Softening) -> Array:
    """Logits `[L, P]` of these probabilities, once softened, if the convention softens the student too.

    Args:
        head: The head of both.
        probabilities: `[L, P]`, laid out as a row.
        softening: Temperature and convention.
    """
    p = np.clip(probabilities, CERTAIN, 1 - CERTAIN)
    logits = np.log(p)
    if head.kind == "bernoulli":
        logits = logits - np.log1p(-p)
    if softening.convention == "hinton":
        # There the student is softened too, and what it says softened is what has been averaged.
        logits = logits * softening.temperature
    return np.asarray(logits)


def with_modes(head: HeadSpec, logits: Array, modes: Array) -> Array:
    """Logits `[L, P]` whose greedy action is the one asked for: where it is another, that category's is raised.

    Args:
        head: The teacher's.
        logits: `[L, P]`.
        modes: The categories `[L, parts]`, counted from 0.
    """
    logits = logits.copy()
    rows = np.arange(len(logits))
    if head.kind == "bernoulli":
        pressed = modes > 0
        barely = np.where(pressed, _EDGE, -_EDGE)
        return np.where((logits > 0) == pressed, logits, barely)
    # The parts are views: what is written into them is in `logits`.
    for part, mode in zip(head.split(logits), modes.T, strict=True):
        wrong = part.argmax(axis=1) != mode
        part[rows[wrong], mode[wrong]] = part.max(axis=1)[wrong] + _EDGE
    return logits
