"""What leaves say under action masks."""

import numpy as np
import pytest
from samples import HEADS

from kd_agent.learners._leaves import allowed_means, decision_gaps, means

ROW = np.float32([[3, 1, 0, -5]])


@pytest.mark.parametrize(
    ("mask", "gap"),
    [([1, 1, 1, 1], 8), ([1, 1, 0, 0], 2), ([0, 1, 1, 0], 1), ([0, 0, 0, 1], 0), ([0, 0, 0, 0], 0)],
)
def test_a_forbidden_action_is_no_mistake_that_could_be_made(mask: list[int], gap: float) -> None:
    spec = HEADS["categorical"].spec
    flags = np.array([mask], bool)
    assert decision_gaps(spec, spec.masked(ROW, flags), flags).tolist() == [gap]


def test_of_bits_only_those_count_that_may_be_both() -> None:
    spec = HEADS["bernoulli"].spec
    mask = np.array([[1, 1, 0, 1, 1, 1]], bool)
    assert decision_gaps(spec, spec.masked(np.float32([[2, 5, -3]]), mask), mask).tolist() == [5]
    assert decision_gaps(spec, np.float32([[2, 5, -3]])).tolist() == [10]


def test_an_action_that_is_seldom_allowed_is_judged_by_when_it_is() -> None:
    leaf = np.array([0, 0, 0, 1])
    probabilities = np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0], [0.0, 1.0]])
    is_open = np.array([[1, 1], [0, 1], [0, 1], [0, 1]], bool)
    found = allowed_means(leaf, probabilities, np.ones(4), is_open)
    np.testing.assert_allclose(found[0], [1, 2 / 3])
    # In the second leaf the first action was never allowed: what is known of it elsewhere serves.
    np.testing.assert_allclose(found[1], [1, 1])
    np.testing.assert_allclose(means(leaf, probabilities, np.ones(4)), [[1 / 3, 2 / 3], [0, 1]])
