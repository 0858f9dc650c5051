"""Scores: means, interquartile means, lower tails, and their bootstrap intervals.

IQM after Agarwal et al. 2021 (Deep RL at the Edge of the Statistical Precipice); the lower tail is the conditional
value at risk (Rockafellar and Uryasev 2000); intervals are percentile bootstraps over episodes (scipy.stats.bootstrap).
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import bootstrap, t, trim_mean

Floats = NDArray[np.float64]
TAIL = 0.1
"""The share of the episodes that the lower tail is the mean of: the worst tenth."""
WORST = 5
"""How many of the worst episodes are named by their seeds."""
_AT_ONCE = 1_000_000
"""Weights that are sorted at once."""
_RESAMPLES = 4999
"""One fewer than 5000: the limits at 2.5 and 97.5 % are then resamples (Davison and Hinkley 1997, section 5.2)."""


def iqm(returns: ArrayLike, axis: int = -1) -> Floats:
    """Interquartile mean: the mean of the middle half.

    Args:
        returns: `[..., n]`.
        axis: That of the `n`.
    """
    # A quarter is cut off at either end: robust to outliers, and less uncertain than the median.
    return np.asarray(trim_mean(np.asarray(returns, np.float64), 0.25, axis=axis))


def lower_tail(returns: ArrayLike) -> float:
    """Mean of the worst tenth of the episodes.

    Args:
        returns: `[n]`.
    """
    values = np.asarray(returns, np.float64)
    alike = np.full((1, len(values)), 1 / len(values))
    return float(weighted_tails(alike, values)[0])


def weighted_tails(weights: Floats, returns: Floats) -> Floats:
    """The lower tail of the same returns under many weights, `[S]`.

    Args:
        weights: `[S, n]`, each row sums to 1.
        returns: `[n]`.
    """
    worst_first = np.argsort(returns, kind="stable")
    tails = []
    # In parts: of several students' thousand episodes all weights at once take gigabytes.
    for part in np.array_split(weights, 1 + weights.size // _AT_ONCE):
        cumulated = np.cumsum(part[:, worst_first], axis=1)
        # Of the episode in which the worst tenth ends, only that part counts which lies in it.
        within = np.minimum(cumulated, TAIL)
        counted = np.diff(within, axis=1, prepend=0.0)
        tails.append(counted @ returns[worst_first] / TAIL)
    return np.concatenate(tails)


def mean_interval(returns: ArrayLike, level: float = 0.95, seed: int = 0) -> tuple[float, float]:
    """Bootstrap interval of a mean (the point itself where there is one value).

    Args:
        returns: `[n]`.
        level: Coverage.
        seed: Seed of the bootstrap.
    """
    return _interval(returns, np.mean, level, seed)


def iqm_interval(returns: ArrayLike, level: float = 0.95, seed: int = 0) -> tuple[float, float]:
    """Bootstrap interval of an interquartile mean (the point itself where there is one value).

    Args:
        returns: `[n]`.
        level: Coverage.
        seed: Seed of the bootstrap.
    """
    return _interval(returns, iqm, level, seed)


def _interval(returns: ArrayLike, statistic: Callable[..., Floats], level: float, seed: int) -> tuple[float, float]:
    values = np.asarray(returns, np.float64)
    if len(values) < 2 or np.ptp(values) == 0:
        point = float(statistic(values))
        return point, point
    return bootstrap_interval((values,), statistic, level=level, seed=seed)


def bootstrap_interval(
    samples: Sequence[NDArray[Any]],
    statistic: Callable[..., Floats],
    *,
    level: float = 0.95,
    seed: int = 0,
    batch: int | None = None,
) -> tuple[float, float]:
    """Percentile interval of a statistic, a bootstrap over episodes; several samples are drawn in pairs.

    Args:
        samples: Arrays `[n]` of the same episodes.
        statistic: Of such samples, along the keyword `axis`.
        level: Coverage.
        seed: Seed of the bootstrap.
        batch: Resamples that are drawn at once; None: all.
    """
    found = bootstrap(
        tuple(samples),
        statistic,
        paired=len(samples) > 1,
        n_resamples=_RESAMPLES,
        batch=batch,
        confidence_level=level,
        method="percentile",
        rng=np.random.default_rng(seed),
    )
    interval = found.confidence_interval
    return float(interval.low), float(interval.high)


def mean_difference_interval(first: ArrayLike, second: ArrayLike, level: float = 0.95) -> tuple[float, float]:
    """Interval of the second mean minus the first, of two samples that are not paired (Welch 1947).

    Args:
        first: `[n]`.
        second: `[m]`.
        level: Coverage.
    """
    one, other = np.asarray(first, np.float64), np.asarray(second, np.float64)
    difference = float(np.mean(other) - np.mean(one))
    if min(len(one), len(other)) < 2:
        return -np.inf, np.inf
    # Not by scipy.stats.ttest_ind, which warns of every sample whose values are all alike.
    squares = np.array([np.var(one, ddof=1) / len(one), np.var(other, ddof=1) / len(other)])
    if not squares.any():
        return difference, difference
    shares = squares / squares.sum()
    freedom = 1 / (shares[0] ** 2 / (len(one) - 1) + shares[1] ** 2 / (len(other) - 1))
    half = float(t(freedom).ppf((1 + level) / 2) * np.sqrt(squares.sum()))
    return difference - half, difference + half


def scores(returns: Sequence[float]) -> dict[str, Any]:
    """Returns in seed order and what they come to: mean and IQM with 95 % intervals, lower tail, median, minimum.

    Args:
        returns: `[n]`.
    """
    return {
        "returns": list(returns),
        "mean": float(np.mean(returns)),
        "mean_ci": list(mean_interval(returns)),
        "iqm": float(iqm(returns)),
        "iqm_ci": list(iqm_interval(returns)),
        "lower_tail": lower_tail(returns),
        "median": float(np.median(returns)),
        "minimum": float(np.min(returns)),
    }


def failures(returns: Sequence[float], of_teacher: Sequence[float]) -> float:
    """Share of the episodes that end below the worst of the teacher's.

    Args:
        returns: Of the student.
        of_teacher: Of the teacher, in as many episodes.
    """
    return float(np.mean(np.asarray(returns) < np.min(of_teacher)))


def worst_episodes(returns: Sequence[float], first_seed: int) -> list[dict[str, float]]:
    """Seed and return of the worst episodes, the worst first.

    Args:
        returns: In the order of their seeds.
        first_seed: Seed of the first; the others count up.
    """
    worst = np.argsort(returns, kind="stable")[:WORST]
    return [{"seed": first_seed + int(place), "return": float(returns[place])} for place in worst]
