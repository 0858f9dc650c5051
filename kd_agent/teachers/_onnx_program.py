"""The nodes of an ONNX file as operations of a PolicyGraph, as far as these can express them."""

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kd_agent.errors import KDError
from kd_agent.policies import PARAMS, Array, HeadSpec, ObservationSpec, Op, PolicyGraph
from kd_agent.teachers._density import to_params
from kd_agent.teachers._onnx_nodes import Node, Program, Unread, Value
from kd_agent.teachers._onnx_readers import READERS

_MAX_NODES = 10_000


@dataclass(frozen=True)
class Model:
    """What is read of a file.

    Attributes:
        raw: Its content; other files that it refers to are not read.
        inputs: The observation key that each of its inputs is.
        answer: Name of the output that answers.
        masks: Name of the input of what is allowed, which a head lays over the row by itself; None: there is none.
    """

    raw: bytes
    inputs: Mapping[str, str]
    answer: str
    masks: str | None = None


def read_program(model: Model) -> list[Op]:
    """Operations that write what a model answers into the register `params`.

    Args:
        model: The model.

    Raises:
        KDError: A node has no operation that does the same, or the onnx package is not installed.
    """
    try:
        onnx = importlib.import_module("onnx")
    except ImportError:
        raise KDError("an ONNX file is read as a program by the package 'onnx': pip install onnx") from None
    graph = onnx.load_model_from_string(model.raw).graph
    if len(graph.node) > _MAX_NODES:
        raise KDError(f"it has more than {_MAX_NODES} nodes")
    values: dict[str, Value] = dict(model.inputs)
    for tensor in graph.initializer:
        values[tensor.name] = _constant(onnx, tensor)
    program = Program()
    for part in graph.node:
        given = [values.get(name, Unread(f"its input {name!r} is read by no operation")) for name in part.input]
        # A mask is laid over the row by the head.
        masks_a_row = part.op_type == "Where" and model.masks is not None and part.input[0] == model.masks
        values[part.output[0]] = given[1] if masks_a_row else _read(onnx, program, part, given)
    answer = values.get(model.answer, Unread("its output is written by no node"))
    if isinstance(answer, Unread):
        raise KDError(answer.reason)
    if not isinstance(answer, str):
        raise KDError("it answers the same to everything")
    return _reaching(program.ops, answer)


def graph_of_answer(ops: Sequence[Op], observations: Mapping[str, ObservationSpec], head: HeadSpec) -> PolicyGraph:
    """The program of operations whose last writes a row of parameters, or an action.

    Args:
        ops: The operations.
        observations: What they read.
        head: How a row becomes an action.

    Raises:
        KDError: They do not fit together, or they choose among actions themselves.
    """
    if not ops:
        raise KDError("it answers with what it observes")
    try:
        return PolicyGraph(observations, tuple(ops), head)
    except KDError:
        if not head.is_gaussian:
            raise
    # A Box's action is the mean of a density, the same that is stated for functions.
    *before, last = ops
    means = Op(last.kind, last.inputs, "means", last.attributes, last.tensors)
    row = to_params(head, np.zeros((1, *head.shape), np.float32), 1, "")
    stated = Op("append", ("means",), PARAMS, {}, {"value": row[0, head.num_acting :]})
    return PolicyGraph(observations, (*before, means, stated), head)


def _read(onnx: Any, program: Program, part: Any, given: Sequence[Value]) -> Value:
    """What a node gives: a constant, a register, or why there is none."""
    for value in given[:1]:
        # Of a shape that only running would tell, and of what follows from it, nothing is needed but the end.
        if isinstance(value, Unread):
            return value
    attributes: dict[str, Any] = {}
    for attribute in part.attribute:
        is_tensor = attribute.type == onnx.AttributeProto.TENSOR
        value = onnx.helper.get_attribute_value(attribute)
        attributes[attribute.name] = _constant(onnx, attribute.t) if is_tensor else value
    reader = READERS.get(part.op_type)
    lacking = Unread(f"its node {part.op_type!r} has no operation here that does the same")
    if reader is None or part.domain not in ("", "ai.onnx"):
        return lacking
    found = reader(program, Node(tuple(given), attributes))
    return lacking if found is None else found


def _constant(onnx: Any, tensor: Any) -> Array:
    """A tensor of the file."""
    if tensor.data_location == onnx.TensorProto.EXTERNAL:
        raise KDError("its weights lie in another file, which is not read")
    return np.asarray(onnx.numpy_helper.to_array(tensor))


def _reaching(ops: Sequence[Op], register: str) -> list[Op]:
    """The operations that a register needs; the last writes `params`."""
    needed = {register}
    kept: list[Op] = []
    for op in reversed(ops):
        if op.output in needed:
            needed |= set(op.inputs)
            output = PARAMS if op.output == register else op.output
            kept.append(Op(op.kind, op.inputs, output, op.attributes, op.tensors))
    return kept[::-1]
