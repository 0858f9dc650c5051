"""C99: one source and one header, nothing else: no malloc, no math.h, no global state.

A policy that is played by samples has `<prefix>_sample` beside `<prefix>_act`; its generator is the caller's too.
A recurrent policy's memory is the caller's: an array of floats, zero where an episode starts.
Tables stay in flash wherever a compiler has to be told so (GNU C for AVR).
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
from kd_agent.export._language import Lines, block, indented
from kd_agent.export._loops import WRITERS
from kd_agent.export._play import Played, Steps
from kd_agent.export._play_c import compiled
from kd_agent.export._program import analyse, environment_of
from kd_agent.export._sample import noisy
from kd_agent.export._source import Source
from kd_agent.export._whole import Whole
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
#if defined(__FLASH) && !defined(__STRICT_ANSI__) /* GNU C for AVR, which copies other constants into RAM */
#define KD_FLASH __flash
#else
#define KD_FLASH
#endif
$guard
$prelude

$constants
$functions""")
_FUNCTIONS = Template("""\
static void kd_run($inputs) {
$arrays$body}

$act {
    $storage$number row[$num_params];
    kd_run($arguments, row$acting);
$mask_row$decision}

$params {
$all_params$mask_params}
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


def play(path: Path, graph: PolicyGraph, steps: Steps) -> Played:
    """Compile the source and play it.

    Args:
        path: The source file; its header lies beside it.
        graph: The policy.
        steps: What it is asked about.
    """
    return compiled(path, graph, steps)


def generate(
    graph: PolicyGraph, header: str, *, int8: bool = False, prefix: str = "kd", board: bool = False
) -> tuple[str, str]:
    """Texts of header and source.

    Args:
        graph: The policy.
        header: The header's file name.
        int8: Whether linear layers compute with int8 weights.
        prefix: First part of the public names.
        board: Whether it is for a microcontroller: working arrays are static, so that a linker counts them, and int8
            goes with whole numbers throughout (`_whole`) and needs no floating-point unit.

    Raises:
        KDError: `prefix` is not a C identifier.
    """
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]{0,30}", prefix):
        raise KDError(f"prefix {prefix!r} is not the beginning of a C identifier")
    farthest = max(graph.head.start, key=abs, default=0)
    if abs(farthest) >= _LARGEST_START:
        raise KDError(f"actions from {farthest} on are too large for a C int")
    source = _begun(graph, int8, board)
    return header_text(source.program, prefix), _source(source, header, prefix, board)


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


def cost(graph: PolicyGraph, *, int8: bool = False, board: bool = False) -> Cost:
    """What a policy needs in C.

    Args:
        graph: The policy.
        int8: Whether linear layers compute with int8 weights.
        board: Whether it is for a microcontroller, see `generate`.

    Raises:
        KDError: It cannot be written.
    """
    lacking = sorted({op.kind for op in graph.ops} - OPS)
    if lacking:
        raise KDError(f"c cannot express the operation {lacking[0]!r}")
    source = _begun(graph, int8, board)
    # Written, and thrown away: constants and buffers are known once they have been asked for.
    source.body()
    decode(source, graph.head)
    return _cost(source)


def _begun(graph: PolicyGraph, int8: bool, board: bool) -> Source:
    program = analyse(graph)
    writers = dict(WRITERS)
    if int8 and board:
        writers = Whole.of(graph).writers(writers)
    elif int8:
        writers |= quantised(graph)
    return Source(language(program), program, writers)


def _cost(source: Source) -> Cost:
    rom = sum(array.nbytes for array in source.constants.values()) + source.table_bytes
    # The row of parameters lies on the stack of `act`, beside the buffers of what it calls.
    row = source.program.graph.head.num_params * (2 if source.row_unit else 4)
    floats = sum(source.buffers.values()) + source.whole_sums
    ram = row + 4 * floats + 2 * (source.whole_inputs + sum(source.slots.values()))
    return Cost(rom, ram, source.multiply_adds)


def stack_bytes(graph: PolicyGraph) -> int:
    """Bytes of working memory that the code needs at most."""
    program = analyse(graph)
    return 4 * sum(map(program.size, program.shapes))


def _source(source: Source, header: str, prefix: str, board: bool) -> str:
    # First the text, which asks for the constants, buffers and prelude that stand above it.
    functions = _functions(source, prefix, "static " if board else "")
    constants = [_constant(name, array) for name, array in source.constants.items()]
    return _SOURCE.substitute(
        comment=block(_comment(source, board)),
        header=header,
        guard=guard(source.program.graph),
        prelude=prelude(functions, rough=source.whole_inputs > 0),
        constants=block(constants),
        functions=functions,
    )


def _functions(source: Source, prefix: str, storage: str) -> str:
    graph = source.program.graph
    inputs, handed_on = arguments(graph)
    everything = acting = flag = ""
    if source.program.rest:  # an action can do without some operations
        flag = ", int all"
        everything = ", 1"
        acting = ", 0"
    declared = Signatures.of(graph, prefix)
    body = source.body()
    number = "int16_t" if source.row_unit else "float"
    arrays = [f"{storage}float {name}[{size}];" for name, size in source.buffers.items()]
    parts = {
        "num_params": str(graph.head.num_params),
        "number": number,
        "storage": storage,
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
        inputs=f"{inputs}, {number} *out{flag}",
        arrays=block(indented(arrays + _whole_numbers(source, storage))),
        body=block(indented(body)),
        act=declared.act,
        acting=acting,
        all_params=block(indented(_params(source, f"{handed_on}, {{}}{everything}"))),
        mask_params=block(indented(masked(source, graph.head, "params"))),
        params=declared.params,
        sample=sample,
    )


def _whole_numbers(source: Source, storage: str) -> Lines:
    lines = [f"{storage}int16_t {name}[{size}];" for name, size in source.slots.items()]
    if source.whole_inputs:
        lines.append(f"{storage}int16_t q[{source.whole_inputs}];")
    # Packed layers alone need no sums side by side.
    if source.whole_sums:
        lines.append(f"{storage}int32_t sum[{source.whole_sums}];")
        lines.append("const KD_FLASH int8_t *w;")
    return lines


def _params(source: Source, handed_on: str) -> Lines:
    """What fills `params`, by the arguments of `kd_run` but for the array that it writes to."""
    if not source.row_unit:
        return [f"kd_run({handed_on.format('params')});"]
    count = source.program.graph.head.num_params
    unit = source.language.literal(source.row_unit)
    return [
        f"int16_t row[{count}];",
        f"kd_run({handed_on.format('row')});",
        *source.language.loop("i", count, f"params[i] = {unit} * (float)row[i];"),
    ]


def _decision(source: Source) -> Lines:
    head = source.program.graph.head
    if source.row_unit:
        return [f"return kd_argmax16(row, {head.nvec[0]}) + ({head.start[0]});"]
    return decode(source, head)


def _comment(source: Source, board: bool) -> Lines:
    graph, needs = source.program.graph, _cost(source)
    ram = f"{needs.ram} bytes of stack, no heap, no static data"
    if board:
        ram = f"{needs.ram} bytes, fixed, no heap"
    return [
        "/* Generated by kd_agent: do not edit.",
        f"   Policy for {environment_of(graph)}, {graph.head.kind} actions.",
        f"   ROM: {needs.rom} bytes of constants.",
        f"   RAM: {ram}.",
        f"   Multiply-adds: {needs.multiply_adds} per action.",
        "*/",
    ]


def _constant(name: str, array: Array) -> str:
    literals = LANGUAGE.literals(array)
    rows = [", ".join(literals[i : i + 8]) for i in range(0, len(literals), 8)]
    inner = ",\n    ".join(rows)
    return f"static const KD_FLASH {_TYPES[array.dtype.name]} {name}[{len(array)}] = {{\n    {inner}\n}};"
