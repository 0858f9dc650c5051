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
from kd_agent.policies import PARAMS, Array, Op, PolicyGraph, following
from kd_agent.policies.int8 import LARGEST, quantise

Writer = Callable[[Source, Op], Lines]
_INT16 = 32767
_MOST_BIAS = 2**29
_MOST_INPUTS = (2**31 - 1 - _MOST_BIAS) // (LARGEST * _INT16)
"""Inputs of a layer whose products and bias a sum of 32 bits always holds: 387."""
_MOST_WHOLE = 2**23 - 1
"""How far an observation goes in whole numbers."""
_MOST_NORMAL = 8192
"""What a normalised observation is where it is clipped."""
_MOST_POWER = 100
"""Powers of two beyond which features are left to floats: the difference to a float's exponent stays one of 8 bits."""
_EXPONENT = 150
"""Of a float32 whose 24 bits of fraction are a whole number."""
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
        return reader is not None and reader.kind == "linear" and reader.tensors["weight"].shape[1] <= _MOST_INPUTS

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
        shape = (1, *s.program.shapes[op.output])
        mean = np.broadcast_to(op.tensors["mean"], shape).reshape(-1).astype(float)
        scale = np.broadcast_to(op.tensors["scale"], shape).reshape(-1).astype(float)
        clip = float(op.attributes["clip"])
        reach = clip / scale
        source = s.places[op.inputs[0]]
        power = _power(op)
        # Of 15 bits too, for the reach has them all; a reach of half that is rounded to one more.
        factor = np.minimum(np.rint(_MOST_NORMAL * 2.0**16 / (reach * 2.0**power)), _INT16)
        whole_mean = np.rint(mean * 2.0**power).astype(np.int32)
        by = s.constant(np.column_stack([_EXPONENT - power, factor]).astype(np.int16))
        means = s.constant(whole_mean)
        target = self._new(s, op.output, clip / _MOST_NORMAL)
        return [f"kd_normal16({_address(source)}, {by}, {means}, {target.array}, {len(mean)});"]

    def _linear(self, s: Source, op: Op) -> Lines:
        """An output after the other, its sum in registers; the weights are reached through a pointer that walks."""
        m, n = op.tensors["weight"].shape
        unit = self.units[op.inputs[0]]
        weight, scale = _on_grid(op, unit)
        source = s.row(op.inputs[0])
        s.multiply_adds += m * n
        bias = np.broadcast_to(op.tensors["bias"], (m,)) / scale
        if self._is_row(op) or self._activates(op):
            unit_out = self._unit_of(op)
            ratio = scale / unit_out
            start = bias + 0.5 / ratio  # the shift at the end rounds down
            target = self._new(s, op.output, unit_out)
            end = _rescaled(s, ratio, self.proven[op.output] / unit_out)
        else:
            start = bias
            target = s.output(op)
            end = f"{s.constant(scale.astype(np.float32))}[j] * (float)sum"
        if self._is_row(op):
            s.row_unit = unit_out
        begin = s.constant(np.rint(start).astype(np.int32))
        # Free for whoever comes after the layer, not for its own outputs: those are written while it is read.
        self._free.append(source.array)
        return [
            f"w = {s.constant(weight)};",
            *s.language.loop(
                "j",
                m,
                f"const int32_t sum = kd_dot16({begin}[j], {source.array}, w, {n});",
                f"{target.at('j')} = {end};",
                f"w += {n};",
            ),
        ]

    def _unit_of(self, op: Op) -> float:
        """The unit of what a layer writes."""
        reader = self._activates(op)
        proven, seen = self.proven[op.output], self.seen[op.output]
        if reader is None:
            # Logits that saturate would tie: they are given room for all that they can reach, where that is not far.
            return (proven if proven <= LOOSE * seen else seen) / _INT16
        largest = min(proven, seen)
        # A power of two, which a table's argument is reached from by a shift.
        whole = 2.0 ** -math.floor(math.log2(_INT16 / largest))
        function = str(reader.attributes["function"])
        if function == "silu":
            return max(whole, _UNITS["silu"])
        return _UNITS.get(function, whole)

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
            text = f"kd_silu16({x}, {round(math.log2(unit / _UNITS['silu']))})"
        else:
            self.units[op.output] = 1 / _INT16
            text = f"kd_{function}16({x})"
        return s.language.loop("i", s.program.size(op.output), f"{x} = {text};")


def _power(op: Op) -> Array:
    """The power of two by which each feature's reach, from its mean to where it is clipped, takes 15 bits."""
    return np.asarray(np.floor(np.log2(_INT16 * op.tensors["scale"].astype(float) / float(op.attributes["clip"]))))


def _is_within(op: Op) -> bool:
    """Whether all that a normaliser lets through are whole numbers of as many bits as a float has."""
    scale = op.tensors["scale"].astype(float)
    if not (scale > 0).all():
        return False
    farthest = (np.abs(op.tensors["mean"]) + float(op.attributes["clip"]) / scale) * 2.0 ** _power(op)
    return bool((farthest <= _MOST_WHOLE).all() and (np.abs(_power(op)) < _MOST_POWER).all())


def _address(place: Place) -> str:
    """The text of where a register begins."""
    return f"{place.array} + {place.offset}" if place.offset else place.array


def _rescaled(s: Source, ratio: Array, largest: float) -> str:
    """The text that brings `sum` to the unit of what output `j` is, within 16 bits.

    Args:
        s: The source under construction.
        ratio: Of the units, `[m]`.
        largest: What the outputs can reach in their unit.
    """
    # The largest ratio takes all 15 bits of a factor.
    shift = min(math.floor(math.log2(_INT16 / ratio.max())) - 16, 8)
    factor = s.constant(np.minimum(np.rint(ratio * 2.0 ** (16 + shift)), _INT16).astype(np.int16))
    if shift < 0:
        return f"kd_short((int32_t)kd_short(kd_times(sum, {factor}[j])) * {2**-shift})"
    if largest < _MOST_WHOLE:
        return f"kd_rescaled16(sum, {factor}[j], {8 - shift})"
    return f"kd_short(kd_times(sum, {factor}[j]) >> {shift})"


def _on_grid(op: Op, unit: float) -> tuple[Array, Array]:
    """`weight [m, n]` as int8, and what a unit of each output's sum stands for, `[m]`."""
    weight, bias = op.tensors["weight"], np.broadcast_to(op.tensors["bias"], (len(op.tensors["weight"]),))
    whole, scale = quantise(weight)
    # An output that is next to its bias alone has a scale so small that the bias would pass the sum's bits.
    least = np.abs(bias) / (unit * _MOST_BIAS)
    coarse = np.maximum(scale, least)
    whole = np.rint(whole * (scale / coarse)[:, None]).astype(np.int8)
    return whole, np.asarray(coarse * unit, float)


def tanh_table() -> Array:
    """`tanh(i / 16)` in units of 1 / 32767, int16 `[_STEPS + 1]`, moved so that lines between them err both ways."""
    x = np.arange(_STEPS + 1) / 16
    exact = np.tanh(x)
    # A line's error in the middle is an eighth of the second derivative; half of it is given to the ends.
    bend = exact * (1 - exact**2) / 16**2 / 8
    return np.asarray(np.rint(_INT16 * np.minimum(exact + bend, 1)), np.int16)
