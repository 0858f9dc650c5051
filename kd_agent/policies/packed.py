"""Weights of very few values: whole numbers within +-7 (`int4`) or +-1 (`ternary`), and a scale for each output.

A weight that lies on such a grid is float32 like any other wherever it acts; where bytes count, in a student's file
and in C, it is the whole numbers that it is made of, two or five to a byte. Nothing is lost on the way: a scale has so
few digits that its products with them are exact.

Letters: `m` outputs, `n` inputs.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from kd_agent.errors import KDError
from kd_agent.policies.head import Array

INT4 = 7
"""Largest whole number of 4 bits, the same on either side of zero."""
TERNARY = 1
PER_BYTE = {INT4: 2, TERNARY: 5}
"""How many whole numbers a byte holds, by the largest of them."""
ZERO = {INT4: 8, TERNARY: 1}
"""What stands for 0 in a byte: digits have no sign."""
_LAST_DIGITS = 0x7F
"""The bits of a float32 that a scale leaves 0: those that a whole number may add."""
_THRESHOLD = 0.7
"""The share of a row's mean magnitude below which a weight becomes 0 (Li et al. 2016, Ternary Weight Networks)."""


@dataclass(frozen=True)
class Packed:
    """A weight as whole numbers.

    Attributes:
        largest: `INT4` or `TERNARY`.
        whole: int8 `[m, n]`, within `+-largest`.
        scale: float32 `[m]`.
    """

    largest: int
    whole: Array
    scale: Array

    @property
    def weight(self) -> Array:
        """The weight `[m, n]`, float32."""
        # A forged scale may overflow; whoever reads the weight looks whether it is finite.
        with np.errstate(all="ignore"):
            return np.asarray(self.whole * self.scale[:, None], np.float32)

    @property
    def nbytes(self) -> int:
        """Bytes of the digits and the scales."""
        m, n = self.whole.shape
        return int(m * -(-n // PER_BYTE[self.largest]) + 4 * m)


def int4(weight: Array) -> Packed:
    """The nearest whole numbers of 4 bits; the largest weight of each row is the largest of them.

    Args:
        weight: `[m, n]`.
    """
    scale = _short(np.abs(weight).max(axis=1) / INT4)
    whole = np.rint(weight / scale[:, None])
    return Packed(INT4, whole.astype(np.int8), scale)


def ternary(weight: Array) -> Packed:
    """The signs of what is large in its row, times the mean magnitude of that (Li et al. 2016).

    Args:
        weight: `[m, n]`.
    """
    size = np.abs(weight)
    # Not below it: in a row of one magnitude, or of zeros, all is large.
    large = size >= _THRESHOLD * size.mean(axis=1, keepdims=True)
    scale = _short((size * large).sum(axis=1) / large.sum(axis=1))
    whole = np.sign(weight) * large
    return Packed(TERNARY, whole.astype(np.int8), scale)


GRIDS: dict[str, Callable[[Array], Packed]] = {"ternary": ternary, "int4": int4}
"""Whole numbers for any weight; the narrowest grid first."""


def exactly(weight: Array) -> Packed | None:
    """A weight as whole numbers of the narrowest grid that says its every bit, in fewer bytes; None where none does.

    Args:
        weight: `[m, n]`.
    """
    if weight.dtype != np.float32 or weight.ndim != 2:
        return None
    # Sums of weights near the end of float32 overflow, and then lie on no grid.
    with np.errstate(all="ignore"):
        for nearest in GRIDS.values():
            packed = nearest(weight)
            if packed.nbytes < weight.nbytes and packed.weight.tobytes() == weight.tobytes():
                return packed
    return None


def pack(packed: Packed) -> Array:
    """The digits, row by row; the last byte of a row is filled up with zeros.

    Of two digits of 4 bits the first is the low half of their byte. Five ternary ones are a fraction of 256, rounded
    up: times three, it carries over one digit after the other.

    Returns:
        uint8 `[m, ceil(n / PER_BYTE)]`.
    """
    m, n = packed.whole.shape
    count = PER_BYTE[packed.largest]
    whole = np.pad(packed.whole.astype(np.int32), ((0, 0), (0, -n % count)))
    digits = (whole + ZERO[packed.largest]).reshape(m, -1, count)
    if packed.largest == INT4:
        return np.asarray(digits[..., 0] + 16 * digits[..., 1], np.uint8)
    number = digits @ (3 ** np.arange(count)[::-1])
    return np.asarray(-(-256 * number // 3**count), np.uint8)


def unpack(digits: Array, scale: Array, n: int, largest: int) -> Packed:
    """Inverse of `pack`.

    Args:
        digits: uint8 `[m, ceil(n / PER_BYTE)]`.
        scale: float32 `[m]`.
        n: Inputs.
        largest: `INT4` or `TERNARY`.

    Raises:
        KDError: `largest` is neither, or the arrays are not of these shapes.
    """
    if largest not in PER_BYTE:
        raise KDError(f"packed weights go up to {TERNARY} (ternary) or {INT4} (4 bits), not {largest!r}")
    count = PER_BYTE[largest]
    wanted = (len(scale), -(-n // count))
    types = (digits.dtype.name, scale.dtype.name)
    if types != ("uint8", "float32") or scale.ndim != 1 or digits.shape != wanted or n < 1:
        raise KDError(f"packed weights have shape {digits.shape}, expected {wanted}")
    rest = digits.astype(np.int32)
    parts = [rest & 15, rest >> 4]
    if largest == TERNARY:
        parts = []
        for _ in range(count):
            parts.append(3 * rest >> 8)
            rest = 3 * rest & 255
    whole = np.stack(parts, axis=-1).reshape(len(scale), -1)[:, :n] - ZERO[largest]
    return Packed(largest, whole.astype(np.int8), scale)


def _short(scale: Array) -> Array:
    """Scales, float32, with zeros for their last digits; what is 0 becomes what can be divided by."""
    bits = np.maximum(scale, 1e-12).astype(np.float32).view(np.int32)
    # To the nearest: half of what is left off is added before.
    return ((bits + (_LAST_DIGITS + 1) // 2) & ~_LAST_DIGITS).view(np.float32)
