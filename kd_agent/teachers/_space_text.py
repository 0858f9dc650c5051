"""Gymnasium spaces from the readable text that Stable-Baselines3 writes beside each pickled one."""

import math
import re
from typing import Any

import gymnasium as gym
import numpy as np

from kd_agent.policies import Array

# No environment comes near these; a hostile text that claims more is not worth its memory.
_MAX = 1 << 20
_MAX_BOX = 1 << 20
"""Numbers of all Boxes of a space: 640 x 480 in colour, more than the layers of a zip of 64 MiB read."""
_MAX_TEXT = 1 << 16
"""Characters of a row of numbers, which NumPy elides from a thousand on."""
_NUMBER = re.compile(r"[-+]?(?:inf|\d+\.?\d*(?:e[-+]?\d+)?)")
_DTYPE = re.compile(r"float(?:16|32|64)|u?int(?:8|16|32|64)|bool")
_PART = re.compile(
    r"(?P<quote>['\"])(?P<key>.*?)(?P=quote)(?:,|:) "
    r"(?:Discrete\((?P<n>\d+)(?:, start=(?P<first>-?\d+))?\)|MultiBinary\(\(?(?P<bits>\d[\d, ]*)\)?\)"
    r"|MultiDiscrete\(\[(?P<nvec>[\d\s]*)\](?:, start=\[(?P<starts>[-\d\s]*)\])?\)"
    r"|Box\((?P<bounds>[^()]*), \((?P<shape>[\d, ]*)\), (?P<dtype>\w+)\))"
)
"""A part of a Dict space: `'key': Box(low, high, (shape), dtype)`; in gym, `('key', Box(...))`."""
_CONSTRUCTOR = re.compile(r"\b(?:Box|Discrete|MultiDiscrete|MultiBinary|Dict|Tuple|Text)\(")
"""What makes a space; the `OrderedDict(` around the parts of old gym is none."""


def space(record: Any) -> gym.Space[Any] | None:
    """The space that the readable part of a pickled space describes; None where it is elided."""
    if not isinstance(record, dict):
        return None
    kind = str(record.get(":type:", ""))
    if ".Dict'" in kind:
        return _dict(str(record.get("spaces", "")))
    if ".MultiDiscrete'" in kind:
        return _multi_discrete(_numbers(record.get("nvec")), record.get("start"))
    if ".Discrete'" in kind:
        return _discrete(_count(record.get("n")), record.get("start"))
    if ".MultiBinary'" in kind:
        return _multi_binary(record.get("n"))
    if ".Box'" in kind:
        return _box(record)
    return None


def _discrete(count: int | None, start_text: Any) -> gym.Space[Any] | None:
    # Old gym had no start.
    start = (_numbers(start_text) or [0.0])[0]
    if count is None or abs(start) >= _MAX:
        return None
    return gym.spaces.Discrete(count, start=int(start))


def _multi_discrete(nvec: list[float] | None, start_text: Any) -> gym.Space[Any] | None:
    if not nvec or min(nvec) < 1 or sum(nvec) >= _MAX:
        return None
    start = _numbers(start_text) or [0.0] * len(nvec)
    if len(start) != len(nvec) or max(map(abs, start)) >= _MAX:
        return None
    return gym.spaces.MultiDiscrete(list(map(int, nvec)), start=list(map(int, start)))


def _multi_binary(text: Any) -> gym.Space[Any] | None:
    """Of one axis, `3`, or of several, `[2, 3]`."""
    sizes = _numbers(text)
    if not sizes or min(sizes) < 1 or not math.prod(sizes) < _MAX:
        return None
    shape = list(map(int, sizes))
    return gym.spaces.MultiBinary(shape[0] if len(shape) == 1 else shape)


def _box(record: dict[str, Any]) -> gym.Space[Any] | None:
    shape = _numbers(record.get("_shape", record.get("shape")))
    if shape is None or min(shape, default=1) < 1 or not 0 < math.prod(shape) < _MAX_BOX:
        return None
    low, high = record.get("low"), record.get("high")
    size = math.prod(map(int, shape))
    if _bound(low, size) is None or _bound(high, size) is None:
        # NumPy elides long arrays; newer Gymnasiums keep a short text where all bounds are one number.
        low, high = record.get("low_repr"), record.get("high_repr")
    # In quotes or as the class that it is; a number of bits that NumPy has not says nothing.
    dtype = _DTYPE.search(str(record.get("dtype", "float32")))
    return _bounded(shape, dtype.group(), low, high) if dtype else None


def _bounded(shape: list[float], dtype: str, low: Any, high: Any) -> gym.Space[Any] | None:
    """A Box; None where its bounds are elided, or are none."""
    size = math.prod(map(int, shape))
    low_bound = _bound(low, size)
    high_bound = _bound(high, size)
    if low_bound is None or high_bound is None:
        return None
    sizes = tuple(map(int, shape))
    low_array = _filled(low_bound, sizes, dtype)
    high_array = _filled(high_bound, sizes, dtype)
    if low_array is None or high_array is None or not (low_array <= high_array).all():
        return None
    box: gym.Space[Any] = gym.spaces.Box(low_array, high_array, dtype=np.dtype(dtype).type)
    return box


def _filled(bound: list[float], shape: tuple[int, ...], dtype: str) -> Array | None:
    """A bound as an array; None where its type does not hold the numbers."""
    kind = np.dtype(dtype)
    # Whole numbers stay Python's until here: a float holds no bound of int64 exactly.
    if kind.kind in "iu" and not np.iinfo(kind).min <= min(bound) <= max(bound) <= np.iinfo(kind).max:
        return None
    return np.resize(np.array(bound, kind), shape)


def _dict(text: str) -> gym.Space[Any] | None:
    """A Dict from the text of its parts, in their order; None where a part is not understood."""
    parts: dict[str, gym.Space[Any]] = {}
    found = list(_PART.finditer(text))
    # Counted before any is made: a hundred large Boxes would take minutes.
    if sum(math.prod(_shown(match["shape"] or "0")) for match in found) >= _MAX_BOX:
        return None
    for match in found:
        part = _part(match)
        if part is None:
            return None
        parts[match["key"]] = part
    # A part that the pattern passes over would otherwise be missing without a word.
    mentioned = len(_CONSTRUCTOR.findall(text))
    if not parts or len(parts) != mentioned:
        return None
    return gym.spaces.Dict(list(parts.items()))


def _part(match: re.Match[str]) -> gym.Space[Any] | None:
    """A part of a Dict from the groups of `_PART`."""
    if match["n"] is not None:
        return _discrete(_count(match["n"]), match["first"])
    if match["bits"] is not None:
        return _multi_binary(match["bits"])
    if match["nvec"] is not None:
        return _multi_discrete(_numbers(match["nvec"]), match["starts"])
    return _part_box(match["bounds"], _numbers(match["shape"]), match["dtype"])


def _part_box(bounds: str, shape: list[float] | None, dtype: str) -> gym.Space[Any] | None:
    """A Box of a Dict; nobody compares an observation's bounds, so those of long text count as infinite."""
    if not shape or min(shape) < 1 or math.prod(shape) >= _MAX_BOX:
        return None
    if not _DTYPE.fullmatch(dtype):
        return None
    low, _, high = bounds.partition(", ")
    size = math.prod(map(int, shape))
    known = _bound(low, size) and _bound(high, size)
    if not known and np.dtype(dtype).kind == "f":
        low, high = "-inf", "inf"
    elif not known and dtype != "uint8":  # whose bounds tell images from other bytes
        low, high = str(np.iinfo(dtype).min), str(np.iinfo(dtype).max)
    return _bounded(shape, dtype, low, high)


def _numbers(text: Any) -> list[float] | None:
    """The numbers in a text such as `[1. -inf 2e3]`; None where it is elided or absent."""
    if text is None or "..." in str(text) or len(str(text)) > _MAX_TEXT:
        return None
    return _shown(text)


def _shown(text: Any) -> list[float]:
    plain = str(text).replace("False", "0").replace("True", "1")
    return list(map(_number, _NUMBER.findall(plain)))


def _number(text: str) -> float:
    """A whole number as it is, which is what bounds of int64 need; others as floats."""
    # Python refuses whole numbers of thousands of digits, and no bound has them.
    return int(text) if re.fullmatch(r"[-+]?\d{1,20}", text) else float(text)


def _count(text: Any) -> int | None:
    """A whole number from 1 to less than `_MAX`; None where the text tells none."""
    numbers = _numbers(text)
    if not numbers or not 1 <= numbers[0] < _MAX:
        return None
    return int(numbers[0])


def _bound(text: Any, size: int) -> list[float] | None:
    """A bound's numbers, one for all or one for each of `size`; None where they are elided or others."""
    # NumPy elides long arrays; where all that it shows is one number, the rest is that number too.
    if "..." in str(text) and len(set(_shown(text))) == 1:
        return _shown(text)[:1]
    numbers = _numbers(text)
    if not numbers or len(numbers) not in (1, size):
        return None
    return numbers
