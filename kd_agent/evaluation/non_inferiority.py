"""The verdict on returns: non-inferior, inferior or undecided, by the mean and by the lower tail.

Both parts must hold, an intersection-union test (Berger 1982): each is tested at the full level. A part holds where its
lower bound is above minus its margin. The bounds are Gaffke's (2005): the episodes are weighted at random as in
Rubin's Bayesian bootstrap (1981), *with one episode more*, which the student lost: it earned what the random policy
earns where the teacher earned its mean. For returns of two values that is the exact binomial bound (Clopper and Pearson
1934). So a failure that nobody has seen yet counts as much as it may happen: without one in n episodes it may happen
in 1 - error^(1/n) of them. The bounds from above are the mirror image: one episode more, which the teacher lost.
docs/verdict.md has the error rates, measured.

A teacher's recorded episodes are nobody else's: the two are weighted independently, and the teacher has an episode more
of its own, in which it earned its best. benchmarks/recorded_verdict.py has the error rates.
"""

from collections.abc import Callable
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike

from kd_agent.errors import KDError
from kd_agent.evaluation.parts import Part, Verdict
from kd_agent.evaluation.statistics import TAIL, Floats, lower_tail, weighted_tails

FEWEST = 20
"""Fewer episodes decide nothing."""
FEWEST_TO_PASS = 60
"""Fewer episodes let no student pass, however clear its mean: 59 without a failure exclude one in 5 % of them at 95 %
(the rule of three)."""
ERROR = 0.025
"""Probability of "non-inferior" for a student that is worse by a whole margin, over all looks together."""
LEVEL = 0.95
"""Coverage of the intervals."""
_Statistic = Callable[[Floats, Floats], Floats]
"""From weights `[S, n]` and returns `[n]` to a figure under each, `[S]`."""
_DRAWS = 4999
_OUT_OF_REACH = 100
"""Times the episodes that there are."""
_DECIMALS = 9
"""Digits that count: two sums of the same returns differ in the last ones."""


def compare(
    teacher_returns: ArrayLike,
    student_returns: ArrayLike,
    random_returns: ArrayLike,
    *,
    margin: float = 0.05,
    looks: int = 1,
    error: float = ERROR,
    paired: bool = True,
) -> Verdict:
    """Is the student as good as the teacher, up to a small margin, in the mean and in the worst tenth?

    The lower tail's margin is ten times the mean's: the same loss, if all of it falls on the worst tenth.

    Args:
        teacher_returns: Returns `[n]` of the teacher.
        student_returns: Returns `[n]` of the student in the same episodes, in the same order; or `[K, n]` of K students
            that were distilled from other seeds: then the verdict is on how such a student does, and the students are
            weighted at random too (a hierarchical bootstrap).
        random_returns: Returns of the random policy, in any episodes, for scale.
        margin: Loss of mean return that counts as none, as a fraction of |teacher mean - random mean|.
        looks: How often the comparison may be made while more episodes come; the error is shared among them.
        error: Probability of a wrong "non-inferior" over all looks.
        paired: Whether both played the same episodes; else the teacher's are others, `[m]` of them.

    Raises:
        KDError: Returns are missing, no numbers, NaN or infinite, or not paired; the margin is not positive, or the
            error no probability.
    """
    teacher = _returns(teacher_returns, "the teacher's")
    random = _returns(random_returns, "the random policy's")
    students = _numbers(student_returns, "the student's")
    if students.ndim < 2:
        students = students.reshape(1, -1)
    if not len(students):
        raise KDError("there are no students to compare")
    for student in students:
        if len(_returns(student, "the student's")) != len(teacher) and paired:
            raise KDError(
                f"the teacher has {len(teacher)} returns, the student {len(student)}: both must play the same episodes"
            )
    if not margin > 0 or looks < 1:
        raise KDError(f"margin {margin} and looks {looks}: both must be positive")
    if not 0 < error < 1:
        raise KDError(f"error {error}: a probability between 0 and 1")
    return _Comparison(teacher, students, random, margin, error / looks, paired=paired).verdict()


class _Comparison:
    """The returns of both, and the episodes weighted at random: the last weight is that of the episode more.

    Args:
        teacher: Returns `[n]`.
        students: Returns `[K, n]`.
        random: Returns of the random policy.
        margin: As a fraction of the scale.
        error: Of this look.
        paired: Whether both played the same episodes; else the teacher's are `[m]`.
    """

    def __init__(
        self, teacher: Floats, students: Floats, random: Floats, margin: float, error: float, *, paired: bool = True
    ) -> None:
        self._teacher = teacher
        self._students = students
        self._mean = float(np.mean(teacher))
        self._scale = abs(self._mean - float(np.mean(random)))
        self._margin = margin * self._scale
        self._error = error
        self._paired = paired
        self._episodes = students.shape[1]
        # Success or failure: nothing but the rate of success can differ.
        self._rates = len(np.unique(np.concatenate([teacher, students.ravel(), random]))) == 2
        self._better_than_random = self._mean > float(np.mean(random))

    def verdict(self) -> Verdict:
        """The verdict."""
        mean = self._part(_weighted_means, float(np.mean(self._students) - self._mean), self._margin)
        tail = mean
        if not self._rates:
            difference = lower_tail(self._students.ravel()) - lower_tail(self._teacher)
            tail = self._part(weighted_tails, difference, self._margin / TAIL)
        decisions = {mean.decision, tail.decision}
        decision = "undecided"
        if decisions == {"non-inferior"}:
            decision = "non-inferior"
        elif "inferior" in decisions:
            decision = "inferior"
        return Verdict(decision, self._episodes, mean, tail, self._error, self._reasons(mean, tail))

    def _part(self, statistic: _Statistic, difference: float, margin: float) -> Part:
        lost = self._mean - self._scale
        best_of_teacher = best_of_student = self._mean
        if not self._paired:
            # Its mean is uncertain by itself: an episode more that earned the mean would say that it is not.
            best_of_teacher, best_of_student = float(self._teacher.max()), float(self._students.max())
        spread = self._differences(statistic, None)
        at_least = self._differences(statistic, (best_of_teacher, lost))
        at_most = self._differences(statistic, (lost, best_of_student))
        outside = (1 - LEVEL) / 2
        interval = np.quantile(spread, [outside, 1 - outside])
        low = float(np.quantile(at_least, self._error, method="lower"))
        high = float(np.quantile(at_most, 1 - self._error, method="higher"))
        decision = "undecided"
        if min(self._episodes, len(self._teacher)) >= FEWEST and margin > 0:
            # A student that is worse by exactly the margin is worse.
            if round(high + margin, _DECIMALS) < 0:
                decision = "inferior"
            elif round(low + margin, _DECIMALS) > 0 and self._episodes >= FEWEST_TO_PASS:
                decision = "non-inferior"
        return Part(difference, (float(interval[0]), float(interval[1])), (low, high), margin, decision)

    def _differences(self, statistic: _Statistic, one_more: tuple[float, float] | None) -> Floats:
        """Student minus teacher under all weights, `[S]`.

        Args:
            statistic: What is compared.
            one_more: What teacher and students earned in the episode more; None: there is none.
        """
        teacher, students = self._teacher, self._students
        if one_more:
            teacher = np.append(teacher, one_more[0])
            students = np.column_stack([students, np.full(len(students), one_more[1])])
        weights = each = _weights(students.shape[1])
        if len(students) > 1:
            of_students = _weights(len(students), seed=1)
            each = (of_students[:, :, None] * weights[:, None, :]).reshape(len(weights), -1)
        of_teacher = weights if self._paired else _weights(len(teacher), seed=2)
        return np.asarray(statistic(each, students.ravel()) - statistic(of_teacher, teacher))

    def _reasons(self, mean: Part, tail: Part) -> tuple[str, ...]:
        episodes = self._episodes
        if not self._margin > 0:
            return ("the teacher earns what the random policy earns: a margin of 0 decides nothing",)
        reasons = []
        if not self._better_than_random:
            reasons.append("the teacher is worse than the random policy: its student is no better for being like it")
        if episodes < FEWEST:
            reasons.append(f"{episodes} episodes decide nothing: at least {FEWEST} are needed")
            return tuple(reasons)
        if len(self._teacher) < FEWEST:
            reasons.append(f"{len(self._teacher)} recorded episodes decide nothing: at least {FEWEST} are needed")
            return tuple(reasons)
        if self._rates:
            reasons.append(_sentence("success rate", mean))
        else:
            reasons += [_sentence("mean", mean), _sentence("worst tenth", tail)]
        open_parts = [part for part in (mean, tail) if part.decision == "undecided"]
        if open_parts and "inferior" not in (mean.decision, tail.decision):
            needed = max(_episodes_needed(part, episodes) for part in open_parts)
            if all(part.bounds[0] + part.margin > 0 for part in open_parts):
                reasons.append(f"{episodes} episodes let no student pass: at least {FEWEST_TO_PASS} are needed")
            elif needed > _OUT_OF_REACH * episodes:
                reasons.append("the loss is about a margin: no number of episodes within reach would decide")
            else:
                reasons.append(f"about {needed:,} episodes would decide")
        return tuple(reasons)


def _weighted_means(weights: Floats, returns: Floats) -> Floats:
    return np.asarray(weights @ returns)


@lru_cache(maxsize=4)
def _weights(count: int, seed: int = 0) -> Floats:
    """Random weights `[S, count]`, uniform among those that sum to 1: the same in every comparison."""
    drawn = np.random.default_rng(seed).standard_exponential((_DRAWS, count))
    return np.asarray(drawn / drawn.sum(axis=1, keepdims=True))


def _numbers(values: ArrayLike, whose: str) -> Floats:
    try:
        return np.asarray(values, np.float64)
    except (TypeError, ValueError):
        raise KDError(f"{whose} returns must be a list of numbers, one an episode") from None


def _returns(values: ArrayLike, whose: str) -> Floats:
    array = np.atleast_1d(_numbers(values, whose))
    if array.ndim != 1 or not len(array):
        raise KDError(f"{whose} returns must be a list of numbers, one an episode")
    if not np.isfinite(array).all():
        raise KDError(f"{whose} returns contain NaN or infinity")
    return array


def _sentence(name: str, part: Part) -> str:
    low, high = part.difference_ci
    words = {"non-inferior": "holds", "inferior": "is lost", "undecided": "is open"}
    return (
        f"the {name} {words[part.decision]}: {part.difference:+.1f} [{low:.1f}, {high:.1f}], with unseen failures at "
        f"least {part.bounds[0]:.1f}, against a margin of {part.margin:.1f}"
    )


def _episodes_needed(part: Part, episodes: int) -> int:
    """How many episodes would decide a part, if its difference stayed what it is."""
    # Bounds close in on the difference as the root of the number of episodes.
    low, high = part.bounds
    distance = part.difference - low if part.room > 0 else high - part.difference
    room = max(abs(part.room), 1e-9 + part.margin / 100)
    needed = episodes * (distance / room) ** 2
    # Two digits are what such a guess is worth.
    rounded = float(f"{max(needed, episodes + 1):.2g}")
    return int(max(rounded, episodes + 10))
