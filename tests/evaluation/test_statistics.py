"""Scores, against hand values and against chance."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from scipy.stats import t

from kd_agent.evaluation.statistics import (
    failures,
    iqm,
    iqm_interval,
    lower_tail,
    mean_difference_interval,
    mean_interval,
    scores,
    weighted_tails,
    worst_episodes,
)

INTERVALS = [mean_interval, iqm_interval]


def test_the_iqm_is_the_mean_of_the_middle_half() -> None:
    assert float(iqm([1, 2, 3, 4])) == 2.5
    assert float(iqm([100, 1, 2, -50])) == 1.5
    assert float(iqm([0, 0, 1, 2, 3, 4, 99, 99])) == 2.5
    assert float(iqm([7])) == 7
    assert iqm(np.arange(24).reshape(3, 8)).tolist() == [3.5, 11.5, 19.5]


def test_the_iqm_does_not_depend_on_the_order() -> None:
    values = np.random.default_rng(0).normal(size=37)
    assert float(iqm(values)) == pytest.approx(float(iqm(values[::-1])))


@pytest.mark.parametrize("interval", INTERVALS)
def test_an_interval_covers_the_truth_about_as_often_as_it_says(interval: Any) -> None:
    rng = np.random.default_rng(0)
    hits = 0
    for trial in range(60):
        low, high = interval(rng.normal(3, 1, 60), level=0.95, seed=trial)
        hits += low <= 3 <= high
    assert 50 <= hits <= 60


@pytest.mark.parametrize("interval", INTERVALS)
def test_a_wider_level_gives_a_wider_interval_and_the_same_seed_the_same(interval: Any) -> None:
    values = np.random.default_rng(0).normal(size=40)
    low, high = interval(values)
    wide_low, wide_high = interval(values, level=0.99)
    assert wide_low < low < float(iqm(values)) < high < wide_high
    assert interval(values) == (low, high)
    assert interval(values, seed=1) != (low, high)


@pytest.mark.parametrize("interval", INTERVALS)
def test_the_interval_of_one_value_is_a_point(interval: Any) -> None:
    assert interval([3.0]) == interval([3.0] * 5) == (3.0, 3.0)


def test_the_interval_of_a_mean_is_about_two_standard_errors_around_it() -> None:
    values = np.random.default_rng(0).normal(10, 2, 400)
    error = values.std() / 20
    assert mean_interval(values) == pytest.approx(
        (values.mean() - 1.96 * error, values.mean() + 1.96 * error), abs=0.02
    )


@pytest.mark.parametrize(
    ("returns", "tail"),
    [
        (range(10), 0),
        (range(20), 0.5),
        (range(15), (0 + 0.5 * 1) / 1.5),
        (range(25), (0 + 1 + 0.5 * 2) / 2.5),
        ([5, 3, 8, 4], 3),
        ([7], 7),
        ([1] * 95 + [-200] * 5, (5 * -200 + 5 * 1) / 10),
    ],
)
def test_the_lower_tail_is_the_mean_of_the_worst_tenth(returns: Sequence[float], tail: float) -> None:
    """Of the episode in which the tenth ends, a part."""
    assert lower_tail(list(returns)) == pytest.approx(tail)
    assert lower_tail(list(returns)[::-1]) == pytest.approx(tail)


def test_a_tail_under_weights_counts_each_episode_by_its_weight() -> None:
    weights = np.array([[0.05, 0.15, 0.8], [0.9, 0.04, 0.06], [0.96, 0.02, 0.02]])
    assert weighted_tails(weights, np.array([3.0, 1.0, 2.0])).tolist() == pytest.approx(
        [1.0, (0.04 * 1 + 0.06 * 2) / 0.1, (0.02 * 1 + 0.02 * 2 + 0.06 * 3) / 0.1]
    )


def test_an_episode_of_weight_2_is_as_two_episodes() -> None:
    returns = np.random.default_rng(0).normal(size=12)
    twice = np.append(returns, returns[:3])
    weights = np.ones((1, 12)) / 15
    weights[0, :3] *= 2
    assert weighted_tails(weights, returns)[0] == pytest.approx(lower_tail(twice))


def test_scores_are_returns_and_all_that_they_come_to() -> None:
    returns = np.random.default_rng(0).normal(size=30).tolist()
    assert scores(returns) == {
        "returns": returns,
        "mean": float(np.mean(returns)),
        "mean_ci": list(mean_interval(returns)),
        "iqm": float(iqm(returns)),
        "iqm_ci": list(iqm_interval(returns)),
        "lower_tail": lower_tail(returns),
        "median": float(np.median(returns)),
        "minimum": min(returns),
    }


def test_failures_are_the_episodes_worse_than_all_of_the_teachers() -> None:
    assert failures([1.0, 0.0, 3.0, -1.0], [0.0, 5.0, 5.0, 5.0]) == 0.25
    assert failures([1.0, 2.0], [3.0, 4.0]) == 1
    assert failures([3.0, 4.0], [3.0, 4.0]) == 0


def test_the_worst_episodes_are_named_by_their_seeds_the_worst_first() -> None:
    assert worst_episodes([5.0, 1.0, 3.0, 1.0, 9.0, 0.0, 7.0], 100) == [
        {"seed": 105, "return": 0.0},
        {"seed": 101, "return": 1.0},
        {"seed": 103, "return": 1.0},
        {"seed": 102, "return": 3.0},
        {"seed": 100, "return": 5.0},
    ]
    assert worst_episodes([2.0], 7) == [{"seed": 7, "return": 2.0}]


def test_means_that_are_not_paired_differ_by_welchs_interval() -> None:
    """Variances 2 and 8 of two each: a standard error of the root of 5, and 25/17 degrees of freedom."""
    half = t(25 / 17).ppf(0.975) * np.sqrt(5)
    assert mean_difference_interval([0.0, 2.0], [10.0, 14.0]) == pytest.approx((11 - half, 11 + half))
    assert mean_difference_interval([10.0, 14.0], [0.0, 2.0]) == pytest.approx((-11 - half, -11 + half))
    narrow = mean_difference_interval([0.0, 2.0], [10.0, 14.0], level=0.5)
    assert 11 - half < narrow[0] < 11 < narrow[1] < 11 + half


def test_a_sample_of_equal_values_is_as_good_as_any_and_warns_of_nothing(recwarn: pytest.WarningsRecorder) -> None:
    """The returns of a teacher that earns all there is; the interval hangs on the other sample alone."""
    half = t(2).ppf(0.975) * np.sqrt(4 / 3)
    assert mean_difference_interval([1.0, 3.0, 5.0], [500.0] * 20) == pytest.approx((497 - half, 497 + half))
    assert not recwarn.list


def test_one_value_tells_nothing_of_a_difference_and_constant_ones_all() -> None:
    assert mean_difference_interval([1.0], [5.0, 6.0]) == (-np.inf, np.inf)
    assert mean_difference_interval([1.0, 2.0], [5.0]) == (-np.inf, np.inf)
    assert mean_difference_interval([1.0, 1.0], [5.0] * 3) == (4.0, 4.0)
