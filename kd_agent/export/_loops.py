"""How each kind of operation is written as loops over flat arrays, for C99 and JavaScript alike.

The functions the text calls (`kd_tanh`, ...) are each language's prelude.
"""

import math
from collections.abc import Callable

import numpy as np

from kd_agent.errors import KDError
from kd_agent.export._program import transposed
from kd_agent.export._source import Lines, Place, Source, indented
from kd_agent.policies import ACTIVATIONS, Array, HeadSpec, Op


def _linear(s: Source, op: Op) -> Lines:
    return s.dense(s.output(op), s.row(op.inputs[0]), op.tensors["weight"], op.tensors["bias"])


def _normalise(s: Source, op: Op) -> Lines:
    shape = s.program.shapes[op.output]
    low, high = (s.language.literal(sign * float(op.attributes["clip"])) for sign in (-1, 1))
    mean, scale = s.value(op.tensors["mean"], shape), s.value(op.tensors["scale"], shape)
    return s.elementwise(op, lambda x: f"kd_clip(({x} - {mean}) * {scale}, {low}, {high})")


def _scale(s: Source, op: Op) -> Lines:
    shape = s.program.shapes[op.output]
    scale, shift = s.value(op.tensors["scale"], shape), s.value(op.tensors["shift"], shape)
    return s.elementwise(op, lambda x: f"{x} * {scale} + {shift}")


def _clip(s: Source, op: Op) -> Lines:
    low, high = (s.language.literal(op.attributes[side]) for side in ("low", "high"))
    return s.elementwise(op, lambda x: f"kd_clip({x}, {low}, {high})")


def _activation(s: Source, op: Op) -> Lines:
    function = {name: f"kd_{name}" for name in ACTIVATIONS}[op.attributes["function"]]
    return s.elementwise(op, lambda x: f"{function}({x})")


def _concatenate(s: Source, op: Op) -> Lines:
    target, lines, offset = s.output(op), [], 0
    total = s.program.shapes[op.output][-1]
    for name in op.inputs:
        width, rows = s.program.shapes[name][-1], s.program.size(name) // s.program.shapes[name][-1]
        inner = f"{Place(target.array, offset).at(f'i * {total} + j')} = {s.places[name].at(f'i * {width} + j')};"
        lines += s.language.loop("i", rows, *s.language.loop("j", width, inner))
        offset += width
    return lines


def _slice(s: Source, op: Op) -> Lines:
    shape, width = s.program.shapes[op.inputs[0]], s.program.shapes[op.output][-1]
    start = slice(int(op.attributes["start"]), int(op.attributes["stop"])).indices(shape[-1])[0]
    if len(shape) == 1:
        return s.alias(op, start)
    source, target = s.places[op.inputs[0]], s.output(op)
    inner = f"{target.at(f'i * {width} + j')} = {source.at(f'i * {shape[-1]} + {start} + j')};"
    return s.language.loop("i", math.prod(shape[:-1]), *s.language.loop("j", width, inner))


def _transpose(s: Source, op: Op) -> Lines:
    source, target = s.places[op.inputs[0]], s.output(op)
    shape = s.program.shapes[op.inputs[0]]
    axes = [(int(axis) + 1) % (len(shape) + 1) - 1 for axis in op.attributes["axes"]]
    strides = [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]
    names = [f"i{k}" for k in range(len(axes))]
    into, out = " + ".join(f"{n} * {strides[a]}" for n, a in zip(names, axes, strict=True)), "0"
    for name, axis in zip(names, axes, strict=True):
        out = name if out == "0" else f"({out}) * {shape[axis]} + {name}"
    lines = [f"{target.at(out)} = {source.at(into)};"]
    for name, axis in reversed(list(zip(names, axes, strict=True))):
        lines = s.language.loop(name, shape[axis], *lines)
    return lines


def _append(s: Source, op: Op) -> Lines:
    source, target, value = s.places[op.inputs[0]], s.output(op), op.tensors["value"]
    width = s.program.size(op.inputs[0])
    tail = f"{Place(target.array, width).at('i')} = {s.value(value, value.shape)};"
    return s.copy(target, source, width) + s.language.loop("i", len(value), tail)


def _one_hot(s: Source, op: Op) -> Lines:
    source, target, lines, offset = s.places[op.inputs[0]], s.output(op), [], 0
    one, zero = s.language.literal(1), s.language.literal(0)
    for part, size in enumerate(int(size) for size in op.attributes["sizes"]):
        test = f"{source.at(part)} == i ? {one} : {zero}"
        lines += s.language.loop("i", size, f"{Place(target.array, offset).at('i')} = {test};")
        offset += size
    return lines


def _sde_log_std(s: Source, op: Op) -> Lines:
    source, target, variance = s.row(op.inputs[0]), s.output(op), op.tensors["variance"]
    squares = s.buffer(len(variance))
    half = s.language.literal(0.5)
    return [
        *s.language.loop("i", len(variance), f"{squares.at('i')} = {source.at('i')} * {source.at('i')};"),
        *s.dense(target, squares, variance.T, np.full(variance.shape[1], 1e-6, np.float32)),
        *s.language.loop("i", variance.shape[1], f"{target.at('i')} = {half} * kd_log({target.at('i')});"),
    ]


def _conv2d(s: Source, op: Op) -> Lines:
    """Output channels side by side: the innermost loop runs over them."""
    weight, bias = op.tensors["weight"], op.tensors["bias"]
    out, channels, high, wide = weight.shape
    _, rows, columns = s.program.shapes[op.inputs[0]]
    _, y_stop, x_stop = s.program.shapes[op.output]
    stride, padding = int(op.attributes["stride"]), int(op.attributes.get("padding", 0))
    source, target, total, loop = s.places[op.inputs[0]], s.output(op), s.buffer(out), s.language.loop
    s.multiply_adds += y_stop * x_stop * weight.size
    pixel = source.at(f"(c * {rows} + row) * {columns} + column")
    tap = loop("o", out, f"{total.at('o')} += {pixel} * "
               f"{s.constant(transposed(weight))}[((c * {high} + v) * {wide} + u) * {out} + o];")  # fmt: skip
    shift = f" - {padding}" if padding else ""
    inside = f"if (row >= 0 && row < {rows} && column >= 0 && column < {columns}) {{"
    guarded = [inside, *indented(tap), "}"] if padding else tap
    row = f"{s.language.whole} row = y * {stride} + v{shift};"
    column = f"{s.language.whole} column = x * {stride} + u{shift};"
    window = loop("c", channels, *loop("v", high, *loop("u", wide, row, column, *guarded)))
    begin = loop("o", out, f"{total.at('o')} = {s.bias(bias, out)}[o];")
    finish = loop("o", out, f"{target.at(f'(o * {y_stop} + y) * {x_stop} + x')} = {total.at('o')};")
    return loop("y", y_stop, *loop("x", x_stop, *begin, *window, *finish))


def _units(op: Op, gates: int) -> int:
    """Units of a memory; KDError where the gates are not all of that size."""
    into, own = op.tensors["weight_input"], op.tensors["weight_hidden"]
    size = int(own.shape[1])
    if own.shape != (gates * size, size) or len(into) != gates * size:
        raise KDError(f"the gates of operation {op.kind!r} are of different sizes")
    return size


def _lstm(s: Source, op: Op) -> Lines:
    x, memory = (s.row(name) for name in op.inputs)
    size = _units(op, 4)
    target, gates = s.output(op), s.buffer(4 * size)
    into, keep, new, out = (Place(gates.array, k * size).at("i") for k in range(4))
    cell = Place(target.array, size).at("i")
    return [
        *s.dense(gates, x, op.tensors["weight_input"], op.tensors["bias"]),
        *s.dense(gates, memory, op.tensors["weight_hidden"], None),
        *s.language.loop(
            "i",
            size,
            f"{cell} = kd_sigmoid({keep}) * {Place(memory.array, memory.offset + size).at('i')}"
            f" + kd_sigmoid({into}) * kd_tanh({new});",
            f"{target.at('i')} = kd_sigmoid({out}) * kd_tanh({cell});",
        ),
    ]


def _gru(s: Source, op: Op) -> Lines:
    x, memory = (s.row(name) for name in op.inputs)
    size = _units(op, 3)
    target, from_x, from_h = s.output(op), s.buffer(3 * size), s.buffer(3 * size)
    (rx, zx, nx), (rh, zh, nh) = (
        [Place(p.array, k * size).at("i") for k in range(3)] for p in (from_x, from_h)
    )  # fmt: skip
    number = s.language.number
    return [
        *s.dense(from_x, x, op.tensors["weight_input"], op.tensors["bias_input"]),
        *s.dense(from_h, memory, op.tensors["weight_hidden"], op.tensors["bias_hidden"]),
        *s.language.loop(
            "i",
            size,
            f"{number} update = kd_sigmoid({zx} + {zh});",
            f"{number} fresh = kd_tanh({nx} + kd_sigmoid({rx} + {rh}) * {nh});",
            f"{target.at('i')} = ({s.language.literal(1)} - update) * fresh + update * {memory.at('i')};",
        ),
    ]


def _tree(s: Source, op: Op) -> Lines:
    """A walk from the first split to a leaf; the constants are of the smallest type that holds them."""
    source, target = s.row(op.inputs[0]), s.output(op)
    value, threshold = s.constant(op.tensors["value"]), s.constant(op.tensors["threshold"])
    feature, left, right = (s.constant(_narrow(op.tensors[role])) for role in ("feature", "left", "right"))
    splits, width = len(op.tensors["feature"]), op.tensors["value"].shape[1]
    below = f"{s.language.single}({source.at(f'{feature}[node]')}) <= {threshold}[node]"
    row = f"{target.at('i')} = {value}[(node - {splits}) * {width} + i];"
    return [
        "{",
        *indented([
            f"{s.language.index} node = 0;",
            f"while (node < {splits}) {{",
            *indented([f"node = {below} ? {left}[node] : {right}[node];"]),
            "}",
            *s.language.loop("i", width, row),
        ]),
        "}",
    ]  # fmt: skip


def _narrow(whole: Array) -> Array:
    """Whole numbers from 0 on as int8, int16 or int32."""
    return whole.astype(next(t for t in (np.int8, np.int16, np.int32) if whole.max() <= np.iinfo(t).max))


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
    "conv2d": _conv2d,
    "lstm": _lstm,
    "gru": _gru,
    "activation": _activation,
    "sde_log_std": _sde_log_std,
    "tree": _tree,
}


def decode(s: Source, head: HeadSpec) -> Lines:
    """The text that turns `row` into the greedy `action` (all heads but the categorical one)."""
    if head.kind == "multi_categorical":
        offsets = np.cumsum([0, *head.nvec])
        return [
            f"action[{part}] = kd_argmax(row, {offsets[part]}, {count}) + {start};"
            for part, (count, start) in enumerate(zip(head.nvec, head.start, strict=True))
        ]
    zero, one = s.language.literal(0), s.language.literal(1)
    if head.kind == "bernoulli":
        return s.language.loop("i", len(head.nvec), f"action[i] = row[i] > {zero} ? {one} : {zero};")
    shape, largest = (len(head.low),), np.finfo(np.float32).max
    low, high = (np.clip(np.asarray(side, np.float32), -largest, largest) for side in (head.low, head.high))
    if head.kind == "squashed_gaussian":
        half = s.value(np.float32(0.5) * (high - low), shape)
        text = f"{s.value(low, shape)} + (kd_tanh(row[i]) + {one}) * {half}"
    else:
        text = f"kd_clip(row[i], {s.value(low, shape)}, {s.value(high, shape)})"
    return s.language.loop("i", len(head.low), f"action[i] = {text};")
