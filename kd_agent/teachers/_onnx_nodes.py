"""Nodes of an ONNX file and the program that grows from them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from kd_agent.policies import Array, Op


@dataclass(frozen=True)
class Unread:
    """A value that is neither a constant nor a register.

    Attributes:
        reason: Why not, for a message.
    """

    reason: str


Value = Array | str | Unread
"""A constant, the name of a register, or neither."""


@dataclass(frozen=True)
class Node:
    """A node, less its names.

    Attributes:
        inputs: What it reads.
        attributes: Its attributes, tensors among them as arrays.
    """

    inputs: tuple[Value, ...]
    attributes: Mapping[str, Any]

    def constant(self, index: int) -> Array | None:
        """An input that is a constant, as float32; None where it is not, or is not there."""
        if index >= len(self.inputs) or not isinstance(self.inputs[index], np.ndarray):
            return None
        return np.asarray(self.inputs[index], np.float32)

    @property
    def register(self) -> str | None:
        """The first input, where it is a register."""
        first = self.inputs[0] if self.inputs else None
        return first if isinstance(first, str) else None


class Program:
    """Operations under construction.

    Attributes:
        ops: The operations so far.
    """

    def __init__(self) -> None:
        self.ops: list[Op] = []

    def add(self, kind: str, inputs: tuple[str, ...], attributes: Any = None, tensors: Any = None) -> str:
        """Append an operation.

        Args:
            kind: A key of `KERNELS`.
            inputs: Registers that it reads.
            attributes: Constants that are not arrays.
            tensors: Constant arrays by role.

        Returns:
            The register that it writes.
        """
        # Names of the file go nowhere.
        op = Op(kind, inputs, f"onnx.{len(self.ops)}", attributes or {}, tensors or {})
        self.ops.append(op)
        return op.output

    def made(self, register: Value) -> Op | None:
        """The operation that wrote a register; None of an observation, or of what is no register."""
        for op in self.ops:
            if op.output == register:
                return op
        return None
