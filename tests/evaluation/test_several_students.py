"""One verdict over students that differ by their seed."""

import numpy as np
import pytest

from kd_agent import KDError, compare
from kd_agent.evaluation.statistics import lower_tail

RANDOM = np.zeros(20)


def noisy(mean: float, spread: float = 1.0, n: int = 100, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(mean, spread, n)


def test_one_student_among_several_seeds_is_that_student() -> None:
    teacher, student = noisy(100, 20), noisy(100, 20, seed=1)
    assert compare(teacher, [student.tolist()], RANDOM) == compare(teacher, student, RANDOM)


def test_of_several_students_the_mean_and_the_tail_are_over_all_their_episodes() -> None:
    teacher = noisy(100, 5)
    students = np.array([noisy(100, 5, seed=seed) for seed in (1, 2, 3)])
    verdict = compare(teacher, students, RANDOM)
    assert verdict.difference == pytest.approx(students.mean() - teacher.mean())
    assert verdict.lower_tail.difference == pytest.approx(lower_tail(students.ravel()) - lower_tail(teacher))
    assert verdict.episodes == 100


def test_students_that_differ_by_their_seed_widen_the_bounds() -> None:
    """The same mean over all, once with and once without a difference between students."""
    teacher = noisy(100)
    alike = np.array([teacher, teacher, teacher])
    uneven = alike + np.array([[-6.0], [0.0], [6.0]])
    one, other = compare(teacher, alike, RANDOM), compare(teacher, uneven, RANDOM)
    assert one.difference == pytest.approx(other.difference)
    assert other.mean.bounds[0] < one.mean.bounds[0] - 1
    assert one.non_inferior
    assert not other.non_inferior


def test_every_student_must_have_played_the_teachers_episodes() -> None:
    with pytest.raises(KDError, match="the teacher has 3 returns, the student 2"):
        compare([1.0] * 3, [[1.0] * 2] * 2, [0.0])
    with pytest.raises(KDError, match="the student's returns contain NaN"):
        compare([1.0] * 2, [[1.0] * 2, [1.0, np.nan]], [0.0])
