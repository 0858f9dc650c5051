"""Weights as int8: whole numbers within +-127 and, for each output, a scale.

Letters: `m` outputs; what a weight has beyond its first axis is free.
"""

import numpy as np

from kd_agent.policies.head import Array

LARGEST = 127


def quantise(weight: Array) -> tuple[Array, Array]:
    """`weight [m, ...]` as int8 `[m, ...]` and float32 scales `[m]`: `weight` is about `scale * int8`."""
    scale = np.maximum(np.abs(weight).reshape(len(weight), -1).max(axis=1), 1e-12) / LARGEST
    return np.rint(weight / _wide(scale, weight)).astype(np.int8), np.asarray(scale, np.float32)


def rounded(weight: Array) -> Array:
    """`weight [m, ...]` moved to the nearest numbers that int8 can say, float32."""
    whole, scale = quantise(weight)
    return np.asarray(whole * _wide(scale, weight), np.float32)


def _wide(scale: Array, weight: Array) -> Array:
    return scale.reshape(-1, *[1] * (weight.ndim - 1))
