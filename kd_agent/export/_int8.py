"""int8 arithmetic of linear layers, after training: weights int8 or fewer bits, inputs int16, sums int32.

Each output has its weights' scale, `w = scale q` with `|q| <= 127`. Weights that lie on a narrower grid (4 bits, or
ternary) are the whole numbers that they are made of, packed (`_packed`). An input's scale is fixed beforehand:
from its proven bound where that is not far beyond what `ranges_of` finds, and then nothing can saturate, or
else from that range, beyond which values saturate.
"""

from collections.abc import Callable, Mapping

import numpy as np

from kd_agent.errors import KDError
from kd_agent.export._bounds import bounds
from kd_agent.export._language import Lines
from kd_agent.export._packed import sums
from kd_agent.export._program import transposed
from kd_agent.export._source import Source
from kd_agent.policies import Array, Op, PolicyGraph
from kd_agent.policies.int8 import LARGEST, quantise
from kd_agent.policies.packed import exactly

_PROBES = 1024
_MARGIN = 2.0
"""A range beyond what the probes reached: one bit of an input, against saturation."""
_LARGEST_INPUT = 32767
_LARGEST_SUM = 2**31 - 1
LOOSE = 8.0
"""How far a bound may be beyond the range: 3 of 15 bits of an input."""


def quantised(graph: PolicyGraph) -> dict[str, Callable[[Source, Op], Lines]]:
    """The writers of the operations that compute in int8; KDError where there are none."""
    # A product with int8 weights is all that pays: everything else stays in floats.
    if not any(op.kind == "linear" for op in graph.ops):
        raise KDError("int8 stores the weights of linear layers, and this policy has none; write it without int8")
    ranges = ranges_of(graph)
    proven = bounds(graph)

    def _write(source: Source, op: Op) -> Lines:
        [name] = op.inputs
        if proven[name] <= LOOSE * ranges[name]:
            return _linear(source, op, proven[name], saturates=False)
        return _linear(source, op, ranges[name], saturates=True)

    return {"linear": _write}


def _linear(s: Source, op: Op, largest: float, *, saturates: bool) -> Lines:
    """Inputs as whole numbers, and the sums of their products with the weights."""
    packed = exactly(op.tensors["weight"])
    if packed is None:
        whole, scale = quantise(op.tensors["weight"])
        largest_weight = LARGEST
    else:
        whole, scale = packed.whole, packed.scale
        largest_weight = packed.largest
    m, n = whole.shape
    # n products of the largest weight and the largest input must fit the sum of 32 bits.
    limit = min(_LARGEST_INPUT, _LARGEST_SUM // (largest_weight * n))
    source = s.row(op.inputs[0])
    target = s.output(op)
    s.multiply_adds += m * n
    bias = s.bias(op.tensors["bias"], m)
    scales = s.constant(np.asarray(scale * (largest / limit), np.float32))
    steps = f"{source.at('i')} * {s.language.literal(limit / largest)}"
    whole_input = f"kd_round({steps})"
    # A limit below that of int16 is within what rounding errors may pass, so it is enforced as well.
    if saturates or limit < _LARGEST_INPUT:
        whole_input = f"kd_saturate({steps}, {limit})"

    def _answer(total: str) -> str:
        return f"{target.at('j')} = {bias}[j] + {scales}[j] * (float){total};"

    lines = s.language.loop("i", n, f"q[i] = {whole_input};")
    if packed is not None:
        return lines + sums(s, packed, _answer("total"))
    return lines + _sums(s, whole) + s.language.loop("j", m, _answer("sum[j]"))


def _sums(s: Source, whole: Array) -> Lines:
    """Sums side by side over an input at a time.

    The weights are reached through a pointer that walks: that keeps compilers from unrolling the loops
    around known constants, which costs them their vector code.
    """
    m, n = whole.shape
    s.whole_inputs = max(s.whole_inputs, n)
    s.whole_sums = max(s.whole_sums, m)
    weights = s.constant(transposed(whole))
    loop = s.language.loop
    # The cast makes it a product of 32 bits wherever an int has 16 (AVR, MSP430), which C would multiply in.
    product = "(int32_t)q[i] * w[j]"
    return [
        f"w = {weights};",
        *loop("j", m, "sum[j] = 0;"),
        *loop("i", n, *loop("j", m, f"sum[j] += {product};"), f"w += {m};"),
    ]


def ranges_of(graph: PolicyGraph) -> Mapping[str, float]:
    """Largest absolute value that each register is taken to reach.

    The graph runs on observations at and within the corners of the box that the normaliser lets
    through (or the dtype holds), the farthest that it can be driven; their maximum is doubled.
    """
    # The same probes always: the same policy must become the same text.
    rng = np.random.default_rng(0)
    probes = {key: _probes(graph, key, rng) for key in graph.observations}
    ranges: dict[str, float] = {}
    with np.errstate(all="ignore"):
        registers = graph.compile()(probes | graph.memory(_PROBES))
        for name, array in registers.items():
            largest = float(np.abs(array).max())
            ranges[name] = _MARGIN * max(largest, 1e-6)  # a register that is always 0 still divides
    # Written so that a range that is not a number fails too.
    if not all(largest < np.finfo(np.float32).max for largest in ranges.values()):
        raise KDError("int8 needs ranges that are finite")
    return ranges


def _probes(graph: PolicyGraph, key: str, rng: np.random.Generator) -> Array:
    """Observations `[_PROBES, *O]`, half of them corners of the box."""
    spec = graph.observations[key]
    unit = rng.uniform(-1, 1, (_PROBES, *spec.shape))
    unit[::2] = np.sign(unit[::2])
    if np.dtype(spec.dtype).kind != "f":
        low, high = _limits(spec.dtype)
        return np.rint(low + (unit + 1) / 2 * (high - low)).astype(np.float32)
    readers = [op for op in graph.ops if key in op.inputs]
    if any(op.kind != "normalise" for op in readers) or not readers:
        raise KDError(f"int8 needs to know how large observation {key!r} gets: a student with a normaliser")
    normalise = readers[0]
    scale = normalise.tensors["scale"]
    if not (scale > 0).all():
        raise KDError(f"int8 needs a normaliser of observation {key!r} whose scale is positive")
    # Half a side of the box: where the normaliser clips, in the observation's own units.
    reach = normalise.attributes["clip"] / scale
    return np.asarray(normalise.tensors["mean"] + unit * reach, np.float32)


def _limits(dtype: str) -> tuple[int, int]:
    """Least and greatest number of a whole type."""
    if dtype == "bool":
        return 0, 1
    limits = np.iinfo(dtype)
    return int(limits.min), int(limits.max)
