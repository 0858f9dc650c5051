"""Spaces from the text that Stable-Baselines3 writes beside each pickled one."""

import json
import time
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from stable_baselines3.common.save_util import data_to_json

from kd_agent.teachers._space_text import space

BOX = {
    ":type:": "<class 'gymnasium.spaces.box.Box'>",
    "dtype": "float32",
    "_shape": [2],
    "low": "[-1. -inf]",
    "high": "[1.  2.5e1]",
}


def record(kind: str, **fields: Any) -> dict[str, Any]:
    return {":type:": f"<class 'gymnasium.spaces.{kind.lower()}.{kind}'>", **fields}


def a_dict(text: str) -> gym.Space[Any] | None:
    return space(record("Dict", spaces=text))


READ: dict[str, tuple[dict[str, Any], gym.Space[Any]]] = {
    "discrete": (record("Discrete", n="4", start="2"), gym.spaces.Discrete(4, start=2)),
    "discrete of gym": ({":type:": "<class 'gym.spaces.discrete.Discrete'>", "n": 4}, gym.spaces.Discrete(4)),
    "multi-discrete": (record("MultiDiscrete", nvec="[3 4]"), gym.spaces.MultiDiscrete([3, 4])),
    "multi-binary": (record("MultiBinary", n="3"), gym.spaces.MultiBinary(3)),
    "box": (BOX, gym.spaces.Box(np.float32([-1, -np.inf]), np.float32([1, 25]))),
    "box of one bound": ({**BOX, "low": "-3.0", "high": "3.0"}, gym.spaces.Box(-3, 3, (2,))),
    "box whose bounds are elided, and told again": (
        {**BOX, "low": "[-1. ... -1.]", "high": "[1. ... 1.]", "low_repr": "-1.0", "high_repr": "1.0"},
        gym.spaces.Box(-1, 1, (2,)),
    ),
    "image": (
        {**BOX, "dtype": "uint8", "_shape": [3, 8, 8], "low": "[[[0 ... 0]]]", "high": "[[[255 ... 255]]]"},
        gym.spaces.Box(0, 255, (3, 8, 8), np.uint8),
    ),
}


@pytest.mark.parametrize("case", READ)
def test_what_is_told_is_read(case: str) -> None:
    told, wanted = READ[case]
    assert space(told) == wanted


def test_the_parts_of_a_dict_keep_their_order() -> None:
    text = "{'word': Discrete(3), 'arm': Box(-1.0, 1.0, (2,), float32), 'bits': MultiBinary(4)}"
    found = a_dict(text)
    assert isinstance(found, gym.spaces.Dict)
    assert list(found) == ["word", "arm", "bits"]
    assert found["arm"] == gym.spaces.Box(-1, 1, (2,))
    old = a_dict("OrderedDict([('dice', MultiDiscrete([2 4])), ('eye', Box(0, 255, (8, 8, 3), uint8))])")
    assert isinstance(old, gym.spaces.Dict)
    assert (old["dice"], old["eye"].shape) == (gym.spaces.MultiDiscrete([2, 4]), (8, 8, 3))


def test_long_bounds_of_a_part_count_as_infinite_where_they_are_not_all_one() -> None:
    found = a_dict("{'arm': Box([-1. ... -2.], [1. ... 1.], (9,), float32), 'leg': Box([-1 ... -2], 3, (9,), int16)}")
    assert isinstance(found, gym.spaces.Dict)
    assert found["arm"] == gym.spaces.Box(-np.inf, np.inf, (9,))
    assert found["leg"] == gym.spaces.Box(-(2**15), 2**15 - 1, (9,), np.int16)
    alike = a_dict("{'arm': Box([-1. ... -1.], [1. ... 1.], (9,), float32)}")
    assert isinstance(alike, gym.spaces.Dict)
    assert alike["arm"] == gym.spaces.Box(-1, 1, (9,))


SPACES = [
    gym.spaces.Discrete(3, start=-2),
    gym.spaces.MultiDiscrete([3, 2], start=[1, 5]),
    gym.spaces.MultiBinary((2, 3)),
    gym.spaces.Box(0, 1, (2,), np.bool_),
    gym.spaces.Box(-1, 1, (2, 2), np.float16),
    gym.spaces.Box(0, 100, (36, 36, 3), np.uint8),
    gym.spaces.Box(-(2**63), 2**63 - 1, (2,), np.int64),
    *(gym.spaces.Box(0, 9, (2,), kind) for kind in (np.int8, np.int16, np.int32, np.int64, np.uint16, np.uint64)),
]


@pytest.mark.parametrize("wanted", SPACES, ids=str)
def test_every_space_is_read_as_stable_baselines3_writes_it(wanted: gym.Space[Any]) -> None:
    def told(value: gym.Space[Any]) -> Any:
        return json.loads(data_to_json({"space": value}))["space"]

    assert space(told(wanted)) == wanted
    # No quotes in the key of the first part, an apostrophe in that of the second.
    both = gym.spaces.Dict({"a": wanted, "it's": wanted})
    assert space(told(both)) == both


SILENT: dict[str, Any] = {
    "nothing": None,
    "text": "Discrete(4)",
    "another class": record("Text", n="4"),
    "no count": record("Discrete"),
    "a count of 0": record("Discrete", n="0"),
    "half a choice": record("Discrete", n="0.5"),
    "a choice of half": record("MultiDiscrete", nvec="[0.5 3]"),
    "no choices": record("MultiDiscrete", nvec="[]"),
    "a million bits": record("MultiBinary", n="1048576"),
    "an infinite start": record("Discrete", n="3", start="inf"),
    "elided choices": record("MultiDiscrete", nvec="[3 ... 4]"),
    "no shape": {**BOX, "_shape": None},
    "an empty axis": {**BOX, "_shape": [0]},
    "a huge shape": {**BOX, "_shape": [1 << 30]},
    "bounds of another shape": {**BOX, "low": "[1. 2. 3.]"},
    "bounds the wrong way": {**BOX, "low": "[3. 3.]", "high": "[1. 1.]"},
    "another dtype": {**BOX, "dtype": "complex64"},
    "an empty dict": record("Dict", spaces="{}"),
    "a dict in a dict": record("Dict", spaces="{'a': Dict('b': Discrete(3))}"),
    "a part that is not understood": record("Dict", spaces="{'a': Discrete(3), 'b': Text(1, 5, charset=ab)}"),
    "two starts for three choices": record("MultiDiscrete", nvec="[3 4 5]", start="[1 2]"),
    "a bound beyond its type": {**BOX, "dtype": "int8", "low": "[0 0]", "high": "[300 300]"},
    "bytes of any bounds": {**BOX, "dtype": "uint8", "_shape": [900], "low": "[0 ... 0]", "high": "[1 2 ... 9]"},
    "axes whose product is beyond any number": {**BOX, "_shape": [1 << 40, 1 << 40]},
    "a part of axes of thousands of digits": record(
        "Dict", spaces=f"{{'a': Box(-1.0, 1.0, ({'9' * 5000},), float32)}}"
    ),
    "a part of no choices": record("Dict", spaces="{'a': Discrete(3), 'b': Discrete(0)}"),
}


@pytest.mark.parametrize("case", SILENT)
def test_what_is_not_told_or_makes_no_space_is_none(case: str) -> None:
    assert space(SILENT[case]) is None


def test_spaces_that_are_too_large_are_not_made() -> None:
    started = time.monotonic()
    huge = "Box(-1.0, 1.0, (4000, 4000), float32)"
    large = "Box(-1.0, 1.0, (1000, 1000), float32)"
    assert space(record("Box", _shape="(16000000,)", dtype="float32", low="-1", high="1")) is None
    assert a_dict(f"{{'a': {huge}}}") is None
    assert a_dict("{" + ", ".join(f"'k{i}': {large}" for i in range(100)) + "}") is None
    assert space(record("Box", _shape="(" + "1, " * 2_000_000 + ")", dtype="float32", low="-1", high="1")) is None
    assert time.monotonic() - started < 2
