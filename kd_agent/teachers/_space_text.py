"""Gymnasium spaces from the readable text that Stable-Baselines3 writes beside each pickled one."""

import math
import re
from typing import Any

import gymnasium as gym
import numpy as np

# No environment comes near these; a hostile text that claims more is not worth its memory.
_MAX = 1 << 20
_MAX_BOX = 1 << 20
"""Numbers of all Boxes of a space: 640 x 480 in colour, more than the layers of a zip of 64 MiB read."""
_MAX_TEXT = 1 << 16
"""Characters of a row of numbers, which NumPy elides from a thousand on."""
_PART = re.compile(
    r"'(?P<key>[^']*)'(?:,|:) "
    r"(?:(?P<simple>Discrete|MultiBinary)\((?P<n>\d+)\)|MultiDiscrete\(\[(?P<nvec>[\d\s]*)\]\)"
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
        return _multi_discrete(_numbers(record.get("nvec")))
    if ".Discrete'" in kind:
        return _discrete(_count(record.get("n")), record.get("start"))
    if ".MultiBinary'" in kind:
        return _multi_binary(_count(record.get("n")))
    if ".Box'" in kind:
        return _box(record)
    return None


def _discrete(count: int | None, start_text: Any) -> gym.Space[Any] | None:
    # Old gym had no start.
    start = (_numbers(start_text) or [0.0])[0]
    if count is None or abs(start) >= _MAX:
        return None
    return gym.spaces.Discrete(count, start=int(start))


def _multi_discrete(nvec: list[float] | None) -> gym.Space[Any] | None:
    if not nvec or min(nvec) < 1 or sum(nvec) >= _MAX:
        return None
    return gym.spaces.MultiDiscrete(list(map(int, nvec)))


def _multi_binary(count: int | None) -> gym.Space[Any] | None:
    return None if count is None else gym.spaces.MultiBinary(count)


def _box(record: dict[str, Any]) -> gym.Space[Any] | None:
    shape = _numbers(record.get("_shape", record.get("shape")))
    if shape is None or min(shape, default=1) < 1 or not 0 < np.prod(shape) < _MAX_BOX:
        return None
    low, high = record.get("low"), record.get("high")
    size = int(np.prod(shape))
    if _bound(low, size) is None or _bound(high, size) is None:
        # NumPy elides long arrays; newer Gymnasiums keep a short text where all bounds are one number.
        low, high = record.get("low_repr"), record.get("high_repr")
    # Quotes and blanks around the name say nothing.
    dtype = re.sub(r"\W", "", str(record.get("dtype", "float32")))
    return _bounded(shape, dtype, low, high)


def _bounded(shape: list[float], dtype: str, low: Any, high: Any) -> gym.Space[Any] | None:
    """A Box; an image whose bounds are elided has those of its bytes."""
    size = int(np.prod(shape))
    low_bound = _bound(low, size)
    high_bound = _bound(high, size)
    if dtype == "uint8" and (low_bound is None or high_bound is None):
        low_bound, high_bound = [0.0], [255.0]
    if low_bound is None or high_bound is None or dtype not in ("float32", "float64", "uint8"):
        return None
    sizes = tuple(map(int, shape))
    low_array = np.resize(low_bound, sizes).astype(dtype)
    high_array = np.resize(high_bound, sizes).astype(dtype)
    if not (low_array <= high_array).all():
        return None
    box: gym.Space[Any] = gym.spaces.Box(low_array, high_array, dtype=np.dtype(dtype))
    return box


def _dict(text: str) -> gym.Space[Any] | None:
    """A Dict from the text of its parts, in their order; None where a part is not understood."""
    parts: dict[str, gym.Space[Any]] = {}
    found = list(_PART.finditer(text))
    # Counted before any is made: a hundred large Boxes would take minutes.
    if sum(math.prod(map(int, re.findall(r"\d+", match["shape"] or "0"))) for match in found) >= _MAX_BOX:
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
    if match["simple"] == "Discrete":
        return _discrete(_count(match["n"]), None)
    if match["simple"] == "MultiBinary":
        return _multi_binary(_count(match["n"]))
    if match["nvec"] is not None:
        return _multi_discrete(_numbers(match["nvec"]))
    return _part_box(match["bounds"], _numbers(match["shape"]), match["dtype"])


def _part_box(bounds: str, shape: list[float] | None, dtype: str) -> gym.Space[Any] | None:
    """A Box of a Dict; nobody compares an observation's bounds, so those of long text count as infinite."""
    if not shape or min(shape) < 1 or np.prod(shape) >= _MAX_BOX:
        return None
    low, _, high = bounds.partition(", ")
    size = int(np.prod(shape))
    known = _bound(low, size) and _bound(high, size)
    if not known and dtype != "uint8":
        low, high = "-inf", "inf"
    return _bounded(shape, dtype, low, high)


def _numbers(text: Any) -> list[float] | None:
    """The numbers in a text such as `[1. -inf 2e3]`; None where it is elided or absent."""
    if text is None or "..." in str(text) or len(str(text)) > _MAX_TEXT:
        return None
    found = re.findall(r"[-+]?(?:inf|\d+\.?\d*(?:e[-+]?\d+)?)", str(text))
    return list(map(float, found))


def _count(text: Any) -> int | None:
    """A whole number from 1 to less than `_MAX`; None where the text tells none."""
    numbers = _numbers(text)
    if not numbers or not 1 <= numbers[0] < _MAX:
        return None
    return int(numbers[0])


def _bound(text: Any, size: int) -> list[float] | None:
    """A bound's numbers, one for all or one for each of `size`; None where they are elided or others."""
    numbers = _numbers(text)
    if not numbers or len(numbers) not in (1, size):
        return None
    return numbers
