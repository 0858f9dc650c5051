"""C where an int has 16 bits, all that the standard promises and all that AVR and MSP430 give."""

from dataclasses import replace
from string import Template

from kd_agent.export._language import Language
from kd_agent.export._program import Program
from kd_agent.policies import PolicyGraph

LANGUAGE = Language(index="int", whole="const int", number="const float", suffix="f")
_WIDE = replace(LANGUAGE, index="int32_t", whole="const int32_t")
_LONGEST = 1 << 14
"""Numbers of an array that any int counts: half of what it holds, for an index may pass the end by a step."""
_LARGEST_INT = (1 << 15) - 1
_GUARD = Template("""\
#include <limits.h>
#if INT_MAX < $largest
#error "an int of this compiler does not hold every action of the policy"
#endif
""")


def language(program: Program) -> Language:
    """C whose indices are wide enough for the longest array."""
    graph = program.graph
    lengths = [program.observed, program.remembered]
    lengths += map(program.size, program.shapes)
    for op in graph.ops:
        lengths += [tensor.size for tensor in op.tensors.values()]
    if max(lengths) > _LONGEST:
        return _WIDE
    return LANGUAGE


def guard(graph: PolicyGraph) -> str:
    """What stops a compiler whose int is too small for an action's number; nothing where any int will do."""
    head = graph.head
    largest = head.num_params + max(map(abs, head.start), default=0)
    if largest <= _LARGEST_INT:
        return ""
    return _GUARD.substitute(largest=largest)
