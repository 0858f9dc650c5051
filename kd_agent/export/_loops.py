"""How each kind of operation is written as loops over flat arrays, in whatever language the source is in.

The functions the text calls (`kd_tanh`, ...) are each language's prelude.

Letters: `s` the source under construction. Arrays and constants are numbered as they are asked for, so the order of
the calls on it is part of the text.
"""

import math
from collections.abc import Callable

import numpy as np

from kd_agent.errors import KDError
from kd_agent.export._conv2d import conv2d
from kd_agent.export._language import Lines
from kd_agent.export._source import Place, Source
from kd_agent.policies import ACTIVATIONS, Array, Op
from kd_agent.policies.activations import SLOPED

_FUNCTIONS = {name: f"kd_{name}" for name in ACTIVATIONS}


def _linear(s: Source, op: Op) -> Lines:
    return s.dense(s.output(op), s.row(op.inputs[0]), op.tensors["weight"], op.tensors["bias"])


def _normalise(s: Source, op: Op) -> Lines:
    shape = s.program.shapes[op.output]
    limit = float(op.attributes["clip"])
    low = s.language.literal(-limit)
    high = s.language.literal(limit)
    mean = s.value(op.tensors["mean"], shape)
    scale = s.value(op.tensors["scale"], shape)
    return s.elementwise(op, lambda x: f"kd_clip(({x} - {mean}) * {scale}, {low}, {high})")


def _scale(s: Source, op: Op) -> Lines:
    shape = s.program.shapes[op.output]
    scale = s.value(op.tensors["scale"], shape)
    shift = s.value(op.tensors["shift"], shape)
    return s.elementwise(op, lambda x: f"{x} * {scale} + {shift}")


def _clip(s: Source, op: Op) -> Lines:
    low = s.language.literal(op.attributes["low"])
    high = s.language.literal(op.attributes["high"])
    return s.elementwise(op, lambda x: f"kd_clip({x}, {low}, {high})")


def _activation(s: Source, op: Op) -> Lines:
    # Looked up, not put together: the file's own word never becomes code.
    if op.attributes["function"] == SLOPED:
        slope = s.language.literal(op.attributes["slope"])
        return s.elementwise(op, lambda x: f"kd_prelu({x}, {slope})")
    function = _FUNCTIONS[op.attributes["function"]]
    return s.elementwise(op, lambda x: f"{function}({x})")


def _concatenate(s: Source, op: Op) -> Lines:
    """Along the last axis: `i` counts the rows, `j` the columns of one input."""
    target = s.output(op)
    total = s.program.shapes[op.output][-1]
    lines: Lines = []
    offset = 0
    for name in op.inputs:
        width = s.program.shapes[name][-1]
        rows = s.program.size(name) // width
        into = Place(target.array, offset).at(f"i * {total} + j")
        inner = s.language.assign(into, s.places[name].at(f"i * {width} + j"))
        lines += s.language.loop("i", rows, *s.language.loop("j", width, inner))
        offset += width
    return lines


def _slice(s: Source, op: Op) -> Lines:
    shape = s.program.shapes[op.inputs[0]]
    width = s.program.shapes[op.output][-1]
    # As Python reads it: a start below zero counts from the end.
    start = slice(int(op.attributes["start"]), int(op.attributes["stop"])).indices(shape[-1])[0]
    if len(shape) == 1:
        return s.alias(op, start)
    source = s.places[op.inputs[0]]
    target = s.output(op)
    inner = s.language.assign(target.at(f"i * {width} + j"), source.at(f"i * {shape[-1]} + {start} + j"))
    return s.language.loop("i", math.prod(shape[:-1]), *s.language.loop("j", width, inner))


def _transpose(s: Source, op: Op) -> Lines:
    """Loops over the axes of the output, the first outermost."""
    source = s.places[op.inputs[0]]
    target = s.output(op)
    shape = s.program.shapes[op.inputs[0]]
    # Axes are counted without the batch, from the end where they are below zero; the 1 is the batch.
    axes = [(int(axis) + 1) % (len(shape) + 1) - 1 for axis in op.attributes["axes"]]
    read: list[str] = []
    written = ""
    for k, axis in enumerate(axes):
        read.append(f"i{k} * {math.prod(shape[axis + 1 :])}")
        written = f"({written}) * {shape[axis]} + i{k}" if written else f"i{k}"
    lines = [s.language.assign(target.at(written), source.at(" + ".join(read)))]
    for k, axis in reversed(list(enumerate(axes))):
        lines = s.language.loop(f"i{k}", shape[axis], *lines)
    return lines


def _append(s: Source, op: Op) -> Lines:
    source = s.places[op.inputs[0]]
    target = s.output(op)
    value = op.tensors["value"]
    width = s.program.size(op.inputs[0])
    tail = s.language.assign(Place(target.array, width).at("i"), s.value(value, value.shape))
    return s.copy(target, source, width) + s.language.loop("i", len(value), tail)


def _one_hot(s: Source, op: Op) -> Lines:
    source = s.places[op.inputs[0]]
    target = s.output(op)
    one = s.language.literal(1)
    zero = s.language.literal(0)
    lines: Lines = []
    offset = 0
    for part, size in enumerate(map(int, op.attributes["sizes"])):
        flag = s.language.choice(f"{source.at(part)} == i", one, zero)
        lines += s.language.loop("i", size, s.language.assign(Place(target.array, offset).at("i"), flag))
        offset += size
    return lines


def _sde_log_std(s: Source, op: Op) -> Lines:
    """`log sqrt(x^2 variance + 1e-6)`: of Stable-Baselines3, the 1e-6 too."""
    source = s.row(op.inputs[0])
    target = s.output(op)
    variance = op.tensors["variance"]
    squares = s.buffer(len(variance))
    square = s.language.assign(squares.at("i"), f"{source.at('i')} * {source.at('i')}")
    log_root = s.language.assign(target.at("i"), f"{s.language.literal(0.5)} * kd_log({target.at('i')})")
    return [
        *s.language.loop("i", len(variance), square),
        *s.dense(target, squares, variance.T, np.full(variance.shape[1], 1e-6, np.float32)),
        *s.language.loop("i", variance.shape[1], log_root),
    ]


def _units(op: Op, gates: int) -> int:
    """Units of a memory; KDError where the gates are not all of that size."""
    into, own = op.tensors["weight_input"], op.tensors["weight_hidden"]
    size = int(own.shape[1])
    if own.shape != (gates * size, size) or len(into) != gates * size:
        raise KDError(f"the gates of operation {op.kind!r} are of different sizes")
    return size


def _gates(place: Place, count: int, size: int) -> list[str]:
    """Text of unit `i` of each of `count` gates that lie one after the other."""
    return [Place(place.array, k * size).at("i") for k in range(count)]


def _lstm(s: Source, op: Op) -> Lines:
    """The memory holds what the units say, then their cells (Hochreiter and Schmidhuber 1997; gates as in torch)."""
    x, memory = map(s.row, op.inputs)
    size = _units(op, 4)
    target = s.output(op)
    gates = s.buffer(4 * size)
    into, keep, new, out = _gates(gates, 4, size)
    before = Place(memory.array, memory.offset + size).at("i")
    cell = Place(target.array, size).at("i")
    return [
        *s.dense(gates, x, op.tensors["weight_input"], op.tensors["bias"]),
        *s.dense(gates, memory, op.tensors["weight_hidden"], None),
        *s.language.loop(
            "i",
            size,
            s.language.assign(cell, f"kd_sigmoid({keep}) * {before} + kd_sigmoid({into}) * kd_tanh({new})"),
            s.language.assign(target.at("i"), f"kd_sigmoid({out}) * kd_tanh({cell})"),
        ),
    ]


def _gru(s: Source, op: Op) -> Lines:
    """Gates `r` (reset), `z` (update) and `n` (new) of the input `x` and the memory `h` (Cho et al. 2014, as torch)."""
    x, memory = map(s.row, op.inputs)
    size = _units(op, 3)
    target = s.output(op)
    from_x = s.buffer(3 * size)
    from_h = s.buffer(3 * size)
    rx, zx, nx = _gates(from_x, 3, size)
    rh, zh, nh = _gates(from_h, 3, size)
    number, declare = s.language.number, s.language.declare
    blend = f"({s.language.literal(1)} - update) * fresh + update * {memory.at('i')}"
    return [
        *s.dense(from_x, x, op.tensors["weight_input"], op.tensors["bias_input"]),
        *s.dense(from_h, memory, op.tensors["weight_hidden"], op.tensors["bias_hidden"]),
        *s.language.loop(
            "i",
            size,
            declare(number, "update", f"kd_sigmoid({zx} + {zh})"),
            declare(number, "fresh", f"kd_tanh({nx} + kd_sigmoid({rx} + {rh}) * {nh})"),
            s.language.assign(target.at("i"), blend),
        ),
    ]


def _tree(s: Source, op: Op) -> Lines:
    """A walk from the first split to a leaf; the constants are of the smallest type that holds them."""
    source = s.row(op.inputs[0])
    target = s.output(op)
    value = s.constant(op.tensors["value"])
    threshold = s.constant(op.tensors["threshold"])
    feature = s.constant(_narrow(op.tensors["feature"]))
    left = s.constant(_narrow(op.tensors["left"]))
    right = s.constant(_narrow(op.tensors["right"]))
    splits = len(op.tensors["feature"])
    width = op.tensors["value"].shape[1]
    # Thresholds are float32: a wider number beside one could fall on the other side of it.
    below = f"{s.language.single}({source.at(f'{feature}[node]')}) <= {threshold}[node]"
    step = s.language.assign("node", s.language.choice(below, f"{left}[node]", f"{right}[node]"))
    row = s.language.assign(target.at("i"), f"{value}[(node - {splits}) * {width} + i]")
    # Several trees may each have a `node`.
    return s.language.scope(
        s.language.declare(s.language.index, "node", "0"),
        *s.language.repeat(f"node < {splits}", step),
        *s.language.loop("i", width, row),
    )


def _narrow(whole: Array) -> Array:
    """Whole numbers from 0 on as int8, int16 or int32."""
    for narrow in (np.int8, np.int16):
        if whole.max() <= np.iinfo(narrow).max:
            return whole.astype(narrow)
    return whole.astype(np.int32)


WRITERS: dict[str, Callable[[Source, Op], Lines]] = {
    "flatten": lambda s, op: s.alias(op),
    "transpose": _transpose,
    "concatenate": _concatenate,
    "slice": _slice,
    "append": _append,
    "one_hot": _one_hot,
    "normalise": _normalise,
    "scale": _scale,
    "clip": _clip,
    "linear": _linear,
    "conv2d": conv2d,
    "lstm": _lstm,
    "gru": _gru,
    "activation": _activation,
    "sde_log_std": _sde_log_std,
    "tree": _tree,
}
