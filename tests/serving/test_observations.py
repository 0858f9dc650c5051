"""Observations in JSON: what the schema allows is read, and everything else is one line that names it."""

import math
from typing import Any

import jsonschema
import numpy as np
import pytest

from kd_agent import KDError
from kd_agent.policies.graph import ObservationSpec
from kd_agent.serving.observations import ObservationReader

CART_POLE = {"cart position": 0.5, "cart velocity": -1, "pole angle": 0.25, "pole angular velocity": 2.0}
BOX = {"obs": ObservationSpec((4,), "float32")}
DICT = {"floor": ObservationSpec((), "int64", (4,)), "joints": ObservationSpec((2,), "float32")}
OTHERS = {
    "parts": ({"obs": ObservationSpec((2,), "int64", (3, 5))}, [2, 4]),
    "bits": ({"obs": ObservationSpec((2,), "bool")}, [True, False]),
    "pixels": ({"obs": ObservationSpec((2, 1, 3), "uint8")}, [[[1, 2, 3]], [[4, 5, 255]]]),
    "matrix": ({"obs": ObservationSpec((2, 2), "float32")}, [[1, 2.5], [3, 4]]),
}


def named() -> ObservationReader:
    return ObservationReader(BOX, "CartPole-v1")


def refused(reader: ObservationReader, value: Any) -> str:
    with pytest.raises(KDError) as caught:
        reader.read(value)
    message = str(caught.value)
    assert "\n" not in message
    # A schema cannot say that a number is finite.
    if "finite number" not in message:
        assert not jsonschema.Draft202012Validator(reader.schema()).is_valid(value)
    return message


def test_numbers_are_read_by_name_in_whatever_order_or_as_an_array() -> None:
    backwards = dict(reversed(CART_POLE.items()))
    for value in (CART_POLE, backwards, list(CART_POLE.values())):
        jsonschema.validate(value, named().schema())
        found = named().read(value)["obs"]
        assert found.dtype == np.float32
        assert found.tolist() == [0.5, -1, 0.25, 2]


def test_the_schema_has_the_names_of_the_environment() -> None:
    by_name, array = named().schema()["anyOf"]
    assert by_name["required"] == list(CART_POLE)
    assert array["minItems"] == array["maxItems"] == 4
    unnamed = ObservationReader(BOX, "nowhere-v0").schema()
    assert unnamed["type"] == "array"


def test_a_dict_is_read_by_key() -> None:
    reader = ObservationReader(DICT, "")
    value = {"joints": [0.5, 1], "floor": 3}
    jsonschema.validate(value, reader.schema())
    found = reader.read(value)
    assert found["floor"].shape == ()
    assert (int(found["floor"]), found["joints"].tolist()) == (3, [0.5, 1])


@pytest.mark.parametrize("name", OTHERS)
def test_an_array_keeps_its_shape_and_type(name: str) -> None:
    specs, value = OTHERS[name]
    reader = ObservationReader(specs, "")
    jsonschema.validate(value, reader.schema())
    found = reader.read(value)["obs"]
    assert (found.shape, found.dtype.name) == (specs["obs"].shape, specs["obs"].dtype)
    np.testing.assert_array_equal(found, value)


@pytest.mark.parametrize(
    ("value", "answer"),
    [
        ({**CART_POLE, "pole angel": 1}, "unknown number of the observation 'pole angel'; did you mean 'pole angle'?"),
        ({"cart position": 1}, "observation lacks 'cart velocity'; expected 4 numbers: cart position, cart velocity"),
        ([1, 2, 3], "observation has an array of 3; expected 4 numbers: cart position"),
        ([[1, 2, 3, 4]], "observation has an array of 1; expected 4 numbers"),
        ([1, [2], 3, 4], "observation: 'cart velocity' is an array; expected a finite number"),
        ([1, 2, math.nan, 4], "observation: 'pole angle' is NaN; expected a finite number"),
        ([1, 2, math.inf, 4], "observation: 'pole angle' is Infinity; expected a finite number"),
        ([1, 2, 1e39, 4], "observation: 'pole angle' is 1e+39; expected a finite number"),
        ([1, 2, 10**5000, 4], "observation: 'pole angle' is a very large number; expected a finite number"),
        (["fast", 2, 3, 4], "observation: 'cart position' is \"fast\"; expected a finite number"),
        ([None, 2, 3, 4], "observation: 'cart position' is null; expected a finite number"),
        ([True, 2, 3, 4], "observation: 'cart position' is true; expected a finite number"),
        ("left" * 50, 'observation has "leftleft'),
        (None, "observation has null for an array; expected 4 numbers"),
    ],
)
def test_a_wrong_array_is_told_what_is_wrong(value: Any, answer: str) -> None:
    message = refused(named(), value)
    assert message.startswith(answer)
    assert len(message) < 200


@pytest.mark.parametrize(
    ("value", "answer"),
    [
        ([0.5, 1], "observation is an array; expected an object with the keys floor, joints"),
        ({"flor": 1, "joints": [0, 0]}, "unknown key of the observation 'flor'; did you mean 'floor'?"),
        ({"floor": 1}, "observation lacks the key 'joints'; expected floor, joints"),
        ({"floor": 4, "joints": [0, 0]}, "observation 'floor': number is 4; expected a whole number from 0 to 3"),
        ({"floor": 1.5, "joints": [0, 0]}, "observation 'floor': number is 1.5; expected a whole number"),
        ({"floor": 1, "joints": {"a": 1}}, "observation 'joints' is an object, but its numbers have no names"),
        ({"floor": 1, "joints": [0, "a"]}, "observation 'joints': number [1] is \"a\"; expected a finite number"),
    ],
)
def test_a_wrong_dict_is_told_what_is_wrong(value: Any, answer: str) -> None:
    assert refused(ObservationReader(DICT, ""), value).startswith(answer)


def test_whole_numbers_stay_in_their_range() -> None:
    pixels = ObservationReader(OTHERS["pixels"][0], "")
    message = "observation: number [1, 0, 2] is 256; expected a whole number from 0 to 255"
    with pytest.raises(KDError) as caught:
        pixels.read([[[1, 2, 3]], [[4, 5, 256]]])
    assert str(caught.value) == message
    parts = ObservationReader(OTHERS["parts"][0], "")
    with pytest.raises(KDError, match=r"number \[0\] is 3; expected a whole number from 0 to 2"):
        parts.read([3, 0])
    assert parts.read([2.0, 4])["obs"].tolist() == [2, 4]  # JSON has one kind of number
