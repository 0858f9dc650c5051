"""Which inputs of an ONNX model are observations, which are its memory, and which of its outputs answers.

Letters: `B` batch, `M` flags of an action mask, `P` head parameters, `*A` shape of an action, `*O` shape of an
observation, `*S` shape of a state.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from kd_agent.errors import KDError, unknown
from kd_agent.policies import PARAMS, HeadSpec, ObservationSpec
from kd_agent.teachers._onnx_described import Memory, Port, Ports, Wiring

_MASKS = "action_masks"
"""What sb3_contrib, and our own exports, call the input of what is allowed."""
_ANSWERS = (
    PARAMS,
    "logits",
    "action_logits",
    "actions",
    "action",
    "discrete_actions",
    "deterministic_discrete_actions",
    "deterministic_continuous_actions",
    "continuous_actions",
    "output",
)
"""What people call the output that answers, where several could by their shapes."""
_FOLLOWING = (
    (r"$", ".next"),
    (r"_?in(put)?$", "_out"),
    (r"_in_", "_out_"),
    (r"_?in$", "out"),
    (r"_?0$", "n"),
    (r"_?0$", "_n"),
    (r"^", "next_"),
    (r"^", "new_"),
    (r"$", "_out"),
    (r"$", "_next"),
    (r"$", "_n"),
    (r"$", "n"),
    (r"prev\w*?_", "next_"),
)
"""How the name of a state's next value follows from the state's own."""


def match(
    inputs: Sequence[Port],
    outputs: Sequence[Port],
    specs: Mapping[str, ObservationSpec],
    head: HeadSpec,
    wanted: str | None,
    *,
    wiring: Wiring | None = None,
) -> Ports:
    """Find out what is what.

    Args:
        inputs: The model's.
        outputs: Likewise.
        specs: The environment's observations, by key.
        head: Its action head.
        wanted: Name of the output that answers; None: the one that fits.
        wiring: What is said of them beside the model; None: nothing.

    Raises:
        KDError: They do not fit the environment, or it cannot be told what one of them is.
    """
    fed, answering = inputs, outputs
    if wiring is not None:
        fed = [port for port in inputs if port.name in wiring.inputs]
        answering = [port for port in outputs if port.name in wiring.outputs or port.name == wanted]
    observations = _observations(fed, specs)
    batch = _batch(observations, specs)
    answer = _answer(answering, head, wanted, batch)
    taken = {port.name for port in observations.values()}
    masks = _masks(fed, taken, head)
    if masks is not None:
        taken.add(masks.name)
    open_outputs = [port for port in outputs if port.name != answer]
    rest = [port for port in inputs if port.name not in taken]
    if wiring is not None:
        return Ports(observations, batch, answer, _wired(rest, outputs, wiring, batch), masks)
    memories = []
    for port in rest:
        following = _next_of(port, open_outputs, alone=len(rest) == 1)
        if following is None:
            names = [output.name for output in open_outputs]
            raise KDError(
                f"its input {port.name!r} {list(port.shape)} is no observation, and none of its outputs {names} is "
                "evidently the next value of such a state"
            )
        memories.append(_memory(port, following, batch))
    return Ports(observations, batch, answer, tuple(memories), masks)


def _wired(rest: Sequence[Port], outputs: Sequence[Port], wiring: Wiring, batch: int | None) -> tuple[Memory, ...]:
    """The states, whose next values are told."""
    names = [output.name for output in outputs]
    memories = []
    for port in rest:
        following = wiring.following.get(port.name)
        if following not in names:
            raise KDError(
                f"its input {port.name!r} {list(port.shape)} is no observation, and no output is fed back to it"
            )
        memory = _memory(port, following, batch)
        initial = wiring.initial.get(port.name)
        if initial is not None:
            if not _compatible(port.shape, initial.shape):
                raise KDError(f"the initial value of {port.name!r} is {list(initial.shape)}, not {list(port.shape)}")
            # That of the first row; where the model's batch has no axis, the value has none.
            row = initial if batch == 0 else np.take(initial, 0, axis=memory.axis)
            memory = replace(memory, initial=row)
        memories.append(memory)
    return tuple(memories)


def _masks(inputs: Sequence[Port], taken: Collection[str], head: HeadSpec) -> Port | None:
    """The input of the action masks, flags `[B, M]` of any type; None where it has none."""
    for port in inputs:
        is_free = port.name == _MASKS and port.name not in taken
        if is_free and port.dtype is not None and _compatible(port.shape[-1:], (head.num_masks,)):
            return port
    return None


def _observations(inputs: Sequence[Port], specs: Mapping[str, ObservationSpec]) -> dict[str, Port]:
    """The input of each observation: of the same name, or the only one, or the only one of its shape."""
    # kd_agent's own exports call the input of a key "obs.<key>".
    by_name = {port.name.removeprefix("obs."): port for port in inputs}
    found = {key: by_name[key] for key in specs if key in by_name}
    if len(specs) == 1 and not found:
        [(key, spec)] = specs.items()
        fitting = [port for port in inputs if _takes(port, spec)]
        if len(inputs) == 1:
            found = {key: inputs[0]}
        elif len(fitting) == 1:
            found = {key: fitting[0]}
    for port in found.values():
        if port.dtype is None:
            raise KDError(f"its input {port.name!r} is of a type that no observation has")
    if set(found) != set(specs):
        raise KDError(f"its inputs are {sorted(by_name)}, the environment's observations {sorted(specs)}")
    return found


def _takes(port: Port, spec: ObservationSpec) -> bool:
    return _compatible(port.shape, spec.shape) or _compatible(port.shape[1:], spec.shape)


def _compatible(axes: Sequence[Any], sizes: Sequence[int]) -> bool:
    """Whether axes, some of them open, may have these sizes."""
    if len(axes) != len(sizes):
        return False
    told = [(axis, size) for axis, size in zip(axes, sizes, strict=True) if isinstance(axis, int)]
    return all(axis == size for axis, size in told)


def _batch(observations: Mapping[str, Port], specs: Mapping[str, ObservationSpec]) -> int | None:
    """As `Ports.batch`."""
    for key, port in observations.items():
        if len(port.shape) == len(specs[key].shape) and port.shape:
            return 0
        if port.shape and isinstance(port.shape[0], int) and port.shape[0] > 0:
            return port.shape[0]
    return None


def _answer(outputs: Sequence[Port], head: HeadSpec, wanted: str | None, batch: int | None) -> str:
    """Name of the output that answers."""
    names = [port.name for port in outputs]
    if wanted is not None:
        if wanted not in names:
            raise unknown("--onnx-output", wanted, names)
        return wanted
    if len(names) == 1 or PARAMS in names:
        return PARAMS if PARAMS in names else names[0]
    fitting = [port.name for port in outputs if _answers(port, head, batch)]
    if len(fitting) == 1:
        return fitting[0]
    for name in _ANSWERS:
        if name in fitting:
            return name
    described = ", ".join(f"{port.name} {list(port.shape)}" for port in outputs)
    which = "several" if fitting else "none"
    raise KDError(
        f"{which} of its outputs ({described}) could be an action by their shapes; --onnx-output NAME names it"
    )


def _answers(port: Port, head: HeadSpec, batch: int | None) -> bool:
    """Whether an output may be head parameters `[B, P]` or actions `[B, *A]`."""
    if port.dtype is None:
        return False
    rows = port.shape if batch == 0 else port.shape[1:]
    # What is bound to one row tells nothing of many, as a version number does.
    if batch is None and port.shape and isinstance(port.shape[0], int):
        return False
    whole = port.dtype.startswith(("int", "uint", "bool"))
    if not whole and _compatible(rows, (head.num_params,)):
        return True
    if whole or head.is_gaussian:
        return _compatible(rows, head.shape) or (not head.shape and _compatible(rows, (1,)))
    return False


def _next_of(port: Port, outputs: Sequence[Port], *, alone: bool) -> str | None:
    """Name of the output that is a state's next value; None where it cannot be told."""
    alike = []
    for output in outputs:
        if output.dtype == port.dtype and len(output.shape) == len(port.shape):
            alike.append(output.name)
    for pattern, instead in _FOLLOWING:
        name = re.sub(pattern, instead, port.name, count=1)
        if name != port.name and name in alike:
            return name
    return alike[0] if alone and len(alike) == 1 else None


def _memory(port: Port, following: str, batch: int | None) -> Memory:
    """A state whose batch is its open axis, or where none is open the first one of the batch's size."""
    is_open = [not isinstance(axis, int) for axis in port.shape]
    if port.dtype is None or sum(is_open) > 1:
        raise KDError(f"its state {port.name!r} {list(port.shape)} does not say its size")
    if batch == 0:
        return Memory(port, following, 0, tuple(port.shape))
    if any(is_open):
        axis = is_open.index(True)
    elif batch in port.shape:
        # Torch has a memory's layers first: of [1, 1, 8] the second axis is the batch.
        axis = 1 if len(port.shape) == 3 and port.shape[1] == batch else port.shape.index(batch)
    else:
        raise KDError(f"its state {port.name!r} {list(port.shape)} has no axis for a batch")
    return Memory(port, following, axis, (*port.shape[:axis], *port.shape[axis + 1 :]))
