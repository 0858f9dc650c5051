"""C99: one source and one header, nothing else: no malloc, no math.h, no global state.

A policy that is played by samples has `<prefix>_sample` beside `<prefix>_act`; its generator is the caller's too.
A recurrent policy's memory is the caller's: an array of floats, zero where an episode starts.
`int8=True` stores the weights of linear layers as int8 with a scale a row (packed, where they are of 4 bits or ternary
already), their inputs as int16 over a range fixed beforehand (`_int8`), and sums in int32.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from string import Template

from kd_agent.errors import KDError
from kd_agent.export._c_header import Signatures, arguments
from kd_agent.export._c_header import header as header_text
from kd_agent.export._c_int import LANGUAGE, guard, language
from kd_agent.export._c_prelude import prelude
from kd_agent.export._decode import decode, masked
from kd_agent.export._int8 import quantised
from kd_agent.export._loops import WRITERS
from kd_agent.export._program import analyse, plain
from kd_agent.export._sample import noisy
from kd_agent.export._source import Lines, Source, block, indented
from kd_agent.policies import Array, PolicyGraph
from kd_agent.policies.safe_files import write_atomically

SUFFIX = ".c"
OPS = frozenset(WRITERS)
_TYPES = {"float32": "float", "int8": "int8_t", "int16": "int16_t", "int32": "int32_t", "uint8": "uint8_t"}
_LARGEST_START = 1 << 30
"""Half of what an int of 32 bits holds: the number of an action is added to it."""
# Letters of the templates: what begins with $ is put in; a block of lines ends with its own line break.
_SOURCE = Template("""\
$comment
#include "$header"
#include <stdint.h>
$guard
$prelude

$constants
$functions""")
_FUNCTIONS = Template("""\
static void kd_run($inputs) {
$arrays$body}

$act {
    float row[$num_params];
    kd_run($arguments, row$acting);
$mask_row$decision}

$params {
    kd_run($arguments, params$everything);
$mask_params}
$sample""")
_SAMPLE = Template("""
$sample {
    float row[$num_params];
    kd_run($arguments, row$everything);
$mask_row$noise$decision}
""")


def write(graph: PolicyGraph, path: Path, *, int8: bool = False, prefix: str = "kd") -> list[Path]:
    """Write `path` and, beside it, the header.

    Args:
        graph: The policy.
        path: The source file, `<name>.c`.
        int8: Whether linear layers compute with int8 weights.
        prefix: First part of the public names (`<prefix>_act`), for several policies in one program.
    """
    header = path.with_suffix(".h")
    if not re.fullmatch(r"[\w.+-]+", path.name, re.ASCII) or header == path:
        raise KDError(f"{path.name}: a C file's name has letters, digits, '_', '.', '+' and '-' only, and ends in .c")
    texts = generate(graph, header.name, int8=int8, prefix=prefix)
    # The header first: a source without it does not compile, a header without its source only does not link.
    for target, text in zip((header, path), texts, strict=True):
        write_atomically(target, text.encode())
    return [path, header]


def generate(graph: PolicyGraph, header: str, *, int8: bool = False, prefix: str = "kd") -> tuple[str, str]:
    """Texts of header and source.

    Args:
        graph: The policy.
        header: The header's file name.
        int8: Whether linear layers compute with int8 weights.
        prefix: First part of the public names.

    Raises:
        KDError: `prefix` is not a C identifier.
    """
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]{0,30}", prefix):
        raise KDError(f"prefix {prefix!r} is not the beginning of a C identifier")
    farthest = max(graph.head.start, key=abs, default=0)
    if abs(farthest) >= _LARGEST_START:
        raise KDError(f"actions from {farthest} on are too large for a C int")
    source = _begun(graph, int8)
    return header_text(source.program, prefix), _source(source, header, prefix)


@dataclass(frozen=True)
class Cost:
    """What the code needs.

    Attributes:
        rom: Bytes of constants.
        ram: Bytes of stack.
        multiply_adds: Multiplications of weights per action.
    """

    rom: int
    ram: int
    multiply_adds: int


def cost(graph: PolicyGraph, *, int8: bool = False) -> Cost:
    """What a policy needs in C.

    Args:
        graph: The policy.
        int8: Whether linear layers compute with int8 weights.

    Raises:
        KDError: It cannot be written.
    """
    lacking = sorted({op.kind for op in graph.ops} - OPS)
    if lacking:
        raise KDError(f"c cannot express the operation {lacking[0]!r}")
    source = _begun(graph, int8)
    # Written, and thrown away: constants and buffers are known once they have been asked for.
    source.body()
    _decision(source)
    return _cost(source)


def _begun(graph: PolicyGraph, int8: bool) -> Source:
    program = analyse(graph)
    writers = dict(WRITERS)
    if int8:
        writers |= quantised(graph)
    return Source(language(program), program, writers)


def _cost(source: Source) -> Cost:
    rom = sum(array.nbytes for array in source.constants.values())
    # The row of parameters lies on the stack of `act`, beside the buffers of what it calls.
    floats = sum(source.buffers.values()) + source.program.graph.head.num_params
    ram = 4 * (floats + source.whole_sums) + 2 * source.whole_inputs
    return Cost(rom, ram, source.multiply_adds)


def stack_bytes(graph: PolicyGraph) -> int:
    """Bytes of working memory that the code needs at most."""
    program = analyse(graph)
    return 4 * sum(map(program.size, program.shapes))


def _source(source: Source, header: str, prefix: str) -> str:
    # First the text, which asks for the constants, buffers and prelude that stand above it.
    functions = _functions(source, prefix)
    constants = [_constant(name, array) for name, array in source.constants.items()]
    return _SOURCE.substitute(
        comment=block(_comment(source)),
        header=header,
        guard=guard(source.program.graph),
        prelude=prelude(functions, rough=source.whole_inputs > 0),
        constants=block(constants),
        functions=functions,
    )


def _functions(source: Source, prefix: str) -> str:
    graph = source.program.graph
    inputs, handed_on = arguments(graph)
    inputs += ", float *out"
    everything = acting = ""
    if source.program.rest:  # an action can do without some operations
        inputs += ", int all"
        everything = ", 1"
        acting = ", 0"
    declared = Signatures.of(graph, prefix)
    body = source.body()
    arrays = [f"float {name}[{size}];" for name, size in source.buffers.items()]
    parts = {
        "num_params": str(graph.head.num_params),
        "arguments": handed_on,
        "everything": everything,
        "mask_row": block(indented(masked(source, graph.head))),
        "decision": block(indented(_decision(source))),
    }
    sample = ""
    if graph.sampled:
        noise = block(indented(noisy(source, graph.head)))
        sample = _SAMPLE.substitute(parts, sample=declared.sample, noise=noise)
    return _FUNCTIONS.substitute(
        parts,
        inputs=inputs,
        arrays=block(indented(arrays + _whole_numbers(source))),
        body=block(indented(body)),
        act=declared.act,
        acting=acting,
        mask_params=block(indented(masked(source, graph.head, "params"))),
        params=declared.params,
        sample=sample,
    )


def _whole_numbers(source: Source) -> Lines:
    lines = [f"int16_t q[{source.whole_inputs}];"] if source.whole_inputs else []
    # Packed layers alone need no sums side by side.
    if source.whole_sums:
        lines += [f"int32_t sum[{source.whole_sums}];", "const int8_t *w;"]
    return lines


def _decision(source: Source) -> Lines:
    head = source.program.graph.head
    if head.kind == "categorical":
        return [f"return kd_argmax(row, 0, {head.nvec[0]}) + ({head.start[0]});"]
    return decode(source, head)


def _comment(source: Source) -> Lines:
    graph, needs = source.program.graph, _cost(source)
    return [
        "/* Generated by kd_agent: do not edit.",
        f"   Policy for {plain(graph.provenance.get('env', 'an unnamed environment'))}, {graph.head.kind} actions.",
        f"   ROM: {needs.rom} bytes of constants.",
        f"   RAM: {needs.ram} bytes of stack, no heap, no static data.",
        f"   Multiply-adds: {needs.multiply_adds} per action.",
        "*/",
    ]


def _constant(name: str, array: Array) -> str:
    literals = LANGUAGE.literals(array)
    rows = [", ".join(literals[i : i + 8]) for i in range(0, len(literals), 8)]
    inner = ",\n    ".join(rows)
    return f"static const {_TYPES[array.dtype.name]} {name}[{len(array)}] = {{\n    {inner}\n}};"
