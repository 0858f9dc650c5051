"""Pruning of whole neurons: the layers become narrower, nothing becomes sparse.

Letters: `S` states, `U` units of a layer, `m` outputs of what reads them.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from kd_agent.errors import KDError
from kd_agent.policies import Array, Op, PolicyGraph


@dataclass(frozen=True)
class Layer:
    """A linear layer whose units can go.

    Attributes:
        position: Its index in the program.
        units: How many it has.
        output: The register that holds its activations.
        readers: Indices of the linear layers that read them; nothing else does.
    """

    position: int
    units: int
    output: str
    readers: tuple[int, ...]


def compress(
    graph: PolicyGraph, observations: Mapping[str, Array], *, hidden: Sequence[int] | None = None
) -> PolicyGraph:
    """Keep the units that matter most, layer by layer.

    Args:
        graph: The policy.
        observations: States `[S, *O]` by key that it meets.
        hidden: Units to keep in each hidden layer; None: half of them.

    Raises:
        KDError: There is nothing to prune, or `hidden` names another number of layers.
    """
    count = len(hidden_layers(graph))
    if not count or graph.states:
        raise KDError("pruning needs hidden linear layers that nothing but linear layers read, and no memory")
    if hidden is not None and len(hidden) != count:
        raise KDError(f"{len(hidden)} sizes to prune to, but the policy has {count} hidden layers")
    for index in range(count):
        # Asked for again: the layer before is narrower now, and what reaches this one has been refitted.
        layer = hidden_layers(graph)[index]
        units = math.ceil(layer.units / 2)
        if hidden:
            units = hidden[index]
        graph = _shrunk(graph, layer, units, observations)
    return graph


def hidden_layers(graph: PolicyGraph) -> list[Layer]:
    """The linear layers whose units, after an activation or none, only linear layers read."""
    layers: list[Layer] = []
    for position, op in enumerate(graph.ops):
        if op.kind != "linear":
            continue
        output, readers = _readers(graph, op.output)
        kinds = {graph.ops[reader].kind for reader in readers}
        if kinds == {"linear"}:
            layers.append(Layer(position, len(op.tensors["weight"]), output, readers))
    return layers


def _readers(graph: PolicyGraph, register: str) -> tuple[str, tuple[int, ...]]:
    """Who reads a register, seen through activations, and what it is called then."""
    readers = tuple(index for index, op in enumerate(graph.ops) if register in op.inputs)
    # An activation acts on each unit alone, so that a unit can go with what is made of it.
    if len(readers) == 1 and graph.ops[readers[0]].kind == "activation":
        return _readers(graph, graph.ops[readers[0]].output)
    return register, readers


def _shrunk(graph: PolicyGraph, layer: Layer, units: int, observations: Mapping[str, Array]) -> PolicyGraph:
    """The graph with the `units` most important units of a layer.

    A unit's importance is the error that its removal leaves in what reads it once biases have absorbed its
    mean: its standard deviation times the norm of its outgoing weights. What reads the layer is then refitted
    by least squares to the sums that it had before (He et al. 2017, Channel Pruning), bias included.
    """
    if units >= layer.units:
        return graph
    active = graph.compile()(observations)[layer.output].astype(np.float64)
    outgoing = np.concatenate([graph.ops[reader].tensors["weight"] for reader in layer.readers])
    importance = active.std(axis=0) * np.linalg.norm(outgoing, axis=0)
    # Stable, and in the layer's own order: the same on every machine, where units tie too.
    kept = np.sort(np.argsort(-importance, kind="stable")[:units])
    ops = list(graph.ops)
    ops[layer.position] = _rows(ops[layer.position], kept)
    for reader in layer.readers:
        ops[reader] = _refitted(ops[reader], active, kept)
    return replace(graph, ops=tuple(ops))


def _rows(op: Op, kept: Array) -> Op:
    """A linear layer with only some of its outputs."""
    # One number may stand for the bias of all outputs.
    bias = np.broadcast_to(op.tensors["bias"], len(op.tensors["weight"]))
    return replace(op, tensors={"weight": op.tensors["weight"][kept], "bias": bias[kept]})


def _refitted(op: Op, active: Array, kept: Array) -> Op:
    """A linear layer that reads only some of its inputs `active [S, U]`, nearest to what it said before."""
    ones = np.ones((len(active), 1))  # their coefficient is what the bias grows by
    inputs = np.concatenate([active[:, kept], ones], axis=1)
    sums = active @ op.tensors["weight"].T
    # Units that say the same up to 1e-6 share a weight between them, rather than take huge ones of opposite signs.
    solution = np.linalg.lstsq(inputs, sums, rcond=1e-6)[0]
    weight = np.asarray(solution[:-1].T, np.float32)
    bias = np.asarray(op.tensors["bias"] + solution[-1], np.float32)
    return replace(op, tensors={"weight": weight, "bias": bias})
