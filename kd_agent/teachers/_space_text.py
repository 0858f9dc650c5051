"""Gymnasium spaces from the readable text that Stable-Baselines3 writes beside each pickled one."""

import re
from typing import Any

import gymnasium as gym
import numpy as np

_MAX = 1 << 20
_PART = re.compile(
    r"'([^']*)'(?:,|:) "
    r"(?:(Discrete|MultiBinary)\((\d+)\)|(MultiDiscrete)\(\[([\d\s]*)\]\)"
    r"|(Box)\(([^()]*), \(([\d, ]*)\), (\w+)\))"
)
"""A part of a Dict space: `'key': Box(low, high, (shape), dtype)`; in gym, `('key', Box(...))`."""


def space(record: Any) -> gym.Space[Any] | None:
    """The space that the readable part of a pickled space describes; None where it is elided."""
    if not isinstance(record, dict):
        return None
    kind = str(record.get(":type:", ""))
    if ".Dict'" in kind:
        return _dict(str(record.get("spaces", "")))
    n = _numbers(record.get("n"))
    start = (_numbers(record.get("start")) or [0.0])[0]
    if ".Discrete'" in kind and n and 0 < n[0] < _MAX and abs(start) < _MAX:
        return gym.spaces.Discrete(int(n[0]), start=int(start))
    if ".MultiDiscrete'" in kind and (nvec := _numbers(record.get("nvec"))):
        return _multi_discrete(nvec)
    if ".MultiBinary'" in kind and n and 0 < n[0] < _MAX:
        return gym.spaces.MultiBinary(int(n[0]))
    return _box(record) if ".Box'" in kind else None


def _box(record: dict[str, Any]) -> gym.Space[Any] | None:
    shape = _numbers(record.get("_shape", record.get("shape")))
    if shape is None or min(shape, default=1) < 1 or not 0 < np.prod(shape) < 1 << 24:
        return None
    sides = [record.get(side) for side in ("low", "high")]
    if any(_bound(side, int(np.prod(shape))) is None for side in sides):
        sides = [record.get(f"{side}_repr") for side in ("low", "high")]
    return _bounded(shape, re.sub(r"\W", "", str(record.get("dtype", "float32"))), *sides)


def _bounded(shape: list[float], dtype: str, low: Any, high: Any) -> gym.Space[Any] | None:
    """A Box; an image whose bounds are elided has those of its bytes."""
    size = int(np.prod(shape))
    bounds = [_bound(low, size), _bound(high, size)]
    if dtype == "uint8" and None in bounds:
        bounds = [[0.0], [255.0]]
    if bounds[0] is None or bounds[1] is None or dtype not in ("float32", "float64", "uint8"):
        return None
    sides = [np.resize(bound, [int(n) for n in shape]).astype(dtype) for bound in bounds]  # type: ignore[arg-type]
    if not (sides[0] <= sides[1]).all():
        return None
    box: gym.Space[Any] = gym.spaces.Box(sides[0], sides[1], dtype=np.dtype(dtype))
    return box


def _multi_discrete(nvec: list[float]) -> gym.Space[Any] | None:
    return gym.spaces.MultiDiscrete([int(n) for n in nvec]) if min(nvec) > 0 and sum(nvec) < _MAX else None


def _dict(text: str) -> gym.Space[Any] | None:
    """A Dict from the text of its parts, in their order; None where a part is not understood."""
    parts: dict[str, Any] = {}
    for key, simple, n, multi, nvec, box, bounds, shape, dtype in _PART.findall(text):
        if simple:
            parts[key] = getattr(gym.spaces, simple)(int(n)) if 0 < int(n) < _MAX else None
        elif multi:
            parts[key] = _multi_discrete(_numbers(nvec) or [0])
        elif box:
            parts[key] = _part_box(bounds, _numbers(shape), dtype)
    complete = parts and len(parts) == len(re.findall(r"Box\(|Discrete\(|MultiBinary\(|Dict\(|Tuple\(|Text\(", text))
    return gym.spaces.Dict(list(parts.items())) if complete and None not in parts.values() else None


def _part_box(bounds: str, shape: list[float] | None, dtype: str) -> gym.Space[Any] | None:
    """A Box of a Dict; nobody compares an observation's bounds, so those of long text count as infinite."""
    if not shape or min(shape) < 1 or np.prod(shape) >= 1 << 24:
        return None
    low, _, high = bounds.partition(", ")
    known = _bound(low, int(np.prod(shape))) and _bound(high, int(np.prod(shape)))
    return _bounded(shape, dtype, *((low, high) if known or dtype == "uint8" else ("-inf", "inf")))


def _numbers(text: Any) -> list[float] | None:
    """The numbers in a text such as `[1. -inf 2e3]`; None where it is elided or absent."""
    if text is None or "..." in str(text):
        return None
    found = re.findall(r"[-+]?(?:inf|\d+\.?\d*(?:e[-+]?\d+)?)", str(text))
    return [float(x) for x in found]


def _bound(text: Any, size: int) -> list[float] | None:
    numbers = _numbers(text)
    return numbers if numbers and len(numbers) in (1, size) else None
