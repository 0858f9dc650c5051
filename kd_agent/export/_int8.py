"""int8 arithmetic of linear layers, after training: weights int8, inputs int16, sums int32.

Each output has its weights' scale, `w = scale q` with `|q| <= 127`. An input's scale is fixed beforehand
from the range that `_ranges` finds; beyond it, values saturate.
"""

from collections.abc import Callable, Mapping

import numpy as np

from kd_agent.errors import KDError
from kd_agent.export._program import transposed
from kd_agent.export._source import Lines, Source, indented
from kd_agent.graph import Op, PolicyGraph
from kd_agent.head import Array

_PROBES, _MARGIN, _LARGEST = 1024, 2.0, 32767


def quantised(graph: PolicyGraph) -> dict[str, Callable[[Source, Op], Lines]]:
    """The writers of the operations that compute in int8."""
    ranges = _ranges(graph)
    return {"linear": lambda source, op: _linear(source, op, ranges[op.inputs[0]])}


def quantise(weight: Array) -> tuple[Array, Array]:
    """`weight [m, n]` as int8 `[m, n]` and a scale `[m]` a row."""
    scale = np.maximum(np.abs(weight).max(axis=1), 1e-12) / 127
    return np.rint(weight / scale[:, None]).astype(np.int8), np.asarray(scale, np.float32)


def _linear(s: Source, op: Op, largest: float) -> Lines:
    """Sums side by side over an input at a time.

    The weights are reached through a pointer that walks: that keeps compilers from unrolling the loops
    around known constants, which costs them their vector code.
    """
    whole, scale = quantise(op.tensors["weight"])
    m, n = whole.shape
    limit = min(_LARGEST, (2**31 - 1) // (127 * n))
    source, target, loop = s.row(op.inputs[0]), s.output(op), s.language.loop
    s.multiply_adds += m * n
    s.widest = max(s.widest, n)
    weights, bias = s.constant(transposed(whole)), s.bias(op.tensors["bias"], m)
    scales = s.constant(np.asarray(scale * (largest / limit), np.float32))
    factor = s.language.literal(limit / largest)
    return [
        "{",
        *indented([
            f"const int8_t *w = {weights};",
            f"int32_t sum[{m}];",
            *loop("j", m, "sum[j] = 0;"),
            *loop("i", n, f"q[i] = kd_quantise({source.at('i')} * {factor}, {limit});"),
            *loop("i", n, *loop("j", m, "sum[j] += q[i] * w[j];"), f"w += {m};"),
            *loop("j", m, f"{target.at('j')} = {bias}[j] + {scales}[j] * (float)sum[j];"),
        ]),
        "}",
    ]  # fmt: skip


def _ranges(graph: PolicyGraph) -> Mapping[str, float]:
    """Largest absolute value that each register is taken to reach.

    The graph runs on observations at and within the corners of the box that the normaliser lets
    through (or the dtype holds), the farthest that it can be driven; their maximum is doubled.
    """
    rng = np.random.default_rng(0)
    probes = {key: _probes(graph, key, rng) for key in graph.observations}
    with np.errstate(all="ignore"):
        registers = graph.compile()(probes | graph.memory(_PROBES))
        ranges = {name: _MARGIN * max(float(np.abs(array).max()), 1e-6) for name, array in registers.items()}
    if not all(largest < np.finfo(np.float32).max for largest in ranges.values()):
        raise KDError("int8 needs ranges that are finite")
    return ranges


def _probes(graph: PolicyGraph, key: str, rng: np.random.Generator) -> Array:
    """Observations `[_PROBES, *O]`, half of them corners of the box."""
    spec = graph.observations[key]
    unit = rng.uniform(-1, 1, (_PROBES, *spec.shape))
    unit[::2] = np.sign(unit[::2])
    if np.dtype(spec.dtype).kind != "f":
        low, high = (0, 1) if spec.dtype == "bool" else (np.iinfo(spec.dtype).min, np.iinfo(spec.dtype).max)
        return np.rint(low + (unit + 1) / 2 * (high - low)).astype(np.float32)
    readers = [op for op in graph.ops if key in op.inputs]
    if any(op.kind != "normalise" for op in readers) or not readers:
        raise KDError(f"int8 needs to know how large observation {key!r} gets: a student with a normaliser")
    op = readers[0]
    if not (op.tensors["scale"] > 0).all():
        raise KDError(f"int8 needs a normaliser of observation {key!r} whose scale is positive")
    return np.asarray(op.tensors["mean"] + unit * (op.attributes["clip"] / op.tensors["scale"]), np.float32)
