"""PolicyGraph: a policy as a short program over named arrays, and its NumPy interpreter.

Every student translates itself into this program once; files and exports translate it onwards. An
operation reads registers, writes one register and owns constant tensors. The registers of the
observation exist at the start; the program ends having written `params [B, P]`.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from kd_agent.errors import KDError, unknown
from kd_agent.head import Array, HeadSpec

OBSERVATION = "obs"
"""The register of an observation that is not a Dict; a Dict observation has a register a key."""
PARAMS = "params"


@dataclass(frozen=True)
class Op:
    """One step of the program.

    Attributes:
        kind: A key of `KERNELS`.
        inputs: Registers read.
        output: Register written.
        attributes: Constants that are not arrays (JSON values).
        tensors: Constant arrays by role ("weight", "bias", ...).
    """

    kind: str
    inputs: tuple[str, ...]
    output: str
    attributes: Mapping[str, Any] = field(default_factory=dict)
    tensors: Mapping[str, Array] = field(default_factory=dict)


@dataclass(frozen=True)
class ObservationSpec:
    """Shape `*O` and NumPy dtype of one observation array."""

    shape: tuple[int, ...]
    dtype: str


ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "relu": lambda x: np.maximum(x, 0),
    "tanh": np.tanh,
    "sigmoid": lambda x: 0.5 * (np.tanh(0.5 * x) + 1),
    "silu": lambda x: x * (0.5 * (np.tanh(0.5 * x) + 1)),
    "elu": lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))),
    "leaky_relu": lambda x: np.where(x > 0, x, np.float32(0.01) * x),
    "softplus": lambda x: np.logaddexp(x, np.float32(0)),
}

Kernel = Callable[..., Array]


def _normalise(op: Op) -> Kernel:
    mean, scale, clip = op.tensors["mean"], op.tensors["scale"], np.float32(op.attributes["clip"])
    return lambda x: np.minimum(np.maximum((x - mean) * scale, -clip), clip)


def _linear(op: Op) -> Kernel:
    weight, bias = np.ascontiguousarray(op.tensors["weight"].T), op.tensors["bias"]
    return lambda x: x @ weight + bias


def _activation(op: Op) -> Kernel:
    name = op.attributes["function"]
    if name not in ACTIVATIONS:
        raise unknown("activation", name, ACTIVATIONS)
    return ACTIVATIONS[name]


def _flatten(op: Op) -> Kernel:
    return lambda x: x.reshape(len(x), -1).astype(np.float32, copy=False)


def _concatenate(op: Op) -> Kernel:
    return lambda *xs: np.concatenate(xs, axis=-1)


def _append(op: Op) -> Kernel:
    value = op.tensors["value"]
    return lambda x: np.concatenate([x, np.broadcast_to(value, (len(x), len(value)))], axis=-1)


def _sde_log_std(op: Op) -> Kernel:
    variance = op.tensors["variance"]
    return lambda x: 0.5 * np.log((x * x) @ variance + np.float32(1e-6))


KERNELS: dict[str, Callable[[Op], Kernel]] = {
    "flatten": _flatten,
    "concatenate": _concatenate,
    "normalise": _normalise,
    "linear": _linear,
    "activation": _activation,
    "append": _append,
    "sde_log_std": _sde_log_std,
}
"""Operation kinds: each makes the function that runs one operation on arrays `[B, ...]`."""


def compile_ops(ops: Iterable[Op]) -> Callable[[Mapping[str, Array]], dict[str, Array]]:
    """A function that runs operations on registers `{name: [B, ...]}` and returns all of them."""
    steps = [(KERNELS[op.kind](op), op.inputs, op.output) for op in ops]

    def run(given: Mapping[str, Array]) -> dict[str, Array]:
        registers = dict(given)
        for kernel, inputs, output in steps:
            registers[output] = kernel(*[registers[name] for name in inputs])
        return registers

    return run


LEARNT = frozenset({"linear"})
"""Kinds whose tensors are fitted and count as parameters."""


@dataclass(frozen=True)
class PolicyGraph:
    """A deployable policy.

    Attributes:
        observations: What the policy sees, by register name.
        ops: The program, in order; each register is written once.
        head: How its `params` become an action.
        provenance: Where the policy comes from (JSON values).
    """

    observations: Mapping[str, ObservationSpec]
    ops: tuple[Op, ...]
    head: HeadSpec
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        known = set(self.observations)
        for op in self.ops:
            if op.kind not in KERNELS:
                raise unknown("operation", op.kind, KERNELS)
            missing = [name for name in op.inputs if name not in known]
            if missing or not op.inputs or op.output in known:
                raise KDError(f"operation {op.kind!r} has wrong registers: {op.inputs} -> {op.output!r}")
            if not all(np.isfinite(tensor).all() for tensor in op.tensors.values()):
                raise KDError(f"a weight of operation {op.kind!r} ({op.output!r}) is NaN or infinite")
            known.add(op.output)
        self._check_shapes()

    @property
    def num_parameters(self) -> int:
        """Number of fitted numbers that decide the greedy action (no critic, no log std)."""
        return sum(t.size for op in self.ops if op.kind in LEARNT for t in op.tensors.values())

    def compile(self) -> Callable[[Mapping[str, Array]], dict[str, Array]]:
        """The interpreter: a function from observations `{name: [B, *O]}` to all registers."""
        return compile_ops(self.ops)

    def _check_shapes(self) -> None:
        blank = {k: np.zeros((1, *s.shape), s.dtype) for k, s in self.observations.items()}
        try:
            shape = self.compile()(blank)[PARAMS].shape
        except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
            raise KDError(f"the policy's operations do not fit together: {error}") from None
        if shape != (1, self.head.num_params):
            raise KDError(f"the policy ends in shape {shape[1:]}, its head needs ({self.head.num_params},)")
