"""Scores and the verdict, against hand values and against chance."""

import numpy as np
import pytest

from kd_agent.evaluation.statistics import compare, iqm, iqm_interval


def test_the_iqm_is_the_mean_of_the_middle_half() -> None:
    assert float(iqm([1, 2, 3, 4])) == 2.5
    assert float(iqm([100, 1, 2, -50])) == 1.5
    assert float(iqm([0, 0, 1, 2, 3, 4, 99, 99])) == 2.5
    assert float(iqm([7])) == 7
    assert iqm(np.arange(24).reshape(3, 8)).tolist() == [3.5, 11.5, 19.5]


def test_the_iqm_does_not_depend_on_the_order() -> None:
    values = np.random.default_rng(0).normal(size=37)
    assert float(iqm(values)) == pytest.approx(float(iqm(values[::-1])))


def test_an_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    hits = 0
    for trial in range(60):
        low, high = iqm_interval(rng.normal(3, 1, 60), level=0.95, seed=trial)
        hits += low <= 3 <= high
    assert 50 <= hits <= 60


def test_a_wider_level_gives_a_wider_interval_and_the_same_seed_the_same() -> None:
    values = np.random.default_rng(0).normal(size=40)
    low, high = iqm_interval(values)
    wide_low, wide_high = iqm_interval(values, level=0.99)
    assert wide_low < low < float(iqm(values)) < high < wide_high
    assert iqm_interval(values) == (low, high)


def test_the_interval_of_one_episode_is_a_point() -> None:
    assert iqm_interval([3.0]) == (3.0, 3.0)


def noisy(mean: float, spread: float = 1.0, n: int = 100, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(mean, spread, n)


@pytest.mark.parametrize(
    ("student", "decision"),
    [
        (noisy(100) + 0.1, "non-inferior"),
        (noisy(100) + 50, "non-inferior"),
        (noisy(100) - 4, "non-inferior"),
        (noisy(100) - 6, "inferior"),
        (noisy(50, seed=1), "inferior"),
        (noisy(96, 30, seed=1), "undecided"),
    ],
)
def test_the_verdict_has_three_outcomes(student: np.ndarray, decision: str) -> None:
    verdict = compare(noisy(100), student, 0.0)
    assert verdict.decision == decision
    assert verdict.non_inferior == (decision == "non-inferior")
    assert verdict.margin == pytest.approx(0.05 * float(iqm(noisy(100))))
    assert verdict.difference_ci[0] <= verdict.difference <= verdict.difference_ci[1]
    assert verdict.difference == pytest.approx(float(iqm(student) - iqm(noisy(100))))


def test_negative_returns_are_judged_by_their_distance_from_the_random_policy() -> None:
    verdict = compare(noisy(-150), noisy(-150) - 30, -1200.0)
    assert verdict.decision == "non-inferior"
    assert verdict.margin == pytest.approx(0.05 * 1050, rel=0.01)
    assert compare(noisy(-150), noisy(-150) - 80, -1200.0).decision == "inferior"


def test_identical_returns_are_non_inferior() -> None:
    for returns in (noisy(100), np.full(50, 500.0)):
        verdict = compare(returns, returns, 20.0)
        assert (verdict.decision, verdict.difference, verdict.difference_ci) == ("non-inferior", 0, (0, 0))


def test_pairs_count() -> None:
    teacher = noisy(100, 60)
    assert compare(teacher, teacher + noisy(0, 1, seed=2), 0.0).decision == "non-inferior"
    shuffled = np.random.default_rng(3).permutation(teacher)
    assert compare(teacher, shuffled, 0.0).decision == "undecided"


def test_more_looks_raise_the_level_and_widen_the_interval() -> None:
    teacher, student = noisy(100), noisy(100, seed=1)
    once, thrice = compare(teacher, student, 0.0), compare(teacher, student, 0.0, looks=3)
    assert once.level == pytest.approx(0.95)
    assert thrice.level == pytest.approx(1 - 0.05 / 3)
    assert thrice.difference_ci[0] < once.difference_ci[0]
    assert thrice.difference_ci[1] > once.difference_ci[1]


def test_a_student_at_the_margin_passes_rarely() -> None:
    passed = 0
    for seed in range(60):
        teacher = noisy(100, 5, 50, seed)
        passed += compare(teacher, teacher - 5 + noisy(0, 5, 50, seed + 1000), 0.0).non_inferior
    assert passed <= 9


def test_one_episode_decides_nothing() -> None:
    verdict = compare([100.0], [100.0], 0.0)
    assert verdict.decision == "undecided"
    assert verdict.difference == 0


def test_identical_returns_are_non_inferior_even_where_the_teacher_is_no_better_than_the_random_policy() -> None:
    returns = np.full(20, -200.0)
    verdict = compare(returns, returns, random_iqm=-200.0)
    assert (verdict.decision, verdict.margin) == ("non-inferior", 0.0)
    assert compare(returns, returns - 1, random_iqm=-200.0).decision == "inferior"
