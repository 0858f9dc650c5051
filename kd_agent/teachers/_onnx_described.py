"""The inputs and outputs of an ONNX model, and what each of them is.

Letters: `B` batch, `M` flags of an action mask, `*S` shape of a state.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from kd_agent.policies import Array

TYPES = {
    "tensor(float)": "float32",
    "tensor(double)": "float64",
    "tensor(float16)": "float16",
    "tensor(uint8)": "uint8",
    "tensor(int64)": "int64",
    "tensor(int32)": "int32",
    "tensor(bool)": "bool",
}
"""NumPy's dtype by what onnxruntime calls the type of a value."""


@dataclass(frozen=True)
class Port:
    """An input or output.

    Attributes:
        name: Its name.
        dtype: NumPy's; None where there is none like it.
        shape: Its axes, as numbers or, where they are open, names or None.
    """

    name: str
    dtype: str | None
    shape: tuple[Any, ...]


@dataclass(frozen=True)
class Memory:
    """A state that the model carries.

    Attributes:
        port: Its input.
        following: Name of the output that holds its next value.
        axis: The axis of the batch.
        shape: `*S`, its other axes.
        initial: `*S`, its value where an episode starts; None: zeros.
    """

    port: Port
    following: str
    axis: int
    shape: tuple[int, ...]
    initial: Array | None = None

    @property
    def start(self) -> Array:
        """`*S`, its value where an episode starts."""
        return np.zeros(self.shape, np.float32) if self.initial is None else self.initial


@dataclass(frozen=True)
class Wiring:
    """What somebody says beside a model of its inputs and outputs, which else their names and shapes must tell.

    Attributes:
        inputs: Names of those that are fed from outside; the others are states.
        outputs: Names of those that may answer.
        following: The output that holds a state's next value, by the name of the state's input.
        initial: A state's value where an episode starts, by the same name; zeros where it is not there.
    """

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    following: Mapping[str, str]
    initial: Mapping[str, Array] = field(default_factory=dict)


@dataclass(frozen=True)
class Ports:
    """What a model is asked by.

    Attributes:
        observations: The input of each observation, by key.
        batch: Rows that one call takes; None: any number; 0: one, without an axis for it.
        answer: Name of the output that answers.
        memories: The states, in the order of their inputs.
        masks: The input of the action masks; None: it has none.
    """

    observations: Mapping[str, Port]
    batch: int | None
    answer: str
    memories: tuple[Memory, ...]
    masks: Port | None = None
