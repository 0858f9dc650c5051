"""Building graph operations from the tensors of somebody else's network."""

import re
from collections.abc import Mapping

from kd_agent.errors import KDError
from kd_agent.graph import Op
from kd_agent.head import Array


class Program:
    """Operations under construction, each reading what the last one wrote.

    Attributes:
        ops: The operations so far.
        last: The register that the last one wrote.
    """

    def __init__(self, tensors: Mapping[str, Array], register: str, source: str) -> None:
        self.tensors, self.source = dict(tensors), source
        self.ops: list[Op] = []
        self.last = register

    def branch(self, register: str) -> "Program":
        """A program that goes on from `register` with the same tensors."""
        return Program(self.tensors, register, self.source)

    def add(self, op: Op) -> None:
        """Append an operation."""
        self.ops.append(op)
        self.last = op.output

    def linear(self, prefix: str, output: str) -> None:
        """`x W^T + b` with the tensors `<prefix>.weight [out, in]` and `<prefix>.bias [out]` (or none)."""
        weight = self.tensor(f"{prefix}.weight", 2)
        bias = self.tensors.get(f"{prefix}.bias", weight[:, 0] * 0)
        if bias.shape != weight.shape[:1]:
            raise KDError(f"{self.source}: {prefix}.bias does not fit its weight")
        self.add(Op("linear", (self.last,), output, {}, {"weight": weight, "bias": bias}))

    def activation(self, function: str, output: str) -> None:
        """An activation function."""
        self.add(Op("activation", (self.last,), output, {"function": function}))

    def sequence(self, prefix: str, function: str) -> None:
        """`nn.Sequential` of linear layers with an activation after each, at indices 0, 2, 4, ..."""
        for index in self.indices(prefix):
            self.linear(f"{prefix}.{index}", f"{prefix}.{index}")
            self.activation(function, f"{prefix}.{index + 1}")

    def indices(self, prefix: str) -> list[int]:
        """Positions in `prefix` that have a two-dimensional weight, ascending."""
        pattern = re.compile(re.escape(prefix) + r"\.(\d+)\.weight")
        found = (pattern.fullmatch(name) for name, tensor in self.tensors.items() if tensor.ndim == 2)
        return sorted(int(match.group(1)) for match in found if match)

    def tensor(self, name: str, rank: int) -> Array:
        """A tensor of a given rank; KDError where it is missing."""
        if name not in self.tensors or self.tensors[name].ndim != rank:
            raise KDError(f"{self.source}: policy.pth has no usable {name!r}")
        return self.tensors[name]
