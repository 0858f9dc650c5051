"""How a convolution is written: tap by tap, or, where a product is a function's, patch by patch.

Letters: `o` output channels, side by side, at place `(y, x)`; `c` input channels, `(v, u)` the places of the kernel,
`(row, column)` those of the input.
"""

from kd_agent.export._language import Lines
from kd_agent.export._program import transposed
from kd_agent.export._source import Place, Source
from kd_agent.policies import Array, Op


def conv2d(s: Source, op: Op) -> Lines:
    """Sums over the kernel at each place of the output.

    Args:
        s: The source under construction.
        op: The operation.
    """
    weight, bias = op.tensors["weight"], op.tensors["bias"]
    out, channels, high, wide = weight.shape
    _, y_stop, x_stop = s.program.shapes[op.output]
    loop, assign = s.language.loop, s.language.assign
    target = s.output(op)
    total = s.buffer(out)
    if s.gathers:
        patch = s.buffer(channels * high * wide)
        taken = assign(patch.at(_tap(weight)), _pixel(s, op))
        missing = assign(patch.at(_tap(weight)), s.language.literal(0))
        lines = _window(s, op, [taken], [missing])
        lines += s.dense(total, patch, weight.reshape(out, -1), bias)
    else:
        lines = _tap_by_tap(s, op, total)
    finish = loop("o", out, assign(target.at(f"(o * {y_stop} + y) * {x_stop} + x"), total.at("o")))
    return loop("y", y_stop, *loop("x", x_stop, *lines, *finish))


def _tap_by_tap(s: Source, op: Op, total: Place) -> Lines:
    """The innermost loop runs over output channels."""
    weight = op.tensors["weight"]
    out = len(weight)
    _, y_stop, x_stop = s.program.shapes[op.output]
    s.multiply_adds += y_stop * x_stop * weight.size
    factor = f"{s.constant(transposed(weight))}[({_tap(weight)}) * {out} + o]"
    tap = s.language.loop("o", out, s.language.add(total.at("o"), f"{_pixel(s, op)} * {factor}"))
    bias = f"{s.bias(op.tensors['bias'], out)}[o]"
    begin = s.language.loop("o", out, s.language.assign(total.at("o"), bias))
    return begin + _window(s, op, tap, [])


def _window(s: Source, op: Op, inside: Lines, outside: Lines) -> Lines:
    """Loops over the kernel, with other lines where it passes the edge of the image."""
    _, channels, high, wide = op.tensors["weight"].shape
    _, rows, columns = s.program.shapes[op.inputs[0]]
    stride = int(op.attributes["stride"])
    padding = int(op.attributes.get("padding", 0))
    loop, declare = s.language.loop, s.language.declare
    shift = ""
    if padding:  # zeros around the image are not stored
        shift = f" - {padding}"
        within = s.language.every("row >= 0", f"row < {rows}", "column >= 0", f"column < {columns}")
        inside = s.language.when(within, inside, outside)
    row = declare(s.language.whole, "row", f"y * {stride} + v{shift}")
    column = declare(s.language.whole, "column", f"x * {stride} + u{shift}")
    return loop("c", channels, *loop("v", high, *loop("u", wide, row, column, *inside)))


def _pixel(s: Source, op: Op) -> str:
    _, rows, columns = s.program.shapes[op.inputs[0]]
    return s.places[op.inputs[0]].at(f"(c * {rows} + row) * {columns} + column")


def _tap(weight: Array) -> str:
    _, _, high, wide = weight.shape
    return f"(c * {high} + v) * {wide} + u"
