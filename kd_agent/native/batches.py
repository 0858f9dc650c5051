"""The C that answers a block of observations at once: lane `l` of every vector is observation `l`.

A layer of any width then fills the processor's vectors, and a weight is read once a block. Sums are added in the
order of the policy's own C, so a row has the numbers that its observation has alone, but for the last bits where the
compiler contracts a product and a sum into one rounding here and not there.

A policy with an operation that `_WRITERS` lacks, with a memory or with wide arrays has no blocks, and neither has a
processor without AVX: there the loop over observations does it all, as it does for batches smaller than a block.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from string import Template

import numpy as np

from kd_agent.policies import PARAMS, Array, Op, PolicyGraph
from kd_agent.policies.activations import SLOPED

_MAX_NUMBERS = 1 << 14
"""Numbers of all registers of one observation: at 16 lanes they take 1 MiB of the stack."""

_LANES = """
#if defined(__AVX512F__)
#define KD_LANES 16
#elif defined(__AVX__)
#define KD_LANES 8
#endif
"""
_DENSE = """
typedef float kd_lanes __attribute__((vector_size(4 * KD_LANES), may_alias));
#define KD_INLINE static inline __attribute__((always_inline))
#define KD_ARRAY(name, size) float name[(size) * KD_LANES] __attribute__((aligned(4 * KD_LANES)))
#define KD_TILE 8

/* Outputs j to j + tile of m, whose sums stay in the processor's registers; four products in pairs, as in kd_run. */
KD_INLINE void kd_tile(int n, int m, int j, int tile, const float *w, const float *b, const kd_lanes *x, kd_lanes *y) {
    kd_lanes sum[KD_TILE];
    int i = 0;
    for (int c = 0; c < tile; c++) sum[c] = b[j + c] - (kd_lanes){0};
    for (; i + 3 < n; i += 4) {
        const kd_lanes x0 = x[i], x1 = x[i + 1], x2 = x[i + 2], x3 = x[i + 3];
        for (int c = 0; c < tile; c++) {
            const float *v = w + i * m + j + c;
            sum[c] += (x0 * v[0] + x1 * v[m]) + (x2 * v[2 * m] + x3 * v[3 * m]);
        }
    }
    for (; i < n; i++) {
        for (int c = 0; c < tile; c++) sum[c] += x[i] * w[i * m + j + c];
    }
    for (int c = 0; c < tile; c++) y[j + c] = sum[c];
}

/* y [m] = x [n] w [n, m] + b [m], in every lane. */
KD_INLINE void kd_dense(int n, int m, const float *w, const float *b, const float *x, float *y) {
    int j = 0;
    for (; j + KD_TILE <= m; j += KD_TILE) kd_tile(n, m, j, KD_TILE, w, b, (const kd_lanes *)x, (kd_lanes *)y);
    if (m % KD_TILE) kd_tile(n, m, j, m % KD_TILE, w, b, (const kd_lanes *)x, (kd_lanes *)y);
}
"""
_BLOCK = Template("""
#ifdef KD_LANES
$dense
$constants
/* KD_LANES observations, one after the other, and their parameters. */
static void kd_block(const float *obs, float *out) {
    KD_ARRAY(r0, KD_OBS_SIZE);
$arrays
    for (int i = 0; i < KD_OBS_SIZE; i++) {
        for (int l = 0; l < KD_LANES; l++) r0[i * KD_LANES + l] = obs[l * KD_OBS_SIZE + i];
    }
$body
    for (int l = 0; l < KD_LANES; l++) {
        for (int i = 0; i < KD_NUM_PARAMS; i++) out[l * KD_NUM_PARAMS + i] = $params[i * KD_LANES + l];
    }
}
#endif
""")


@dataclass
class _Block:
    """Text under construction.

    Attributes:
        shapes: Shape of one observation's array in each register.
        places: Where each register lies: the text of a pointer to its first lane.
        arrays: Numbers of each working array, by generated name; `r0` holds the observations.
        constants: Constant arrays, by generated name.
    """

    shapes: Mapping[str, tuple[int, ...]]
    places: dict[str, str] = field(default_factory=dict)
    arrays: dict[str, int] = field(default_factory=dict)
    constants: dict[str, Array] = field(default_factory=dict)

    def size(self, register: str) -> int:
        """Numbers in a register."""
        return math.prod(self.shapes[register])

    def output(self, op: Op) -> str:
        """A new working array for what an operation writes."""
        name = f"r{len(self.arrays) + 1}"
        self.arrays[name] = self.size(op.output)
        self.places[op.output] = name
        return name

    def constant(self, values: Array) -> str:
        """Name of a constant array."""
        name = f"kd_block_{len(self.constants)}"
        self.constants[name] = np.ascontiguousarray(values, np.float32).reshape(-1)
        return name

    def each(self, op: Op, text: str, **tensors: Array) -> str:
        """A loop of one expression in `x`, the input, and in one number an element of each tensor."""
        shape = (1, *self.shapes[op.output])
        reads = ["const float x = from[i * KD_LANES + l];"]
        for role, values in tensors.items():
            reads.append(f"const float {role} = {self.constant(np.broadcast_to(values, shape))}[i];")
        return _EACH.substitute(
            source=self.places[op.inputs[0]],
            target=self.output(op),
            size=self.size(op.output),
            reads=" ".join(reads),
            value=text,
        )


_EACH = Template("""\
    {
        const float *from = $source;
        for (int i = 0; i < $size; i++) {
            for (int l = 0; l < KD_LANES; l++) { $reads $target[i * KD_LANES + l] = $value; }
        }
    }
""")


def text(graph: PolicyGraph) -> str:
    """`kd_block(obs, out)` of `KD_LANES` observations, with what it needs; nothing where there are no blocks.

    It stands below the policy's own C, whose functions and sizes it uses.

    Args:
        graph: The policy, one that its own C has been generated of.
    """
    shapes = _shapes(graph)
    numbers = sum(math.prod(shape) for shape in shapes.values())
    if graph.states or numbers > _MAX_NUMBERS or not all(_is_claimed(op, shapes) for op in graph.ops):
        return ""
    block = _Block(shapes)
    offset = 0
    for key in graph.observations:
        block.places[key] = f"(r0 + {offset} * KD_LANES)"
        offset += block.size(key)
    body = "".join(_WRITERS[op.kind](block, op) for op in graph.ops)
    arrays = [f"    KD_ARRAY({name}, {size});" for name, size in block.arrays.items()]
    constants = [_constant(name, values) for name, values in block.constants.items()]
    parts = {"dense": _DENSE, "constants": "\n".join(constants), "arrays": "\n".join(arrays)}
    return _LANES + _BLOCK.substitute(parts, body=body, params=block.places[PARAMS])


def _shapes(graph: PolicyGraph) -> dict[str, tuple[int, ...]]:
    """Shape of one observation's array in each register, by a run on zeros."""
    zeros = {key: np.zeros((1, *spec.shape), spec.dtype) for key, spec in graph.observations.items()}
    registers = graph.compile()(zeros | graph.memory(1))
    return {name: array.shape[1:] for name, array in registers.items()}


def _is_claimed(op: Op, shapes: Mapping[str, tuple[int, ...]]) -> bool:
    if op.kind in ("slice", "concatenate", "append"):
        return len(shapes[op.output]) == 1
    return op.kind in _WRITERS


def _flatten(block: _Block, op: Op) -> str:
    block.places[op.output] = block.places[op.inputs[0]]
    return ""


def _slice(block: _Block, op: Op) -> str:
    size = block.size(op.inputs[0])
    # As Python reads it: a start below zero counts from the end.
    start = slice(int(op.attributes["start"]), int(op.attributes["stop"])).indices(size)[0]
    block.places[op.output] = f"({block.places[op.inputs[0]]} + {start} * KD_LANES)"
    return ""


def _concatenate(block: _Block, op: Op) -> str:
    target = block.output(op)
    lines: list[str] = []
    offset = 0
    for name in op.inputs:
        size = block.size(name)
        into = f"{target} + {offset} * KD_LANES"
        lines.append(f"    memcpy({into}, {block.places[name]}, {4 * size} * KD_LANES);\n")
        offset += size
    return "".join(lines)


def _append(block: _Block, op: Op) -> str:
    target = block.output(op)
    size = block.size(op.inputs[0])
    value = op.tensors["value"]
    tail = f"{target}[({size} + i) * KD_LANES + l] = {block.constant(value)}[i];"
    return (
        f"    memcpy({target}, {block.places[op.inputs[0]]}, {4 * size} * KD_LANES);\n"
        f"    for (int i = 0; i < {len(value)}; i++) {{\n"
        f"        for (int l = 0; l < KD_LANES; l++) {tail}\n"
        "    }\n"
    )


def _normalise(block: _Block, op: Op) -> str:
    limit = float(op.attributes["clip"])
    value = f"kd_clip((x - mean) * scale, {_literal(-limit)}, {_literal(limit)})"
    return block.each(op, value, mean=op.tensors["mean"], scale=op.tensors["scale"])


def _scale(block: _Block, op: Op) -> str:
    return block.each(op, "x * scale + shift", scale=op.tensors["scale"], shift=op.tensors["shift"])


def _clip(block: _Block, op: Op) -> str:
    return block.each(op, f"kd_clip(x, {_literal(op.attributes['low'])}, {_literal(op.attributes['high'])})")


def _activation(block: _Block, op: Op) -> str:
    function = op.attributes["function"]
    if function == SLOPED:
        return block.each(op, f"kd_prelu(x, {_literal(op.attributes['slope'])})")
    return block.each(op, f"kd_{function}(x)")


def _linear(block: _Block, op: Op) -> str:
    weight = op.tensors["weight"]
    m, n = weight.shape
    source = block.places[op.inputs[0]]
    constants = f"{block.constant(weight.T)}, {block.constant(np.broadcast_to(op.tensors['bias'], (1, m)))}"
    return f"    kd_dense({n}, {m}, {constants}, {source}, {block.output(op)});\n"


_WRITERS: dict[str, Callable[[_Block, Op], str]] = {
    "flatten": _flatten,
    "slice": _slice,
    "concatenate": _concatenate,
    "append": _append,
    "normalise": _normalise,
    "scale": _scale,
    "clip": _clip,
    "activation": _activation,
    "linear": _linear,
}
"""How each claimed kind of operation is written."""


def _literal(value: float) -> str:
    """A float32 constant, exactly; the largest one for infinity, as in the policy's own C."""
    largest = np.finfo(np.float32).max
    return f"{float(np.float32(np.clip(value, -largest, largest))).hex()}f"


def _constant(name: str, values: Array) -> str:
    return f"static const float {name}[] = {{{', '.join(map(_literal, values.tolist()))}}};"
