"""Answers of teachers as rows: rows as they are, actions with the density that is stated for them."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from samples import SPACES

from kd_agent import KDError
from kd_agent.networks import head_for
from kd_agent.teachers._density import STATED_LOGIT, STATED_STD, to_params


def params_of(space: gym.Space[Any], answer: Any, batch: int = 2) -> np.ndarray:
    return to_params(head_for(space).spec, np.asarray(answer), batch, "somebody")


def test_of_bits_whole_numbers_are_actions_and_floats_are_logits() -> None:
    bits = [[1, 0, 1], [0, 0, 1]]
    space = SPACES["MultiBinary"]
    half = STATED_LOGIT / 2
    wanted = [[half, -half, half], [-half, -half, half]]
    for kind in (np.int8, np.uint8, np.int64, bool):
        np.testing.assert_array_equal(params_of(space, np.array(bits, kind)), wanted)
    np.testing.assert_array_equal(params_of(space, np.array(bits, np.float32)), bits)


def test_choices_count_from_the_spaces_start() -> None:
    params = params_of(gym.spaces.Discrete(3, start=5), [7, 5])
    np.testing.assert_array_equal(params, STATED_LOGIT * np.float32([[0, 0, 1], [1, 0, 0]]))
    np.testing.assert_array_equal(params_of(gym.spaces.Discrete(3), [[2], [0]]), params)


def test_each_part_of_several_choices_has_its_logits() -> None:
    params = params_of(SPACES["MultiDiscrete"], [[2, 0], [1, 3]])
    wanted = [[0, 0, 1, 1, 0, 0, 0], [0, 1, 0, 0, 0, 0, 1]]
    np.testing.assert_array_equal(params, STATED_LOGIT * np.float32(wanted))


def test_the_noise_of_an_action_is_a_share_of_half_its_range_and_of_1_where_that_is_infinite() -> None:
    space = gym.spaces.Box(np.float32([-1, 0, -np.inf]), np.float32([1, 6, np.inf]))
    params = params_of(space, [[0.5, 2, 30], [-1, 6, -30]])
    np.testing.assert_array_equal(params[:, :3], np.float32([[0.5, 2, 30], [-1, 6, -30]]))
    np.testing.assert_allclose(np.exp(params[:, 3:]), STATED_STD * np.float32([[1, 3, 1]] * 2), rtol=1e-6)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (
            [[0.0] * 5] * 2,
            r"somebody: answered with shape \(2, 5\) to 2 observations; expected \(2, 4\) head",
        ),
        ([1, 2, 3], r"answered with shape \(3,\)"),
        ([["a"] * 4] * 2, "no numbers"),
        ([[1j] * 4] * 2, "complex128 of shape"),
        ([[0, 0, np.nan, 0]] * 2, "somebody: answered with NaN"),
    ],
)
def test_anything_else_is_named(answer: Any, message: str) -> None:
    with pytest.raises(KDError, match=message):
        params_of(SPACES["Discrete"], answer)


def test_an_action_that_is_excluded_may_have_a_logit_of_minus_infinity() -> None:
    row = [[0.0, -np.inf, 1.0, 2.0]] * 2
    np.testing.assert_array_equal(params_of(SPACES["Discrete"], row), np.float32(row))


@pytest.mark.parametrize(("answer", "message"), [([2, 4], "action 4, .* 2 to 3"), ([0, 3], "action 0, .* 2 to 3")])
def test_an_action_that_there_is_not_is_named(answer: list[int], message: str) -> None:
    with pytest.raises(KDError, match=message):
        params_of(gym.spaces.Discrete(2, start=2), answer)
