"""Pickles as data: what they say comes out, what they would have called stays a record."""

import os
import pickle
import time
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from forged_checkpoints import Marking

from kd_agent import KDError
from kd_agent.teachers._pickled import MAX_BYTES, Built, Name, read_pickle

PLAIN: dict[str, Any] = {
    "numbers": [0, 1, -5, 300, 70_000, 2**40, 1.5],
    "nested": {"a": {"b": [(), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4)]}, 7: "by number"},
    "words": ["", "short", "long " * 100],
    "constants": [None, True, False],
    "ordered": OrderedDict(one=1),
}


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_plain_values_are_what_pickle_makes_of_them(protocol: int) -> None:
    # Before protocol 3 there were no bytes.
    plain = {**PLAIN, "bytes": [b"short", b"b" * 400]} if protocol > 2 else PLAIN
    assert read_pickle(pickle.dumps(plain, protocol), "f") == plain


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_nothing_is_called_and_what_would_have_been_is_told(protocol: int, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    found = read_pickle(pickle.dumps({"x": Marking(mark), "y": 1}, protocol), "f")
    assert not mark.exists()
    assert found["y"] == 1
    assert found["x"] == Built(Name(os.system.__module__, "system"), (f"touch {mark}",))
    # It would have been, by pickle's own reader.
    pickle.loads(pickle.dumps(Marking(mark), protocol))
    assert mark.exists()


def test_an_object_is_its_name_and_its_state() -> None:
    built = read_pickle(pickle.dumps(Path("a") / "b"), "f")
    assert (built.name.module.partition(".")[0], built.args[-1]) == ("pathlib", "b")
    array = read_pickle(pickle.dumps(np.arange(3.0)), "f")
    assert isinstance(array, Built)


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (b"", "damaged"),
        (b"\x80\x02", "damaged"),
        (b"\x80\x02}", "damaged"),
        (b".", "damaged"),
        (b"\x80\x02R.", "damaged"),
        (b"\x80\x02h\x05.", "damaged"),
        (b"\x80\x02t.", "damaged"),
        (b"cos\nsystem\n(S'x'\ntR.", "uses STRING"),
        (b"(ios\nsystem\n.", "uses INST"),
        (b"\x80\x02\x82\x01.", "uses EXT1"),
        (b"\x80\x02P1\n.", "uses PERSID"),
        (b"I" + b"9" * 50_000 + b"\n.", "."),
        (b"\x80\x02\x8a\xff" + b"\x7f" * 255 + b".", "too many digits"),
        (b"\x80\x02" + b"N0" * 300_000 + b"N.", "longer than a policy's"),
        (bytes(MAX_BYTES + 1), "exceeds 8 MiB"),
        (b"\x80\x02X\xff\xff\xff\x7f.", "damaged"),
    ],
)
def test_what_is_no_pickle_of_data_is_refused_in_one_line(raw: bytes, says: str) -> None:
    with pytest.raises(KDError, match=says) as caught:
        read_pickle(raw, "some.pt")
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("some.pt: ")


def test_what_is_nested_in_itself_many_times_costs_nothing() -> None:
    began = time.process_time()
    # [x, x] of [x, x] of ...: as a list, and as a key, whose hash would take for ever.
    doubled = b"\x80\x02)" + b"q\x00h\x00\x86" * 200
    read_pickle(doubled + b".", "f")
    assert read_pickle(b"\x80\x02}" + doubled[2:] + b"K\x01s.", "f") == {}
    memo = b"\x80\x02]r\xff\xff\xff\x7f."
    assert read_pickle(memo, "f") == []
    assert read_pickle(b"\x80\x02)" + b"\x85" * 100_000 + b".", "f")
    assert time.process_time() - began < 5


def test_mutants_are_read_or_refused_and_nothing_else() -> None:
    raw, rng = pickle.dumps(PLAIN, 2), np.random.default_rng(0)
    refused = 0
    for _ in range(2000):
        mutant = bytearray(raw)
        for place in rng.integers(len(raw), size=2):
            mutant[place] = rng.integers(256)
        try:
            read_pickle(bytes(mutant), "f")
        except KDError:
            refused += 1
    assert refused > 200


def memoised(what: bytes, times: int) -> bytes:
    """A pair of a pair of a pair ...: in so many bytes as many powers of two."""
    parts = [what]
    for index in range(times):
        place = bytes([index])
        parts.append(b"q" + place + b"h" + place + b"\x86")
    return b"".join(parts)


BOMBS = {
    "what is called is a tuple of ever more": b"\x80\x02" + memoised(b")", 60) + b")R.",
    "what is called is nested": b"\x80\x02" + b")" + b"\x85" * 100_000 + b")R.",
    "what is called was called": b"\x80\x02" + b")" + b")R" * 100_000 + b".",
    "a key of a megabyte": b"\x80\x02}X\x00\x00\x10\x00" + b"k" * (1 << 20) + b"}s.",
}


@pytest.mark.parametrize("raw", BOMBS.values(), ids=BOMBS)
def test_few_bytes_take_no_time_and_say_little(raw: bytes) -> None:
    begun = time.process_time()
    found = read_pickle(raw, "f")
    assert time.process_time() - begun < 2
    assert found == {} or found.name == Name("", "")


@pytest.mark.parametrize("name", [b"c" + b"m" * 300 + b"\nx\n", b"\x80\x04)\x8c\x01x\x93"])
def test_a_name_that_is_none_is_refused(name: bytes) -> None:
    with pytest.raises(KDError, match="names what no saved policy does"):
        read_pickle(name + b".", "f")
