"""Text and data of a program under construction, in one of the languages that it can be written in.

Every name in the text is generated: `r0`, `r1`, ... are working arrays, `k0`, `k1`, ... constants;
nothing of a file's strings reaches it.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from kd_agent.errors import KDError
from kd_agent.export._language import Language, Lines
from kd_agent.export._program import Program, transposed
from kd_agent.policies import PARAMS, Array, Op, following


@dataclass(frozen=True)
class Place:
    """Where a register lies: an array and the index of its first number."""

    array: str
    offset: int = 0

    def at(self, index: str | int) -> str:
        """The text of one element."""
        if not self.offset:
            return f"{self.array}[{index}]"
        if index == 0:
            return f"{self.array}[{self.offset}]"
        return f"{self.array}[{self.offset} + {index}]"


@dataclass
class Source:
    """Text and data under construction.

    Attributes:
        language: The language.
        program: The graph.
        writers: How each kind of operation is written.
        constants: Arrays the text refers to, by generated name.
        buffers: Length of each working array, by generated name.
        places: Where each register lies.
        multiply_adds: Multiplications of weights per run.
        gathers: Whether a convolution gathers the numbers under its kernel, for `dense` to multiply at once.
        whole_inputs, whole_sums: Lengths of the working arrays of whole numbers (int8 only).
        slots: Length of each working array of int16 registers (`_whole` only).
        row_unit: The unit of the row of parameters where it is whole, else 0 (`_whole` only).
        table_bytes: Bytes of the tables that the functions which the text calls have of their own.
    """

    gathers: ClassVar[bool] = False
    language: Language
    program: Program
    writers: Mapping[str, Callable[[Any, Op], Lines]]
    constants: dict[str, Array] = field(default_factory=dict)
    buffers: dict[str, int] = field(default_factory=dict)
    places: dict[str, Place] = field(default_factory=dict)
    multiply_adds: int = 0
    whole_inputs: int = 0
    whole_sums: int = 0
    slots: dict[str, int] = field(default_factory=dict)
    row_unit: float = 0.0
    table_bytes: int = 0

    def __post_init__(self) -> None:
        graph = self.program.graph
        self._lay_out("obs", graph.observations)
        # Sorted, as `PolicyGraph.memory` has them: the caller's array is the same in every runtime.
        self._lay_out("state", sorted(graph.states))
        self._uses: Counter[str] = Counter()
        for op in graph.ops:
            self._uses.update(op.inputs)
        # What is copied out at the end is read once more.
        self._uses.update([self.program.row, PARAMS, *map(following, graph.states)])

    def _lay_out(self, array: str, registers: Iterable[str]) -> None:
        """Registers one after the other in an array of the caller's."""
        offset = 0
        for name in registers:
            self.places[name] = Place(array, offset)
            offset += self.program.size(name)

    def body(self) -> Lines:
        """The text that reads `obs` (and `state`), and writes `out` (and `state`).

        Where only `params` needs some operations, they are skipped unless `all`.
        """
        program, graph, out = self.program, self.program.graph, Place(self.language.out)
        lines = self.statements(program.acting)
        rest = self.statements(program.rest)
        complete = rest + self.copy(out, self.places[PARAMS], graph.head.num_params)
        if program.rest:
            acting = self.copy(out, self.places[program.row], graph.head.num_acting)
            complete = self.language.when("all", complete, acting)
        lines += complete
        # Last: until here the operations read the memory as it was before the step.
        for name in sorted(graph.states):
            lines += self.copy(self.places[name], self.places[following(name)], program.size(name))
        return lines

    def statements(self, ops: Sequence[Op]) -> Lines:
        """The text of some operations, in order."""
        lines: Lines = []
        for op in ops:
            lines += self.writers[op.kind](self, op)
        return lines

    def constant(self, values: Array) -> str:
        """Name of a constant array."""
        name = f"k{len(self.constants)}"
        self.constants[name] = np.ascontiguousarray(values).reshape(-1)
        return name

    def bias(self, values: Array, size: int) -> str:
        """Name of a constant vector `[size]`.

        Args:
            values: `[size]`, or `[1]` for all.
            size: Numbers in the vector.
        """
        # `[1, size]`, a batch of one, as NumPy's kernels add it: a bias of more axes than they allow fails here too.
        return self.constant(np.broadcast_to(values, (1, size)))

    def value(self, values: Array, shape: tuple[int, ...], index: str = "i") -> str:
        """Text of element `index` of a constant; a literal where all are equal.

        Args:
            values: What broadcasts to `shape`.
            shape: The shape of the register that it is combined with.
            index: Text of the index into the flat register.
        """
        flat = np.broadcast_to(values, (1, *shape)).reshape(-1)
        if (flat == flat[0]).all():
            return self.language.literal(flat[0])
        return f"{self.constant(np.asarray(flat, np.float32))}[{index}]"

    def buffer(self, size: int) -> Place:
        """A new working array."""
        name = f"r{len(self.buffers)}"
        self.buffers[name] = size
        return Place(name)

    def output(self, op: Op) -> Place:
        """A new working array for what an operation writes."""
        place = self.buffer(self.program.size(op.output))
        self.places[op.output] = place
        return place

    def elementwise(self, op: Op, text: Callable[[str], str]) -> Lines:
        """A loop of one expression, in place where nobody else reads the input.

        Args:
            op: The operation.
            text: From the text of an element of its input to that of its output.
        """
        source = self.places[op.inputs[0]]
        alone = self._uses[op.inputs[0]] == 1 and source.array in self.buffers  # the caller's arrays are not ours
        if alone:
            target = source
            self.places[op.output] = target
        else:
            target = self.output(op)
        size = self.program.size(op.output)
        return self.language.loop("i", size, self.language.assign(target.at("i"), text(source.at("i"))))

    def alias(self, op: Op, offset: int = 0) -> Lines:
        """The output is (a part of) the input, unmoved.

        Args:
            op: The operation.
            offset: Index of the part's first number.
        """
        source = self.places[op.inputs[0]]
        self.places[op.output] = Place(source.array, source.offset + offset)
        # Whoever else reads the input reads the same numbers: nobody may write over them.
        self._uses[op.output] += self._uses[op.inputs[0]] - 1
        return []

    def row(self, register: str) -> Place:
        """Where a register of one axis lies; KDError for one of more."""
        shape = self.program.shapes[register]
        if len(shape) != 1:
            raise KDError(f"products of arrays of shape {shape} are written as ONNX or torch only")
        return self.places[register]

    def copy(self, target: Place, source: Place, size: int) -> Lines:
        """A copying loop.

        Args:
            target: Where to.
            source: Where from.
            size: How many numbers.
        """
        if source == target:  # written there at once
            return []
        return self.language.loop("i", size, self.language.assign(target.at("i"), source.at("i")))

    def dense(self, target: Place, source: Place, weight: Array, bias: Array | None) -> Lines:
        """`target = weight [m, n] source + bias`, or `target += weight source` without a bias.

        Four inputs at a time, outputs side by side: compilers turn the inner loop into vector code.

        Args:
            target: `[m]`.
            source: `[n]`.
            weight: `[m, n]`.
            bias: `[m]`, or `[1]` for all.
        """
        m, n = weight.shape
        self.multiply_adds += m * n
        loop, assign, add = self.language.loop, self.language.assign, self.language.add
        w = self.constant(transposed(weight))
        lines: Lines = []
        if bias is not None:
            lines += loop("j", m, assign(target.at("j"), f"{self.bias(bias, m)}[j]"))
        whole = n - n % 4
        if whole:
            # Four a pass save three quarters of the loads and stores of the sums; added in pairs, they do not wait for
            # each other.
            parts = [f"{source.at(f'i + {k}')} * {w}[(i + {k}) * {m} + j]" for k in range(4)]
            total = f"({parts[0]} + {parts[1]}) + ({parts[2]} + {parts[3]})"
            lines += loop("i", whole, *loop("j", m, add(target.at("j"), total)), step=4)
        if n % 4:
            single = add(target.at("j"), f"{source.at('i')} * {w}[i * {m} + j]")
            lines += loop("i", n, *loop("j", m, single), start=whole)
        return lines
