"""Spaces: what policies are told of them, and when two of them fit."""

import warnings
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from kd_agent import KDError
from kd_agent.environments.spaces import as_mapping, check_same, is_image, observation_specs, select
from kd_agent.policies.graph import ObservationSpec

BOX = gym.spaces.Box(-1, 1, (3,), np.float64)
PAIR = gym.spaces.Dict({"image": gym.spaces.Box(0, 255, (8, 8, 3), np.uint8), "joints": BOX})


@pytest.mark.parametrize(
    ("space", "spec"),
    [
        (BOX, ObservationSpec((3,), "float32")),
        (gym.spaces.Box(0, 255, (8, 8, 3), np.uint8), ObservationSpec((8, 8, 3), "uint8")),
        (gym.spaces.Discrete(5), ObservationSpec((), "int64", (5,))),
        (gym.spaces.MultiDiscrete([2, 3]), ObservationSpec((2,), "int64", (2, 3))),
        (gym.spaces.MultiDiscrete([[2, 3], [4, 5]]), ObservationSpec((2, 2), "int64", (2, 3, 4, 5))),
        (gym.spaces.MultiBinary(4), ObservationSpec((4,), "int8")),
    ],
)
def test_a_space_is_told_as_policies_see_it(space: gym.Space[Any], spec: ObservationSpec) -> None:
    assert observation_specs(space) == {"obs": spec}


def test_a_dict_has_a_spec_for_each_key() -> None:
    specs = observation_specs(PAIR)
    assert {key: (spec.shape, spec.dtype) for key, spec in specs.items()} == {
        "image": ((8, 8, 3), "uint8"),
        "joints": ((3,), "float32"),
    }
    assert [is_image(spec) for spec in specs.values()] == [True, False]


@pytest.mark.parametrize(
    "space",
    [
        gym.spaces.Text(3),
        gym.spaces.Tuple([BOX, BOX]),
        gym.spaces.Sequence(BOX),
        gym.spaces.Dict({"inner": gym.spaces.Dict({"joints": BOX})}),
    ],
)
def test_what_is_no_array_of_fixed_shape_is_refused(space: gym.Space[Any]) -> None:
    with pytest.raises(KDError, match="is not an array of fixed shape"):
        observation_specs(space)


@pytest.mark.parametrize("space", [gym.spaces.Discrete(3, start=5), gym.spaces.MultiDiscrete([2, 3], start=[0, 1])])
def test_categories_that_do_not_start_at_zero_are_refused(space: gym.Space[Any]) -> None:
    with pytest.raises(KDError, match=r"'obs' of space .* start at 0"):
        observation_specs(space)


def test_a_part_of_a_dict_is_selected_by_its_keys() -> None:
    assert select(PAIR, [], "--keys") is PAIR
    assert select(PAIR, ["joints"], "--keys") == BOX
    both = select(PAIR, ["joints", "image"], "--keys")
    assert isinstance(both, gym.spaces.Dict)
    assert set(both) == {"image", "joints"}


def test_an_unknown_key_is_answered_with_the_nearest_and_the_flag() -> None:
    with pytest.raises(KDError, match="key of --keys 'joint'; did you mean 'joints'"):
        select(PAIR, ["joint"], "--keys")
    with pytest.raises(KDError, match="the observation is not a Dict"):
        select(BOX, ["joints"], "--keys")


def test_observations_are_floats_of_four_bytes_and_whole_numbers_as_they_are() -> None:
    batch = as_mapping({"a": np.zeros((2, 3)), "b": np.zeros(2, np.uint8), "c": [[1, 2]]})
    assert [batch[key].dtype for key in "abc"] == [np.float32, np.uint8, np.int64]
    own = np.zeros((2, 3), np.float32)
    assert as_mapping(own)["obs"] is own


@pytest.mark.parametrize(
    ("own", "other"),
    [
        (gym.spaces.Discrete(3), gym.spaces.Discrete(4)),
        (gym.spaces.Discrete(3), gym.spaces.Discrete(3, start=1)),
        (gym.spaces.Discrete(3), gym.spaces.MultiDiscrete([3])),
        (gym.spaces.MultiDiscrete([2, 3]), gym.spaces.MultiDiscrete([3, 2])),
        (gym.spaces.MultiBinary(3), gym.spaces.MultiBinary(4)),
        (BOX, gym.spaces.Box(-1, 1, (4,))),
        (BOX, gym.spaces.Box(-1, 1, (3,), np.int64)),
        (BOX, PAIR),
    ],
)
def test_spaces_that_differ_are_refused(own: gym.Space[Any], other: gym.Space[Any]) -> None:
    with pytest.raises(KDError, match=r"actions are .*, but the environment has"):
        check_same(own, other, "actions", bounds=False)


def test_floats_of_another_width_are_the_same_space() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_same(BOX, gym.spaces.Box(-1, 1, (3,), np.float32), "actions", bounds=True)


def test_other_bounds_are_refused_or_warned_of() -> None:
    wider = gym.spaces.Box(-2, 2, (3,), np.float64)
    with pytest.raises(KDError, match="actions are"):
        check_same(BOX, wider, "actions", bounds=True)
    with pytest.warns(UserWarning, match="observations have other bounds"):
        check_same(BOX, wider, "observations", bounds=False)


def test_a_dict_needs_the_keys_of_the_policy_and_may_have_more() -> None:
    check_same(gym.spaces.Dict({"joints": BOX}), PAIR, "observations", bounds=True)
    with pytest.raises(KDError, match="observations have the key 'image', but the environment has joints"):
        check_same(PAIR, gym.spaces.Dict({"joints": BOX}), "observations", bounds=True)
    with pytest.raises(KDError, match="observations 'joints' are"):
        check_same(gym.spaces.Dict({"joints": gym.spaces.Discrete(2)}), PAIR, "observations", bounds=True)
