"""Constants in generated code: every float32 is spelt so that it is read back as it was."""

import numpy as np
import pytest

from kd_agent import KDError
from kd_agent.export._language import Indented, Language
from kd_agent.policies import Array

C_LIKE = Language(index="int", whole="int", number="float", suffix="f")
LARGEST = float(np.finfo(np.float32).max)


def floats() -> Array:
    """Float32 of every scale, and its edges."""
    bits = np.random.default_rng(0).integers(0, 2**32, 10_000, dtype=np.uint32)
    drawn = bits.view(np.float32)
    edges = np.float32([0, -0.0, 1, -3, 0.1, 1e-45, 16777216, LARGEST])
    return np.concatenate([drawn[np.isfinite(drawn)], edges])


@pytest.mark.parametrize("language", [C_LIKE, Indented()], ids=["braces", "indented"])
def test_an_array_is_spelt_as_its_numbers_are_one_by_one(language: Language) -> None:
    values = floats()
    texts = language.literals(values)
    assert texts == [language.literal(value) for value in values]
    read = np.float32([float(text.removesuffix("f")) for text in texts])
    np.testing.assert_array_equal(read.view(np.uint32), values.view(np.uint32))


def test_literals_have_a_point_or_an_exponent_and_nine_digits() -> None:
    values = np.float32([1, -0.0, 0.1, 1e-45, 1e10, 16777216, 0.5])
    expected = ["1.0f", "-0.0f", "0.100000001f", "1.40129846e-45f", "1e+10f", "16777216.0f", "0.5f"]
    assert C_LIKE.literals(values) == expected
    assert Indented().literals(values[:3]) == ["1.0", "-0.0", "0.10000000149011612"]


@pytest.mark.parametrize("language", [C_LIKE, Indented()], ids=["braces", "indented"])
def test_infinity_is_the_largest_float(language: Language) -> None:
    most, least = language.literal(LARGEST), language.literal(-LARGEST)
    assert language.literals(np.float32([np.inf, -np.inf])) == [most, least]
    assert [language.literal(1e300), language.literal(-np.inf)] == [most, least]


def test_what_is_no_number_is_refused() -> None:
    with pytest.raises(KDError, match="is not a number"):
        C_LIKE.literals(np.float32([0, np.nan]))
    with pytest.raises(KDError, match="is not a number"):
        C_LIKE.literal(np.nan)


def test_whole_numbers_have_no_point() -> None:
    assert C_LIKE.literals(np.int8([-128, 0, 7])) == ["-128", "0", "7"]
