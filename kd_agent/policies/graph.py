"""PolicyGraph: a policy as a short program over named arrays, and its NumPy interpreter.

Every student translates itself into this program once; files and exports translate it onwards. An
operation reads registers, writes one register and owns constant tensors (`kd_agent.policies.ops`). The
registers of the observation exist at the start, and so do those of the states of a recurrent policy,
zero where an episode starts; the program ends having written `params [B, P]` and, for each state, its
next value in `<state>.next`.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from kd_agent.errors import KDError, unknown
from kd_agent.policies.head import Array, HeadSpec
from kd_agent.policies.ops import ACTIVATIONS, ELEMENTWISE, KERNELS, LEARNT, MAX_SIZE, Op

__all__ = ["ACTIVATIONS", "KERNELS", "LEARNT", "OBSERVATION", "PARAMS", "ObservationSpec", "Op", "PolicyGraph",
           "compile_ops", "following"]  # fmt: skip

OBSERVATION = "obs"
"""The register of an observation that is not a Dict; a Dict observation has a register a key."""
PARAMS = "params"


@dataclass(frozen=True)
class ObservationSpec:
    """One observation array.

    Attributes:
        shape: Its shape `*O`.
        dtype: Its NumPy dtype.
        categories: Number of categories of each entry, where the entries are whole numbers that name something.
    """

    shape: tuple[int, ...]
    dtype: str
    categories: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if np.dtype(self.dtype).kind not in "fiub":
            raise KDError(f"an observation of type {self.dtype} is not an array of numbers")
        if self.categories and len(self.categories) != np.prod(self.shape, dtype=np.int64):
            raise KDError(f"{len(self.categories)} numbers of categories for an observation of shape {self.shape}")

    @property
    def features(self) -> int:
        """How many numbers a network reads of it."""
        return sum(self.categories) or int(np.prod(self.shape, dtype=np.int64))


def following(state: str) -> str:
    """The register that holds the next value of a state."""
    return f"{state}.next"


def compile_ops(ops: Iterable[Op]) -> Callable[[Mapping[str, Array]], dict[str, Array]]:
    """A function that runs operations on registers `{name: [B, ...]}` and returns all of them."""
    steps = [(KERNELS[op.kind](op), op.inputs, op.output) for op in ops]

    def run(given: Mapping[str, Array]) -> dict[str, Array]:
        registers = dict(given)
        for kernel, inputs, output in steps:
            registers[output] = kernel(*[registers[name] for name in inputs])
        return registers

    return run


@dataclass(frozen=True)
class PolicyGraph:
    """A deployable policy.

    Attributes:
        observations: What the policy sees, by register name.
        ops: The program, in order; each register is written once.
        head: How its `params` become an action.
        provenance: Where the policy comes from (JSON values).
        states: Shape `*S` of each state that a recurrent policy carries, by register name.
    """

    observations: Mapping[str, ObservationSpec]
    ops: tuple[Op, ...]
    head: HeadSpec
    provenance: Mapping[str, Any] = field(default_factory=dict)
    states: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        known = {*self.observations, *self.states}
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
        """Number of fitted numbers that decide the greedy action (no critic, no log std, no bias that is 0)."""
        return sum(t.size for op in self.acting_ops() if op.kind in LEARNT for t in op.tensors.values() if t.any())

    def acting_ops(self) -> list[Op]:
        """The operations that the greedy action, or the memory behind it, depends on."""
        needed = {PARAMS, *map(following, self.states)}
        acting = []
        for op in reversed(self.ops):
            if op.output in needed:
                acting.append(op)
                only_mean = op.output == PARAMS and op.kind == "concatenate" and self.head.is_gaussian
                needed |= set(op.inputs[:1] if only_mean else op.inputs)
        return acting[::-1]

    def compile(self) -> Callable[[Mapping[str, Array]], dict[str, Array]]:
        """The interpreter: from observations `{name: [B, *O]}` and `memory` to all registers."""
        return compile_ops(self.ops)

    def memory(
        self, batch: int, state: Sequence[Any] | None = None, episode_start: Any = None
    ) -> dict[str, Array]:  # fmt: skip
        """The state registers `{name: [B, *S]}` before a step.

        Args:
            batch: `B`.
            state: The last step's states, in the order of `next_state`; None: zeros.
            episode_start: `[B]`, where the states are zero again.

        Raises:
            KDError: `state` is not of this policy or batch.
        """
        blank = {name: np.zeros((batch, *self.states[name]), np.float32) for name in sorted(self.states)}
        if state is None:
            return blank
        given = [np.asarray(array, np.float32) for array in state]
        if [array.shape for array in given] != [zeros.shape for zeros in blank.values()]:
            shapes = [zeros.shape for zeros in blank.values()]
            raise KDError(f"the state has shapes {[a.shape for a in given]}, expected {shapes}")
        starts = np.broadcast_to(np.asarray(False if episode_start is None else episode_start, bool), (batch,))
        keep = {name: ~starts.reshape(batch, *[1] * (zeros.ndim - 1)) for name, zeros in blank.items()}
        return {name: np.where(keep[name], array, 0) for name, array in zip(blank, given, strict=True)}

    def next_state(self, registers: Mapping[str, Array]) -> tuple[Array, ...] | None:
        """The states after a step; None for a policy without memory."""
        return tuple(registers[following(name)] for name in sorted(self.states)) or None

    def _check_shapes(self) -> None:
        """Run the program once on zeros, growing no array beyond `MAX_SIZE`."""
        shapes = [*(spec.shape for spec in self.observations.values()), *self.states.values()]
        if any(min(shape, default=1) < 1 or np.prod(shape, dtype=float) > MAX_SIZE for shape in shapes):
            raise KDError("the policy's observations or states have impossible shapes")
        registers = {k: np.zeros((1, *s.shape), s.dtype) for k, s in self.observations.items()} | self.memory(1)
        try:
            for op in self.ops:
                registers[op.output] = _checked(op, [registers[name] for name in op.inputs])
            params = registers[PARAMS]
            lost = [name for name, kept in self.states.items() if registers[following(name)].shape != (1, *kept)]
        except (ValueError, KeyError, TypeError, IndexError, AttributeError, OverflowError, MemoryError) as error:
            raise KDError(f"the policy's operations do not fit together: {' '.join(str(error).split())}") from None
        if params.shape != (1, self.head.num_params):
            raise KDError(f"the policy ends in shape {params.shape[1:]}, its head needs ({self.head.num_params},)")
        if not np.isfinite(params).all():
            raise KDError("the policy answers NaN or infinity to an observation of zeros")
        if lost:
            raise KDError(f"the policy's state {lost[0]!r} changes its shape")


def _checked(op: Op, inputs: list[Array]) -> Array:
    if op.kind in ELEMENTWISE:
        shape = inputs[0].shape
        if any(np.broadcast_shapes(shape, tensor.shape) != shape for tensor in op.tensors.values()):
            raise KDError(f"operation {op.kind!r} ({op.output!r}) has tensors of another shape than its input")
    result = KERNELS[op.kind](op)(*inputs)
    if result.size > MAX_SIZE:
        raise KDError(f"operation {op.kind!r} ({op.output!r}) makes an array that is too large")
    return result
