"""Weights of very few values: packed and unpacked without loss, as near as their grid allows."""

import itertools

import numpy as np
import pytest

from kd_agent import KDError
from kd_agent.policies.packed import GRIDS, INT4, TERNARY, Packed, exactly, int4, pack, ternary, unpack

SHAPES = [(5, 7), (4, 1), (1, 10), (16, 16), (3, 11)]
LARGEST = {"ternary": TERNARY, "int4": INT4}
every_grid = pytest.mark.parametrize("name", GRIDS)


def weights(shape: tuple[int, int], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 2, shape).astype(np.float32)


@pytest.mark.parametrize("shape", SHAPES)
@every_grid
def test_packing_loses_nothing(name: str, shape: tuple[int, int]) -> None:
    largest = LARGEST[name]
    whole = np.random.default_rng(1).integers(-largest, largest + 1, shape).astype(np.int8)
    packed = Packed(largest, whole, np.ones(shape[0], np.float32))
    digits = pack(packed)
    assert digits.dtype == np.uint8
    assert digits.nbytes + 4 * shape[0] == packed.nbytes
    again = unpack(digits, packed.scale, shape[1], largest)
    np.testing.assert_array_equal(again.whole, whole)
    np.testing.assert_array_equal(again.weight, packed.weight)


def test_a_byte_holds_two_weights_of_4_bits_or_five_ternary_ones() -> None:
    assert pack(Packed(INT4, np.int8([[-7, 7, 1]]), np.float32([1]))).tolist() == [[0xF1, 0x89]]
    every = np.int8(list(itertools.product((-1, 0, 1), repeat=5)))
    digits = pack(Packed(TERNARY, every, np.ones(len(every), np.float32)))
    assert digits.shape == (243, 1)
    assert len(np.unique(digits)) == 243
    np.testing.assert_array_equal(unpack(digits, np.ones(243, np.float32), 5, TERNARY).whole, every)


@pytest.mark.parametrize("shape", SHAPES)
@every_grid
def test_what_lies_on_a_grid_is_found_there_bit_for_bit(name: str, shape: tuple[int, int]) -> None:
    once = GRIDS[name](weights(shape))
    assert once.weight.dtype == np.float32
    np.testing.assert_array_equal(GRIDS[name](once.weight).whole, once.whole)
    np.testing.assert_array_equal(GRIDS[name](once.weight).scale, once.scale)
    found = exactly(once.weight)
    if once.nbytes >= once.weight.nbytes:
        assert found is None
    else:
        assert found is not None
        np.testing.assert_array_equal(found.weight, once.weight)
        assert found.largest <= once.largest


def test_other_weights_lie_on_no_grid() -> None:
    assert exactly(weights((5, 7))) is None
    on_grid = int4(weights((5, 7))).weight
    moved = on_grid.copy()
    moved[2, 3] = np.nextafter(moved[2, 3], np.float32(9))
    assert exactly(on_grid) is not None
    assert exactly(moved) is None
    assert exactly(on_grid.astype(np.float64)) is None


def test_4_bits_are_off_by_half_a_step_and_use_the_whole_range() -> None:
    weight = weights((6, 9))
    packed = int4(weight)
    assert (np.abs(packed.whole).max(axis=1) == 7).all()
    assert (np.abs(packed.weight - weight) <= 0.501 * packed.scale[:, None]).all()


def test_ternary_is_the_signs_of_what_is_large_times_their_mean() -> None:
    weight = np.float32([[1, -2, 0.1, 3], [5, 5, -5, 5]])
    packed = ternary(weight)  # 0.7 times the mean magnitude of the first row is 1.07
    np.testing.assert_array_equal(packed.whole, [[0, -1, 0, 1], [1, 1, -1, 1]])
    np.testing.assert_allclose(packed.scale, [2.5, 5])


@every_grid
def test_rows_of_zeros_stay_zeros_and_signs_are_mirrored(name: str) -> None:
    weight = weights((3, 8))
    weight[1] = 0
    packed = GRIDS[name](weight)
    assert not packed.weight[1].any()
    np.testing.assert_array_equal(GRIDS[name](-weight).weight, -packed.weight)
    np.testing.assert_array_equal(GRIDS[name](weight * 8).whole, packed.whole)


@pytest.mark.parametrize(
    ("digits", "columns", "largest", "message"),
    [
        (np.zeros((2, 4), np.uint8), 8, 3, "up to 1 \\(ternary\\) or 7 \\(4 bits\\), not 3"),
        (np.zeros((2, 4), np.uint8), 9, INT4, "expected \\(2, 5\\)"),
        (np.zeros((2, 4), np.uint8), 8, TERNARY, "expected \\(2, 2\\)"),
        (np.zeros((3, 4), np.uint8), 8, INT4, "expected \\(2, 4\\)"),
        (np.zeros((2, 4), np.int8), 8, INT4, "packed weights have shape"),
        (np.zeros((2, 0), np.uint8), 0, INT4, "packed weights have shape"),
    ],
)
def test_what_is_not_packed_so_is_refused(digits: np.ndarray, columns: int, largest: int, message: str) -> None:
    with pytest.raises(KDError, match=message):
        unpack(digits, np.ones(2, np.float32), columns, largest)
