"""C99: one source and one header, nothing else: no malloc, no math.h, no global state.

A recurrent policy's memory is the caller's: an array of floats, zero where an episode starts.
`int8=True` stores the weights of linear layers as int8 with a scale a row, their inputs as int16 over
a range found by `_ranges`, and sums in int32.
"""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kd_agent.errors import KDError
from kd_agent.export._c_prelude import prelude
from kd_agent.export._int8 import quantised
from kd_agent.export._loops import WRITERS, decode
from kd_agent.export._program import Program, analyse, plain
from kd_agent.export._source import Language, Lines, Source, indented
from kd_agent.policies import Array, PolicyGraph
from kd_agent.policies.safe_files import write_atomically

OPS = frozenset(WRITERS)
LANGUAGE = Language(index="int", whole="const int", number="const float", suffix="f")
_TYPES = {"float32": "float", "int8": "int8_t", "int16": "int16_t", "int32": "int32_t"}


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
    if any(abs(start) >= 1 << 30 for start in graph.head.start):
        raise KDError(f"actions from {max(graph.head.start, key=abs)} on are too large for a C int")
    source = _begun(graph, int8)
    return _header(source.program, prefix), _source(source, header, prefix)


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
    """What a policy needs in C; KDError where it cannot be written."""
    if lacking := sorted({op.kind for op in graph.ops} - OPS):
        raise KDError(f"c cannot express the operation {lacking[0]!r}")
    source = _begun(graph, int8)
    source.body()
    _decision(source)
    return _cost(source)


def _begun(graph: PolicyGraph, int8: bool) -> Source:
    return Source(LANGUAGE, analyse(graph), {**WRITERS, **quantised(graph)} if int8 else WRITERS)


def _cost(source: Source) -> Cost:
    rom = sum(array.nbytes for array in source.constants.values())
    floats = sum(source.buffers.values()) + source.program.graph.head.num_params
    ram = 4 * (floats + source.whole_sums) + 2 * source.whole_inputs
    return Cost(rom, ram, source.multiply_adds)


def stack_bytes(graph: PolicyGraph) -> int:
    """Bytes of working memory that the code needs at most."""
    program = analyse(graph)
    return 4 * sum(program.size(register) for register in program.shapes)


def _signatures(graph: PolicyGraph, prefix: str) -> tuple[str, str]:
    inputs = "const float *obs" + (", float *state" if graph.states else "")
    if graph.head.kind == "categorical":
        act = f"int {prefix}_act({inputs})"
    else:
        act = f"void {prefix}_act({inputs}, float *action)"
    return act, f"void {prefix}_params({inputs}, float *params)"


def _header(program: Program, prefix: str) -> str:
    graph, name = program.graph, prefix.upper()
    act, params = _signatures(graph, prefix)
    sizes = {"OBS_SIZE": sum(program.size(key) for key in graph.observations), "NUM_PARAMS": graph.head.num_params}
    if graph.states:
        sizes["STATE_SIZE"] = sum(program.size(key) for key in graph.states)
    if graph.head.kind == "categorical":
        sizes["NUM_ACTIONS"] = graph.head.num_params
    else:
        sizes["ACTION_SIZE"] = len(graph.head.low or graph.head.nvec)
    return "\n".join([
        f"#ifndef {name}_POLICY_H", f"#define {name}_POLICY_H", "",
        "/* Generated by kd_agent. Arrays are flat, row by row:", *_layout(program), "*/",
        *(f"#define {name}_{key} {size}" for key, size in sizes.items()), "",
        "#ifdef __cplusplus", 'extern "C" {', "#endif", "",
        "/* The greedy action, in the environment's units. */", f"{act};", "",
        "/* The parameters of the action distribution. */", f"{params};", "",
        "#ifdef __cplusplus", "}", "#endif", "", "#endif", "",
    ])  # fmt: skip


def _layout(program: Program) -> Lines:
    lines, offset = [], 0
    for key, spec in program.graph.observations.items():
        size = program.size(key)
        shape = " x ".join(map(str, spec.shape)) or "1"
        lines.append(f"   obs[{offset}..{offset + size - 1}]: {plain(key)}, {shape}")
        offset += size
    if program.graph.states:
        lines.append("   state: the memory, updated by every call; zeros where an episode starts")
    return lines


def _source(source: Source, header: str, prefix: str) -> str:
    program, graph = source.program, source.program.graph
    act, params = _signatures(graph, prefix)
    inputs = "const float *obs" + (", float *state" if graph.states else "") + ", float *out"
    given = "obs, state" if graph.states else "obs"
    everything, acting = (", 1", ", 0") if program.rest else ("", "")
    body = source.body()
    functions = [
        f"static void kd_run({inputs}{', int all' if program.rest else ''}) {{",
        *indented([f"float {name}[{size}];" for name, size in source.buffers.items()]),
        *indented(_whole_numbers(source)),
        *indented(body), "}", "",
        f"{act} {{", f"    float row[{graph.head.num_params}];", f"    kd_run({given}, row{acting});",
        *indented(_decision(source)), "}", "",
        f"{params} {{", f"    kd_run({given}, params{everything});", "}", "",
    ]  # fmt: skip
    constants = [_constant(name, array) for name, array in source.constants.items()]
    text = "\n".join(functions)
    return "\n".join([
        *_comment(source), "", f'#include "{header}"', "#include <stdint.h>", "",
        prelude(text, rough=source.whole_inputs > 0), "", *constants, "", text,
    ])  # fmt: skip


def _whole_numbers(source: Source) -> Lines:
    if not source.whole_inputs:
        return []
    return [f"int16_t q[{source.whole_inputs}];", f"int32_t sum[{source.whole_sums}];", "const int8_t *w;"]


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
    literals = [LANGUAGE.literal(x) for x in array] if array.dtype == np.float32 else [str(x) for x in array]
    rows = [", ".join(literals[i : i + 8]) for i in range(0, len(literals), 8)]
    inner = ",\n    ".join(rows)
    return f"static const {_TYPES[array.dtype.name]} {name}[{len(array)}] = {{\n    {inner}\n}};"
