"""Policies saved as TorchScript (`torch.jit.save`), scripted or traced: perceptrons, read and never run."""

from typing import Any

import gymnasium as gym
import numpy as np

from kd_agent.environments import observation_specs
from kd_agent.errors import KDError
from kd_agent.networks import Origin, head_for
from kd_agent.policies import OBSERVATION, PARAMS, Array, Op
from kd_agent.policies.normalizer import UNBOUNDED
from kd_agent.teachers._checkpoint import outline_of, read_checkpoint
from kd_agent.teachers._graph_teacher import GraphTeacher
from kd_agent.teachers._onnx_program import graph_of_answer
from kd_agent.teachers._request import Request
from kd_agent.teachers._script import Followed, follow
from kd_agent.teachers._weights import spaces_named


def accepts(source: Any) -> bool:
    """Whether this plug-in reads `source`."""
    outline = outline_of(source)
    return outline is not None and outline.script


def load(source: str, request: Request) -> GraphTeacher:
    """Load a policy: from an observation to logits or their choice, or to an action in the environment's units.

    Args:
        source: Path of the file.
        request: How it is asked for.

    Raises:
        KDError: It is damaged, its code does what no operation does, or it does not fit the environment.
    """
    checkpoint = read_checkpoint(source)
    spaces = spaces_named(request, source, "TorchScript")
    head = head_for(spaces[1])
    try:
        followed = follow(checkpoint, OBSERVATION)
        if followed.chosen and isinstance(spaces[1], gym.spaces.Box):
            raise KDError(f"it chooses among actions, and the environment has {spaces[1]}")
        ops = _ops(followed, as_floats=spaces[0].dtype != np.float32)
        _check_sizes(ops, spaces[0].shape or (), head.spec.num_acting)
        graph = graph_of_answer(ops, observation_specs(spaces[0]), head.spec)
    except KDError as error:
        raise KDError(f"{source}: {error}") from None
    origin = Origin(source, checkpoint.sha256, "TorchScript", graph.num_parameters)
    return GraphTeacher(graph, origin)


def _ops(followed: Followed, as_floats: bool) -> list[Op]:
    """The operations that the answer needs; the last writes `params`."""
    needed = {followed.register}
    kept: list[Op] = []
    for op in reversed(followed.ops):
        if op.output in needed:
            needed |= set(op.inputs)
            output = PARAMS if op.output == followed.register else op.output
            kept.append(Op(op.kind, op.inputs, output, op.attributes, op.tensors))
    ops = _normalised(kept[::-1])
    if not as_floats or not ops:
        return ops
    cast = Op("flatten", (OBSERVATION,), "floats")
    read = []
    for op in ops:
        inputs = tuple("floats" if name == OBSERVATION else name for name in op.inputs)
        read.append(Op(op.kind, inputs, op.output, op.attributes, op.tensors))
    return [cast, *read]


def _normalised(ops: list[Op]) -> list[Op]:
    """A difference and a quotient of the observation as the one operation that they are: a student may share it."""
    if len(ops) < 2 or [ops[0].kind, ops[1].kind] != ["scale", "scale"] or ops[1].inputs != (ops[0].output,):
        return ops
    is_difference = (ops[0].tensors["scale"] == 1).all()
    is_quotient = not ops[1].tensors["shift"].any()
    readers = [op for op in ops if ops[0].output in op.inputs]
    if not (is_difference and is_quotient and len(readers) == 1 and ops[0].inputs == (OBSERVATION,)):
        return ops
    mean, scale = np.broadcast_arrays(-ops[0].tensors["shift"], ops[1].tensors["scale"])
    tensors: dict[str, Array] = {"mean": np.ascontiguousarray(mean), "scale": np.ascontiguousarray(scale)}
    return [Op("normalise", ops[0].inputs, ops[1].output, {"clip": UNBOUNDED}, tensors), *ops[2:]]


def _check_sizes(ops: list[Op], observed: tuple[int, ...], acting: int) -> None:
    """Hold the first layer against the environment's observations, and the last one against its actions."""
    layers = [op for op in ops if op.kind == "linear"]
    if not layers:
        raise KDError("has no linear layer")
    taken = layers[0].tensors["weight"].shape[1]
    if taken != int(np.prod(observed, dtype=np.int64)):
        raise KDError(f"its network takes observations of shape ({taken},), the environment's are of {observed}")
    # What comes after the last layer changes no shape, unless it puts several side by side.
    after = ops[ops.index(layers[-1]) + 1 :]
    given = len(layers[-1].tensors["weight"])
    if given != acting and all(op.kind in ("activation", "scale", "clip") for op in after):
        raise KDError(f"its network answers with {given} numbers, the environment takes {acting}")
