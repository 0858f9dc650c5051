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
from kd_agent.policies.activations import ACTIVATIONS
from kd_agent.policies.head import Array, HeadSpec
from kd_agent.policies.ops import ELEMENTWISE, KERNELS, LEARNT, MAX_SIZE, Op

__all__ = [
    "ACTIVATIONS",
    "KERNELS",
    "LEARNT",
    "OBSERVATION",
    "PARAMS",
    "ObservationSpec",
    "Op",
    "PolicyGraph",
    "compile_ops",
    "count_fitted",
    "following",
    "plays_sampled",
]

OBSERVATION = "obs"
"""The register of an observation that is not a Dict; a Dict observation has a register a key."""
PARAMS = "params"
"""The register in which every program ends: the head's row `[B, P]`."""
PLAY, SAMPLED = "play", "sampled"
"""What a provenance says of how a policy is played; one that is played greedily does not mention it."""


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


def plays_sampled(provenance: Mapping[str, Any]) -> bool:
    """Whether a policy is meant to be played by samples, as its provenance says; else it is played greedily."""
    return bool(provenance.get(PLAY) == SAMPLED)


def count_fitted(ops: Iterable[Op]) -> int:
    """How many fitted numbers some operations hold.

    A tensor that is all zeros is none: it is a bias that its network was made without.
    """
    total = 0
    for op in ops:
        if op.kind in LEARNT:
            total += sum(tensor.size for tensor in op.tensors.values() if tensor.any())
    return total


def compile_ops(ops: Iterable[Op]) -> Callable[[Mapping[str, Array]], dict[str, Array]]:
    """A function that runs operations on registers `{name: [B, ...]}` and returns all of them."""
    steps = [(KERNELS[op.kind](op), op.inputs, op.output) for op in ops]

    def _run(initial: Mapping[str, Array]) -> dict[str, Array]:
        registers = dict(initial)
        for kernel, inputs, output in steps:
            registers[output] = kernel(*[registers[name] for name in inputs])
        return registers

    return _run


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
            # Each register is written once and before it is read, so a program has an end and no hidden state.
            readable = bool(op.inputs) and known.issuperset(op.inputs)
            if not readable or op.output in known:
                raise KDError(f"operation {op.kind!r} has wrong registers: {op.inputs} -> {op.output!r}")
            if not all(np.isfinite(tensor).all() for tensor in op.tensors.values()):
                raise KDError(f"a weight of operation {op.kind!r} ({op.output!r}) is NaN or infinite")
            known.add(op.output)
        self._check_shapes()

    @property
    def sampled(self) -> bool:
        """Whether it is meant to be played by samples: it was judged so, and its greedy actions are another policy."""
        return plays_sampled(self.provenance)

    @property
    def num_parameters(self) -> int:
        """Number of fitted numbers that decide the greedy action (no critic, no log std, no bias that is 0)."""
        return count_fitted(self.acting_ops())

    def acting_ops(self) -> list[Op]:
        """The operations that the greedy action, or the memory behind it, depends on."""
        needed = {PARAMS, *map(following, self.states)}
        acting = []
        for op in reversed(self.ops):
            if op.output not in needed:
                continue
            acting.append(op)
            # A Gaussian's row is its mean beside its log standard deviations; only the mean acts.
            only_mean = op.output == PARAMS and op.kind == "concatenate" and self.head.is_gaussian
            if only_mean:
                needed.add(op.inputs[0])
            else:
                needed.update(op.inputs)
        return acting[::-1]

    def compile(self) -> Callable[[Mapping[str, Array]], dict[str, Array]]:
        """The interpreter: from observations `{name: [B, *O]}` and `memory` to all registers."""
        return compile_ops(self.ops)

    def memory(self, batch: int, state: Sequence[Any] | None = None, episode_start: Any = None) -> dict[str, Array]:
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
        last = [np.asarray(array, np.float32) for array in state]
        shapes, expected = list(map(np.shape, last)), list(map(np.shape, blank.values()))
        if shapes != expected:
            raise KDError(f"the state has shapes {shapes}, expected {expected}")
        if episode_start is None:
            episode_start = False
        carried_on = ~np.broadcast_to(np.asarray(episode_start, bool), (batch,))
        memory = {}
        for name, array in zip(blank, last, strict=True):
            along_batch = carried_on.reshape(batch, *[1] * (array.ndim - 1))
            memory[name] = np.where(along_batch, array, 0)
        return memory

    def next_state(self, registers: Mapping[str, Array]) -> tuple[Array, ...] | None:
        """The states after a step; None for a policy without memory."""
        return tuple(registers[following(name)] for name in sorted(self.states)) or None

    def _check_shapes(self) -> None:
        """Run the program once on zeros, growing no array beyond `MAX_SIZE`."""
        shapes = [spec.shape for spec in self.observations.values()]
        shapes += self.states.values()
        for shape in shapes:
            # As floats: a hostile file's shape may multiply beyond 64 bits.
            if min(shape, default=1) < 1 or np.prod(shape, dtype=float) > MAX_SIZE:
                raise KDError("the policy's observations or states have impossible shapes")
        registers = {key: np.zeros((1, *spec.shape), spec.dtype) for key, spec in self.observations.items()}
        registers |= self.memory(1)
        try:
            for op in self.ops:
                registers[op.output] = _checked(op, [registers[name] for name in op.inputs])
            params = registers[PARAMS]
            lost = [name for name, shape in self.states.items() if registers[following(name)].shape != (1, *shape)]
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
        for tensor in op.tensors.values():
            if np.broadcast_shapes(shape, tensor.shape) != shape:
                raise KDError(f"operation {op.kind!r} ({op.output!r}) has tensors of another shape than its input")
    # The kernel itself refuses what it can tell beforehand to be too large (`one_hot`, `conv2d`).
    result = KERNELS[op.kind](op)(*inputs)
    if result.size > MAX_SIZE:
        raise KDError(f"operation {op.kind!r} ({op.output!r}) makes an array that is too large")
    return result
