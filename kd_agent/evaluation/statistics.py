"""Scores and the verdict: interquartile means, paired bootstrap intervals, non-inferiority.

IQM after Agarwal et al. 2021 (Deep RL at the Edge of the Statistical Precipice); the intervals are
percentile bootstraps over episodes (scipy.stats.bootstrap).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import bootstrap, trim_mean

Floats = NDArray[np.float64]
_RESAMPLES = 4999
"""One fewer than 5000: the limits at 2.5 and 97.5 % are then resamples (Davison and Hinkley 1997, section 5.2)."""


@dataclass(frozen=True)
class Verdict:
    """Outcome of a paired comparison.

    Attributes:
        decision: "non-inferior", "inferior" or "undecided".
        episodes: Number of paired episodes.
        margin: The loss in return that counts as none.
        difference: Student IQM minus teacher IQM.
        difference_ci: Its interval at `level`.
        level: Coverage of the interval, after Bonferroni's adjustment for the looks.
    """

    decision: str
    episodes: int
    margin: float
    difference: float
    difference_ci: tuple[float, float]
    level: float

    @property
    def non_inferior(self) -> bool:
        """Whether the student is shown to be as good as the teacher, up to the margin."""
        return self.decision == "non-inferior"


def iqm(returns: ArrayLike, axis: int = -1) -> Floats:
    """Interquartile mean: the mean of the middle half.

    Args:
        returns: `[..., n]`.
        axis: That of the `n`.
    """
    # A quarter is cut off at either end: robust to outliers, and less uncertain than the median.
    return np.asarray(trim_mean(np.asarray(returns, np.float64), 0.25, axis=axis))


def iqm_interval(returns: ArrayLike, level: float = 0.95, seed: int = 0) -> tuple[float, float]:
    """Bootstrap interval of an interquartile mean (the point itself where there is one value).

    Args:
        returns: `[n]`.
        level: Coverage.
        seed: Seed of the bootstrap.
    """
    values = np.asarray(returns, np.float64)
    if len(values) < 2:
        return float(iqm(values)), float(iqm(values))
    return bootstrap_interval((values,), iqm, level=level, seed=seed)


def bootstrap_interval(
    samples: Sequence[Floats], statistic: Callable[..., Floats], *, level: float, seed: int
) -> tuple[float, float]:
    """Percentile interval of a statistic, a bootstrap over episodes; several samples are drawn in pairs.

    Args:
        samples: Arrays `[n]` of the same episodes.
        statistic: Of such samples, along the keyword `axis`.
        level: Coverage.
        seed: Seed of the bootstrap.
    """
    found = bootstrap(
        tuple(samples),
        statistic,
        # Both played the same episodes: what an episode is worth to whoever plays it cancels in the difference.
        paired=len(samples) > 1,
        n_resamples=_RESAMPLES,
        confidence_level=level,
        method="percentile",
        rng=np.random.default_rng(seed),
    )
    interval = found.confidence_interval
    return float(interval.low), float(interval.high)


def compare(
    teacher: ArrayLike, student: ArrayLike, random_iqm: float, *, margin: float = 0.05, looks: int = 1, seed: int = 0
) -> Verdict:
    """Is the student non-inferior to the teacher?

    Args:
        teacher: Returns `[n]` of the teacher, in seed order.
        student: Returns `[n]` of the student on the same seeds.
        random_iqm: IQM of the random policy, for scale.
        margin: Allowed loss, as a fraction of |teacher IQM - random IQM|.
        looks: How often the comparison may be repeated; the error is shared among them.
        seed: Seed of the bootstrap.

    One episode has no interval: it decides nothing.
    """
    t = np.asarray(teacher, np.float64)
    s = np.asarray(student, np.float64)
    # Bonferroni: each look may err with its part of 5 %.
    level = 1 - 0.05 / looks
    allowed = margin * abs(float(iqm(t)) - random_iqm)
    difference = float(iqm(s) - iqm(t))
    if len(t) < 2:
        return Verdict("undecided", len(t), allowed, difference, (difference, difference), level)
    low, high = bootstrap_interval((t, s), _iqm_difference, level=level, seed=seed)
    decision = "undecided"
    # Non-inferiority, not "no significant difference": too few episodes leave it undecided instead of passing it.
    if low >= -allowed:
        decision = "non-inferior"
    elif high < -allowed:
        decision = "inferior"
    return Verdict(decision, len(t), allowed, difference, (low, high), level)


def _iqm_difference(teacher: Floats, student: Floats, axis: int = -1) -> Floats:
    return iqm(student, axis) - iqm(teacher, axis)
