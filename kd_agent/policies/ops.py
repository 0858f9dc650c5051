"""The operations a policy is made of, and their NumPy kernels.

Letters: `B` batch, `C` channels, `F` features, `H` units of a memory, `N` splits of a tree. Every kernel maps arrays
`[B, ...]` to one array `[B, ...]`, float32 except where it only moves numbers about.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from kd_agent.errors import KDError
from kd_agent.policies.activations import activation, sigmoid
from kd_agent.policies.head import Array

MAX_SIZE = 1 << 24
"""Numbers that one array of one observation may have: a file cannot ask for more."""
MAX_LEAVES = 4096
"""Leaves that a tree may have: no way down is longer."""


@dataclass(frozen=True)
class Op:
    """One step of the program.

    Attributes:
        kind: A key of `KERNELS`.
        inputs: Registers read.
        output: Register written.
        attributes: Constants that are not arrays (JSON values).
        tensors: Constant arrays by role ("weight", "bias", ...).
    """

    kind: str
    inputs: tuple[str, ...]
    output: str
    attributes: Mapping[str, Any] = field(default_factory=dict)
    tensors: Mapping[str, Array] = field(default_factory=dict)


Kernel = Callable[..., Array]


def _normalise(op: Op) -> Kernel:
    """`clip((x - mean) * scale, -clip, clip)`."""
    mean, scale = op.tensors["mean"], op.tensors["scale"]
    clip = np.float32(op.attributes["clip"])
    # Not np.clip, whose call alone costs twice as much as both ufuncs do on small arrays.
    return lambda x: np.minimum(np.maximum((x - mean) * scale, -clip), clip)


def _scale(op: Op) -> Kernel:
    """`x * scale + shift`, elementwise; each a scalar or of the shape of x."""
    scale, shift = op.tensors["scale"], op.tensors["shift"]
    return lambda x: x * scale + shift


def _clip(op: Op) -> Kernel:
    """Bounded to `[low, high]`."""
    low, high = np.float32(op.attributes["low"]), np.float32(op.attributes["high"])
    return lambda x: np.minimum(np.maximum(x, low), high)


def _linear(op: Op) -> Kernel:
    """`x W^T + b` with `weight [out, in]`, `bias [out]`."""
    # Turned once, here: for one observation a product with a transposed view is a tenth slower.
    weight, bias = np.ascontiguousarray(op.tensors["weight"].T), op.tensors["bias"]
    return lambda x: x @ weight + bias


def _conv2d(op: Op) -> Kernel:
    """Cross-correlation of `[B, C, height, width]` with `weight [out, C, kh, kw]`, as torch's Conv2d.

    The windows become rows of a matrix (im2col), so one product does the work.
    """
    weight, bias = op.tensors["weight"], op.tensors["bias"]
    stride, padding = int(op.attributes["stride"]), int(op.attributes.get("padding", 0))
    out, _, *window = weight.shape
    matrix = np.ascontiguousarray(weight.reshape(out, -1).T)
    if not (0 <= padding < max(window)) or stride < 1:
        raise KDError(f"a convolution of stride {stride} and padding {padding} is not possible")
    border = ((0, 0), (0, 0), (padding, padding), (padding, padding))

    def _run(x: Array) -> Array:
        x = np.pad(x, border) if padding else x
        windows = sliding_window_view(x, window, axis=(2, 3))[:, :, ::stride, ::stride]
        # The windows are a view so far; as rows they would be copied.
        if windows.size > MAX_SIZE * len(x):
            raise KDError("a convolution is too large")
        batch, _, height, width = windows.shape[:4]
        rows = windows.transpose(0, 2, 3, 1, 4, 5).reshape(batch * height * width, len(matrix))
        return np.asarray((rows @ matrix + bias).reshape(batch, height, width, out).transpose(0, 3, 1, 2))

    return _run


def _activation(op: Op) -> Kernel:
    """A function of `kd_agent.policies.activations`, elementwise."""
    return activation(op.attributes)


def _flatten(op: Op) -> Kernel:
    """`[B, ...]` as `[B, F]`, float32; `F` by name, for NumPy works out no -1 of a batch of none."""
    return lambda x: x.reshape(len(x), math.prod(x.shape[1:])).astype(np.float32, copy=False)


def _transpose(op: Op) -> Kernel:
    """Axes reordered; `axes` count from 0 without the batch."""
    axes = (0, *(int(axis) + 1 for axis in op.attributes["axes"]))
    return lambda x: x.transpose(axes)


def _one_hot(op: Op) -> Kernel:
    """Whole numbers `[B]` or `[B, parts]` as `[B, sum(sizes)]`, the parts side by side; none where out of range."""
    sizes = list(map(int, op.attributes["sizes"]))
    if min(sizes, default=0) < 1 or sum(sizes) > MAX_SIZE:
        raise KDError(f"one-hot parts of sizes {sizes} are not possible")
    # Output column k is 1 where the number of its part equals its value.
    part = np.repeat(np.arange(len(sizes)), sizes)
    value = np.concatenate(list(map(np.arange, sizes)))
    return lambda x: (x.reshape(len(x), len(sizes))[:, part] == value).astype(np.float32)


def _concatenate(op: Op) -> Kernel:
    """Side by side, along the last axis."""
    return lambda *xs: np.concatenate(xs, axis=-1)


def _slice(op: Op) -> Kernel:
    """Columns `start` to `stop` of the last axis."""
    columns = slice(int(op.attributes["start"]), int(op.attributes["stop"]))
    return lambda x: x[..., columns]


def _append(op: Op) -> Kernel:
    """Constant columns `value [F]` on the right."""
    value = op.tensors["value"]
    return lambda x: np.concatenate([x, np.broadcast_to(value, (len(x), len(value)))], axis=-1)


def _sde_log_std(op: Op) -> Kernel:
    """Log standard deviation of gSDE (Raffin et al. 2021) at a latent `[B, F]`, with `variance [F, A]`."""
    variance = op.tensors["variance"]
    # 1e-6 is Stable-Baselines3's epsilon (StateDependentNoiseDistribution).
    return lambda x: 0.5 * np.log((x * x) @ variance + np.float32(1e-6))


def _lstm(op: Op) -> Kernel:
    """One step of torch's LSTM: x `[B, F]` and memory `[B, 2H]` (hidden, cell) to the next memory.

    Gates in the order input, forget, cell, output: `weight_input [4H, F]`, `weight_hidden [4H, H]`, `bias [4H]`.
    """
    from_input = np.ascontiguousarray(op.tensors["weight_input"].T)
    from_hidden = np.ascontiguousarray(op.tensors["weight_hidden"].T)
    bias, size = op.tensors["bias"], len(from_hidden)

    def _run(x: Array, memory: Array) -> Array:
        gates = x @ from_input + memory[:, :size] @ from_hidden + bias
        into, keep, new, out = np.split(gates, 4, axis=-1)
        cell = sigmoid(keep) * memory[:, size:] + sigmoid(into) * np.tanh(new)
        return np.concatenate([sigmoid(out) * np.tanh(cell), cell], axis=-1)

    return _run


def _gru(op: Op) -> Kernel:
    """One step of torch's GRU: x `[B, F]` and memory `[B, H]` to the next memory.

    Gates in the order reset, update, new: `weight_input [3H, F]`, `weight_hidden [3H, H]`, a bias `[3H]` for each.
    """
    from_input = np.ascontiguousarray(op.tensors["weight_input"].T)
    from_hidden = np.ascontiguousarray(op.tensors["weight_hidden"].T)
    bias_input, bias_hidden = op.tensors["bias_input"], op.tensors["bias_hidden"]

    def _run(x: Array, memory: Array) -> Array:
        reset_x, update_x, new_x = np.split(x @ from_input + bias_input, 3, axis=-1)
        reset_h, update_h, new_h = np.split(memory @ from_hidden + bias_hidden, 3, axis=-1)
        update = sigmoid(update_x + update_h)
        # The reset gates the hidden side with its bias, as in cuDNN and torch; Cho et al. (2014) reset the memory.
        new = np.tanh(new_x + sigmoid(reset_x + reset_h) * new_h)
        return np.asarray((1 - update) * new + update * memory)

    return _run


def _tree(op: Op) -> Kernel:
    """A row of `value [N + 1, P]` for each x `[B, F]`, found by at most `tree_depth` comparisons.

    Split `n` goes on to `left[n]` where `x[feature[n]] <= threshold[n]` in float32, else to `right[n]`
    (each `[N]`): from `N` on these name leaves, the rows of `value`. Every leaf is its own child here, so
    that a batch takes its steps together.
    """
    depth, value = tree_depth(op), op.tensors["value"]
    splits = len(value) - 1
    leaves = np.arange(splits, splits + len(value))
    # What a leaf compares does not matter, since both ways lead back to it.
    feature = np.append(op.tensors["feature"], np.zeros(len(value), np.int32))
    threshold = np.append(op.tensors["threshold"], np.zeros(len(value), np.float32))
    left = np.append(op.tensors["left"], leaves)
    right = np.append(op.tensors["right"], leaves)
    last = int(feature.max())

    def _run(x: Array) -> Array:
        if x.ndim != 2 or x.shape[1] <= last:
            raise KDError(f"a tree that reads {last + 1} numbers side by side is given the shape {x.shape[1:]}")
        x, rows = x.astype(np.float32, copy=False), np.arange(len(x))
        node = np.zeros(len(x), np.intp)
        for _ in range(depth):
            node = np.where(x[rows, feature[node]] <= threshold[node], left[node], right[node])
        return np.asarray(value[node - splits])

    return _run


SPLIT_ROLES = ("feature", "threshold", "left", "right")
"""The tensors of a tree's splits, each `[N]`; those of its leaves are the rows of "value"."""


def tree_depth(op: Op) -> int:
    """Comparisons on the longest way down a tree.

    Raises:
        KDError: Its tensors are not those of a binary tree whose splits come before what they lead to.
    """
    feature, threshold, left, right = map(op.tensors.__getitem__, SPLIT_ROLES)
    value = op.tensors["value"]
    splits = len(feature)
    whole = {feature.dtype, left.dtype, right.dtype}
    real = {threshold.dtype, value.dtype}
    shapes = {feature.shape, threshold.shape, left.shape, right.shape}
    fits = shapes == {(splits,)} and value.shape[:1] == (splits + 1,)
    if whole != {np.dtype(np.int32)} or real != {np.dtype(np.float32)} or not fits:
        raise KDError("a tree's tensors are of other types or sizes than its splits and leaves")
    if not 1 <= splits < MAX_LEAVES or value.ndim != 2 or feature.min() < 0:
        raise KDError(f"a tree has 2 to {MAX_LEAVES} leaves, each a row of numbers, and splits by features from 0 on")
    # Each way down ends: no split leads back, and every node but the root has exactly one parent.
    children = np.concatenate([left, right])
    parents = np.tile(np.arange(splits), 2)
    if (children <= parents).any() or (np.sort(children) != np.arange(1, 2 * splits + 1)).any():
        raise KDError("a tree's splits do not lead forward to each other split and each leaf once")
    level = [0] * (2 * splits + 1)
    for node, (one, other) in enumerate(zip(left.tolist(), right.tolist(), strict=True)):
        level[one] = level[other] = level[node] + 1
    return max(level)


KERNELS: dict[str, Callable[[Op], Kernel]] = {
    "flatten": _flatten,
    "transpose": _transpose,
    "concatenate": _concatenate,
    "slice": _slice,
    "append": _append,
    "one_hot": _one_hot,
    "normalise": _normalise,
    "scale": _scale,
    "clip": _clip,
    "linear": _linear,
    "conv2d": _conv2d,
    "lstm": _lstm,
    "gru": _gru,
    "activation": _activation,
    "sde_log_std": _sde_log_std,
    "tree": _tree,
}
"""Operation kinds: each makes the function that runs one operation on arrays `[B, ...]`."""

LEARNT = frozenset({"linear", "conv2d", "lstm", "gru", "tree"})
"""Kinds whose tensors are fitted and count as parameters."""

ELEMENTWISE = frozenset({"normalise", "scale"})
"""Kinds whose tensors must fit their input without enlarging it."""
