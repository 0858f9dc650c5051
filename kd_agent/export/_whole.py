"""int8 arithmetic for processors without floating point: from the normaliser on, numbers are whole.

A register that is *whole* lies in an array of int16 and has a unit: it stands for `unit * q`. Observations become
whole by shifts, and the statistics, products, sums and activations follow in whole numbers; every board, and this
machine, computes the same bits. What has no form in whole numbers (memories, trees, convolutions, other
activations) is left to the arithmetic of `_int8`.

Letters: `m` outputs, `n` inputs of a layer, `z` what goes into an activation.
"""

import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from kd_agent.export._bounds import bounds
from kd_agent.export._int8 import LOOSE, quantised, ranges_of
from kd_agent.export._language import Lines
from kd_agent.export._source import Place, Source
from kd_agent.export._stored import as_bytes, factors, on_grid
from kd_agent.policies import PARAMS, Array, Op, PolicyGraph, following

Writer = Callable[[Source, Op], Lines]
_INT16 = 32767
_MOST_NUMBERS = 254
"""Inputs and outputs of a layer, which a byte counts, packed weights filled up; all products fit a sum of 32 bits."""
_NORMAL = 8192
"""What a normalised observation is where it is clipped."""
_FAR = 3
"""Bits that are taken from features whose mean is far from 0, for its own."""
_MOST_POWER = 100
"""Powers of two beyond which features are left to floats: the difference to a float's exponent stays one of 8 bits."""
_EXPONENT = 142
"""Of a float32 whose upper 16 bits of fraction are a whole number."""
_UNITS = {"tanh": 2.0**-13, "sigmoid": 2.0**-12, "silu": 2.0**-12}
"""The unit of `z` that the table of tanh is made for: tanh takes it up to 4, the others, which halve it, up to 8."""
_ACTIVATIONS = {"relu", *_UNITS}
_STEPS = 64
"""Of the table, over all that an int16 holds; a straight line between them errs by up to 2e-4."""


@dataclass
class Whole:
    """The writers of one policy, and what they agree on.

    Attributes:
        graph: The policy.
        proven: What the absolute value of each register cannot pass.
        seen: What it is taken to reach.
        in_floats: The writer of layers whose input is not whole.
        units: Of the registers that are whole, so far.
    """

    graph: PolicyGraph
    proven: Mapping[str, float]
    seen: Mapping[str, float]
    in_floats: Writer
    units: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._readers: dict[str, list[Op]] = {}
        for op in self.graph.ops:
            for name in op.inputs:
                self._readers.setdefault(name, []).append(op)
        # What is copied out at the end is read there too.
        self._kept = Counter([PARAMS, *map(following, self.graph.states)])
        self._free: list[str] = []

    @staticmethod
    def of(graph: PolicyGraph) -> "Whole":
        """Those of a policy; KDError where it has no layer or the range of its observations is not known."""
        in_floats = quantised(graph)["linear"]
        proven, seen = bounds(graph), ranges_of(graph)
        return Whole(graph, proven, seen, in_floats)

    def writers(self, others: Mapping[str, Writer]) -> dict[str, Writer]:
        """How each kind of operation is written.

        Args:
            others: How it is written where it is not whole.
        """

        def _normalise(s: Source, op: Op) -> Lines:
            starts = op.inputs[0] in self.graph.observations and len(s.program.shapes[op.output]) == 1
            if starts and _is_within(op) and self._feeds_a_layer(op):
                return self._normalise(s, op)
            return others["normalise"](s, op)

        def _linear(s: Source, op: Op) -> Lines:
            return self._linear(s, op) if op.inputs[0] in self.units else self.in_floats(s, op)

        def _activation(s: Source, op: Op) -> Lines:
            return self._activation(s, op) if op.inputs[0] in self.units else others["activation"](s, op)

        return {**others, "normalise": _normalise, "linear": _linear, "activation": _activation}

    def _only_reader(self, op: Op) -> Op | None:
        """The operation that reads what this one writes, where nothing else does."""
        readers = self._readers.get(op.output, [])
        return readers[0] if len(readers) == 1 and not self._kept[op.output] else None

    def _feeds_a_layer(self, op: Op) -> bool:
        reader = self._only_reader(op)
        return reader is not None and reader.kind == "linear" and max(reader.tensors["weight"].shape) <= _MOST_NUMBERS

    def _activates(self, op: Op) -> Op | None:
        """The activation that reads what a layer writes, where it can in whole numbers."""
        reader = self._only_reader(op)
        if reader is None or reader.kind != "activation" or reader.attributes["function"] not in _ACTIVATIONS:
            return None
        return reader if self._feeds_a_layer(reader) else None

    def _is_row(self, op: Op) -> bool:
        """Whether an operation writes logits of which nothing is asked but which is the largest."""
        head = self.graph.head
        plain = head.kind == "categorical" and not head.expects_masks and not self.graph.sampled
        return plain and op.output == PARAMS and PARAMS not in self._readers

    def _new(self, s: Source, register: str, unit: float) -> Place:
        """A working array for a whole register: one that nobody reads any more, or a new one."""
        name = self._free.pop() if self._free else f"q{len(s.slots)}"
        s.slots[name] = max(s.slots.get(name, 0), s.program.size(register))
        self.units[register] = unit
        s.places[register] = Place(name)
        return s.places[register]

    def _normalise(self, s: Source, op: Op) -> Lines:
        """`(x 2^k - mean) factor`, a feature after the other: powers of two are shifts of what a float is made of."""
        reach = _reach(op)
        power = _power(op)
        far = reach * 2.0**power < _NORMAL
        # Of 8 bits, for the reach has those above them; that of a reach of `_NORMAL` itself is rounded down to them.
        factor = _NORMAL * 2.0**8 / (reach * 2.0 ** (power + _FAR * far))
        factor = np.minimum(np.rint(factor), 255) - 128 * far
        mean = np.rint(op.tensors["mean"] * 2.0**power)
        count = s.program.size(op.output)
        by = s.constant(as_bytes(count, (_EXPONENT - power, "u1"), (mean, "<i2"), (factor, "u1")))
        target = self._new(s, op.output, float(op.attributes["clip"]) / _NORMAL)
        return [f"kd_normal16({_address(s.places[op.inputs[0]])}, {by}, {target.array}, {count});"]

    def _linear(self, s: Source, op: Op) -> Lines:
        """All outputs from one row of bytes: of each its bias, its weights and what brings its sum to its unit."""
        m, n = op.tensors["weight"].shape
        function, count, weight, scale = on_grid(op, self.units[op.inputs[0]])
        source = s.row(op.inputs[0])
        # What fills up the last byte of packed weights is multiplied too, by 0.
        s.slots[source.array] = max(s.slots[source.array], count)
        s.multiply_adds += m * n
        unit = self._unit_of(op, scale)
        ratio = scale / unit
        up, factor = factors(ratio)
        # The shift at the end rounds down.
        bias = np.rint(op.tensors["bias"] / scale + 0.5 / ratio)
        by = s.constant(as_bytes(m, (bias, "<i4"), (weight, "u1"), (factor, "<u2")))
        if self._is_row(op):
            s.row_unit = unit
            s.places[op.output] = target = Place(s.language.out)
        else:
            target = self._new(s, op.output, unit)
        # Free for whoever comes after the layer, not for its own outputs: those are written while it is read.
        self._free.append(source.array)
        lines = [f"{function}({target.array}, {m}, {source.array}, {count}, {by}, {up});"]
        if self._is_row(op) or self._activates(op):
            return lines
        del self.units[op.output]
        self._free.append(target.array)
        floats = s.output(op)
        number = f"{s.language.literal(unit)} * (float){target.at('j')}"
        return lines + s.language.loop("j", m, f"{floats.at('j')} = {number};")

    def _unit_of(self, op: Op, scale: Array) -> float:
        """The unit of what a layer writes, from those of its sums, `[m]`."""
        reader = self._activates(op)
        proven, seen = self.proven[op.output], self.seen[op.output]
        if reader is None:
            # Logits that saturate would tie: they are given room for all that they can reach, where that is not far.
            unit = (proven if proven <= LOOSE * seen else seen) / _INT16
        else:
            function = str(reader.attributes["function"])
            if function in ("tanh", "sigmoid"):
                return _UNITS[function]
            # A power of two, which a table's argument is reached from by a shift.
            unit = 2.0 ** -math.floor(math.log2(_INT16 / min(proven, seen)))
            if function == "silu":
                return max(unit, _UNITS[function])
        # One bit is given for a shift of every sum.
        shifts, _ = factors(scale / unit)
        fewer, _ = factors(scale / (2 * unit))
        return unit if fewer == shifts else 2 * unit

    def _activation(self, s: Source, op: Op) -> Lines:
        function = str(op.attributes["function"])
        source = s.places[op.inputs[0]]
        unit = self.units[op.inputs[0]]
        s.places[op.output] = source
        x = source.at("i")
        if function in _UNITS:
            s.table_bytes = tanh_table().nbytes
        if function == "relu":
            self.units[op.output] = unit
            text = f"{x} > 0 ? {x} : 0"
        elif function == "silu":
            self.units[op.output] = unit
            # 15 bits up, every number but 0 is beyond the table.
            text = f"kd_silu16({x}, {min(round(math.log2(unit / _UNITS['silu'])), 15)})"
        else:
            self.units[op.output] = 1 / _INT16
            text = f"kd_{function}16({x})"
        return s.language.loop("i", s.program.size(op.output), f"{x} = {text};")


def _reach(op: Op) -> Array:
    """How far from its mean each feature is clipped."""
    return np.asarray(float(op.attributes["clip"]) / op.tensors["scale"].astype(float))


def _power(op: Op) -> Array:
    """The power of two by which each feature's reach becomes a number from `_NORMAL` to twice that, or `_FAR` less."""
    power = np.ceil(np.log2(_NORMAL / _reach(op)))
    return np.where(_farthest(op, power) <= _INT16, power, power - _FAR)


def _farthest(op: Op, power: Array) -> Array:
    """The largest whole number that is not clipped, of each feature."""
    return np.asarray((np.abs(op.tensors["mean"]) + _reach(op)) * 2.0**power)


def _is_within(op: Op) -> bool:
    """Whether all that a normaliser lets through are whole numbers of 16 bits."""
    if not (op.tensors["scale"] > 0).all():
        return False
    power = _power(op)
    return bool((_farthest(op, power) <= _INT16).all() and (np.abs(power) < _MOST_POWER).all())


def _address(place: Place) -> str:
    """The text of where a register begins."""
    return f"{place.array} + {place.offset}" if place.offset else place.array


def tanh_table() -> Array:
    """`tanh(i / 16)` in units of 1 / 32767, int16 `[_STEPS + 1]`, moved so that lines between them err both ways."""
    x = np.arange(_STEPS + 1) / 16
    exact = np.tanh(x)
    # A line's error in the middle is an eighth of the second derivative; half of it is given to the ends.
    bend = exact * (1 - exact**2) / 16**2 / 8
    return np.asarray(np.rint(_INT16 * np.minimum(exact + bend, 1)), np.int16)
