"""How a layer is stored for processors without floating point: its weights on their grid, scales as factors, bytes.

Letters: `m` outputs, `n` inputs of a layer.
"""

import math
from dataclasses import replace

import numpy as np

from kd_agent.policies import Array, Op
from kd_agent.policies.int8 import quantise
from kd_agent.policies.packed import INT4, PER_BYTE, TERNARY, exactly, pack

_MOST_BIAS = 2**29
_MOST_FACTOR = 2**16 - 1


def as_bytes(count: int, *parts: tuple[Array, str]) -> Array:
    """Rows of bytes, uint8 `[count, *]`.

    Args:
        count: Of rows.
        parts: Of each row, numbers `[count]` or `[count, n]`, or one for all rows, and their type.
    """
    columns: list[Array] = []
    for numbers, kind in parts:
        whole = np.ascontiguousarray(np.broadcast_to(numbers, (count, *numbers.shape[1:])).astype(kind))
        columns.append(whole.reshape(count, -1).view(np.uint8))
    return np.concatenate(columns, axis=1)


def factors(ratio: Array) -> tuple[int, Array]:
    """By how many bytes sums are shifted up, and the 16 bits by which each is then multiplied.

    Args:
        ratio: Of the units of sums and outputs, `[m]`.
    """
    up = max(math.ceil(math.log2(ratio.max() * 2**24 / _MOST_FACTOR) / 8), 0)
    return up, np.rint(ratio * 2.0 ** (24 - 8 * up))


def on_grid(op: Op, unit: float) -> tuple[str, int, Array, Array]:
    """How a layer's weights `[m, n]` are stored.

    Args:
        op: The layer.
        unit: Of its inputs.

    Returns:
        The function that reads them, how many inputs that takes, the bytes `[m, *]`, and what a unit of each output's
        sum stands for, `[m]`.
    """
    weight, bias = op.tensors["weight"], np.broadcast_to(op.tensors["bias"], (len(op.tensors["weight"]),))
    packed = exactly(weight)
    if packed is None:
        whole, scale = quantise(weight)
    else:
        whole, scale = packed.whole, packed.scale
    # An output that is next to its bias alone has a scale so small that the bias would pass the sum's bits.
    least = np.abs(bias) / (unit * _MOST_BIAS)
    coarse = np.maximum(scale, least)
    whole = np.rint(whole * (scale / coarse)[:, None]).astype(np.int8)
    unit_of_sums = np.asarray(coarse * unit, float)
    inputs = weight.shape[1]
    if packed is None:
        return "kd_layer16", inputs, whole.view(np.uint8), unit_of_sums
    function = {INT4: "kd_layer16_int4", TERNARY: "kd_layer16_ternary"}[packed.largest]
    digits = pack(replace(packed, whole=whole))
    return function, inputs + -inputs % PER_BYTE[packed.largest], digits, unit_of_sums
