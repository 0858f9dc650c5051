"""Weights as int8: whole numbers, a scale an output, and as near as both allow."""

import numpy as np
import pytest

from kd_agent.policies.int8 import quantise, rounded

SHAPES = [(5, 7), (4, 3, 2, 2), (6, 1), (3,)]


def weights(shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(0).normal(0, 2, shape).astype(np.float32)


@pytest.mark.parametrize("shape", SHAPES)
def test_each_output_uses_the_whole_range_and_is_off_by_half_a_step_at_most(shape: tuple[int, ...]) -> None:
    weight = weights(shape)
    whole, scale = quantise(weight)
    assert (whole.dtype, scale.dtype) == (np.int8, np.float32)
    assert (whole.shape, scale.shape) == (shape, shape[:1])
    assert (np.abs(whole.astype(int)).reshape(len(weight), -1).max(axis=1) == 127).all()
    step = scale.reshape(-1, *[1] * (weight.ndim - 1))
    assert (np.abs(whole * step - weight) <= 0.5001 * step).all()
    np.testing.assert_array_equal(rounded(weight), whole * step)


@pytest.mark.parametrize("shape", SHAPES)
def test_rounding_twice_is_rounding_once_and_signs_are_mirrored(shape: tuple[int, ...]) -> None:
    weight = weights(shape)
    once = rounded(weight)
    assert once.dtype == np.float32
    np.testing.assert_allclose(rounded(once), once, rtol=1e-6)
    np.testing.assert_array_equal(rounded(-weight), -once)
    np.testing.assert_array_equal(quantise(weight * 8)[0], quantise(weight)[0])


def test_outputs_do_not_share_a_scale() -> None:
    weight = weights((2, 8))
    weight[1] *= 1000
    np.testing.assert_array_equal(quantise(weight)[0][0], quantise(weight[:1])[0][0])


def test_an_output_of_zeros_stays_zero() -> None:
    weight = weights((3, 4))
    weight[1] = 0
    whole, scale = quantise(weight)
    assert not whole[1].any()
    assert (scale > 0).all()
    assert not rounded(weight)[1].any()
