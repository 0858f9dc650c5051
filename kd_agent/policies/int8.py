"""Weights as int8: whole numbers within +-127 and, for each output, a scale.

Letters: `m` outputs; what a weight has beyond its first axis is free.
"""

import numpy as np

from kd_agent.policies.head import Array

LARGEST = 127
"""Not -128, so that the numbers are the same on either side of zero and `-weight` is as exact as `weight`."""


def quantise(weight: Array) -> tuple[Array, Array]:
    """`weight [m, ...]` as int8 `[m, ...]` and float32 scales `[m]`: `weight` is about `scale * int8`."""
    largest = np.abs(weight).reshape(len(weight), -1).max(axis=1)
    # A pruned output may be all zeros: it keeps a scale that can be divided by.
    scale = np.maximum(largest, 1e-12) / LARGEST
    whole = np.rint(weight / _along_outputs(scale, weight)).astype(np.int8)
    return whole, np.asarray(scale, np.float32)


def rounded(weight: Array) -> Array:
    """`weight [m, ...]` moved to the nearest numbers that int8 can say, float32."""
    whole, scale = quantise(weight)
    return np.asarray(whole * _along_outputs(scale, weight), np.float32)


def _along_outputs(scale: Array, weight: Array) -> Array:
    """`[m]` as `[m, 1, ...]`, with as many axes as the weight."""
    return scale.reshape(-1, *[1] * (weight.ndim - 1))
