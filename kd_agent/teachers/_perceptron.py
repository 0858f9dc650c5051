"""A program read as a plain multilayer perceptron, for students of the same shape."""

from kd_agent.networks import ACTIVATION_LAYERS, Layers
from kd_agent.policies import PARAMS, Normalizer, Op, PolicyGraph

_ENCODERS = ("normalise", "flatten", "one_hot")
"""What may stand between an observation and the first layer."""


def read_layers(graph: PolicyGraph) -> Layers | None:
    """The layers of a program; None where it is more than linear layers with one activation between them."""
    if graph.states:
        return None
    ops = graph.acting_ops()
    by_output = {op.output: op for op in ops}
    register = _written_by_layers(by_output[PARAMS], graph)
    linears: list[Op] = []
    functions: set[str] = set()
    while by_output[register].kind == "linear":
        linears.insert(0, by_output[register])
        [register] = linears[0].inputs
        if register not in by_output:
            break
        before = by_output[register]
        if before.kind == "activation":
            functions.add(before.attributes["function"])
            [register] = before.inputs
            if register not in by_output or by_output[register].kind != "linear":
                return None
    if not linears or len(functions) > 1 or not functions <= set(ACTIVATION_LAYERS):
        return None
    normalizers = _normalizers(graph, by_output, register)
    # Two linear layers with nothing between them are one that is written in two; such a thing no student has.
    if normalizers is None or (len(linears) > 1 and not functions):
        return None
    hidden = tuple(len(op.tensors["bias"]) for op in linears[:-1])
    bias = any(op.tensors["bias"].any() for op in linears)
    return Layers(hidden, next(iter(functions), None), bias, normalizers)


def _written_by_layers(last: Op, graph: PolicyGraph) -> str:
    """The register of the acting columns: a Gaussian's means, of other heads the whole row."""
    beside_means = last.kind in ("append", "concatenate")
    if graph.head.is_gaussian and beside_means:
        return last.inputs[0]
    return last.output


def _normalizers(graph: PolicyGraph, by_output: dict[str, Op], register: str) -> dict[str, Normalizer] | None:
    """Statistics by key below the first layer; None where more lies there than each observation once."""
    columns: tuple[str, ...] = (register,)
    if register in by_output and by_output[register].kind == "concatenate":
        columns = by_output[register].inputs
    keys = []
    normalizers = {}
    for column in columns:
        name = column
        found = None
        while name in by_output:
            op = by_output[name]
            twice = op.kind == "normalise" and found is not None
            if op.kind not in _ENCODERS or twice:
                return None
            if op.kind == "normalise":
                found = Normalizer.of_op(op)
            [name] = op.inputs
        keys.append(name)
        if found is not None:
            normalizers[name] = found
    return normalizers if sorted(keys) == sorted(graph.observations) else None
