"""One observation at a time: an MLP's greedy action in as few NumPy calls as possible, a tree's in plain Python.

A call costs half a microsecond however small its arrays are, so calls are what to save. The normaliser
is folded into the first layer (its clip becomes one of the raw observation, skipped where the norm
says that nothing reaches it); each bias but the first becomes a column that multiplies a unit that
every layer carries along; factors of one half move into neighbouring weights. A leaf's action is known
beforehand.

Letters: `F` features, `A` acting columns, `*A` shape of an action, `*O` shape of an observation.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from kd_agent.policies.graph import OBSERVATION, PARAMS, Op, PolicyGraph
from kd_agent.policies.head import Array, HeadSpec
from kd_agent.policies.ops import ACTIVATIONS

FastAct = Callable[[Array], Any]
"""From one array `[*O]` to an action, or None: "ask the interpreter" (wrong shape, NaN, infinity)."""

_FLOAT32 = np.dtype(np.float32)
_FOLDABLE = 10.0
"""Means of more standard deviations than this are not folded: digits would be lost."""


@dataclass(frozen=True)
class _Chain:
    """An MLP: at most one normaliser, then linear layers with one activation between them.

    Attributes:
        normaliser: `(mean, scale, clip)`, the first two `[F]`.
        linears: The linear layers.
        functions: Names of the activations between them.
    """

    normaliser: tuple[Array, Array, float] | None
    linears: list[Op]
    functions: list[str]


def compile_act(graph: PolicyGraph) -> FastAct | None:
    """The fast way to a greedy action, where the policy is a plain MLP or one tree; else None."""
    if (tree := _tree(graph)) is not None:
        return _walk(tree, graph)
    chain = _chain(graph)
    if chain is None or not _foldable(chain.normaliser):
        return None
    spec = graph.observations[OBSERVATION]
    low, high, radius = _box(chain.normaliser, math.prod(spec.shape))
    enter, offset, steps = _layers(chain)
    decide, shape, flat = _decision(graph.head), spec.shape, len(spec.shape) == 1

    def act(observation: Array) -> Any:
        if observation.shape != shape:
            return None
        x = observation if observation.dtype is _FLOAT32 else _as_float32(observation)
        if x is None:
            return None
        if not flat:
            x = x.reshape(-1)
        squared = x.dot(x)
        if not squared < radius:
            if not squared < np.inf:
                return None
            x = np.minimum(np.maximum(x, low), high)
        x = enter.dot(x)
        x += offset
        for activate, weight in steps:
            x = weight.dot(activate(x))
        return decide(x)

    return act


def _tree(graph: PolicyGraph) -> Op | None:
    """The tree that the program is, but for a flatten before and log standard deviations behind it; else None."""
    ops = [op for op in graph.ops if op.kind != "flatten"]
    if graph.head.is_gaussian and ops[-1].kind == "append":
        ops.pop()
    alone = len(ops) == 1 and ops[0].kind == "tree" and list(graph.observations) == [OBSERVATION]
    acts = alone and ops[0].tensors["value"].shape[1] == graph.head.num_acting
    return ops[0] if acts and not graph.states else None


def _walk(tree: Op, graph: PolicyGraph) -> FastAct:
    feature, threshold, left, right = (
        tree.tensors[role].tolist() for role in ("feature", "threshold", "left", "right")
    )
    splits, shape = len(feature), graph.observations[OBSERVATION].shape
    actions = graph.head.greedy(tree.tensors["value"])
    answer = actions.tolist().__getitem__ if graph.head.kind == "categorical" else lambda leaf: actions[leaf].copy()

    def act(observation: Array) -> Any:
        if observation.shape != shape:
            return None
        flat = observation if observation.dtype is _FLOAT32 else _as_float32(observation)
        if flat is None:
            return None
        flat = flat.reshape(-1)
        if not flat.dot(flat) < np.inf:
            return None
        x, node = flat.tolist(), 0
        while node < splits:
            node = left[node] if x[feature[node]] <= threshold[node] else right[node]
        return answer(node - splits)

    return act


def _as_float32(x: Array) -> Array | None:
    if x.dtype.kind not in "fiub":
        return None
    with np.errstate(over="ignore"):
        return x.astype(_FLOAT32)


def _chain(graph: PolicyGraph) -> _Chain | None:
    """Read the program as an MLP; None where it is another one."""
    ops = list(graph.ops)
    if list(graph.observations) != [OBSERVATION] or graph.states or ops[-1].output != PARAMS:
        return None
    if ops[-1].kind == "append" and graph.head.is_gaussian:
        ops.pop()
    register, shape, normaliser = OBSERVATION, graph.observations[OBSERVATION].shape, None
    linears: list[Op] = []
    functions: list[str] = []
    for op in ops:
        expected = "activation" if len(linears) > len(functions) else "linear"
        if op.inputs != (register,) or op.kind not in ("normalise", "flatten", expected):
            return None
        if op.kind == "normalise":
            if normaliser or linears:
                return None
            normaliser = _statistics(op, shape)
        elif op.kind == "flatten":
            shape = (math.prod(shape),)
        elif op.kind == "linear":
            linears.append(op)
        else:
            functions.append(op.attributes["function"])
        register = op.output
    chain = _Chain(normaliser, linears, functions)
    return chain if len(functions) == len(linears) - 1 and _fits(linears, shape, graph.head) else None


def _statistics(op: Op, shape: tuple[int, ...]) -> tuple[Array, Array, float]:
    mean, scale = (np.broadcast_to(op.tensors[role], (1, *shape)).reshape(-1) for role in ("mean", "scale"))
    return mean, scale, float(op.attributes["clip"])


def _fits(linears: list[Op], shape: tuple[int, ...], head: HeadSpec) -> bool:
    """Whether the layers are of vectors, each with a bias of its own size, from observation to acting columns."""
    sizes = [op.tensors["weight"].shape for op in linears]
    own = all(op.tensors["bias"].shape == (size[0],) for op, size in zip(linears, sizes, strict=True))
    return own and len(shape) == 1 and sizes[0][1] == shape[0] and sizes[-1][0] == head.num_acting


def _foldable(normaliser: tuple[Array, Array, float] | None) -> bool:
    if normaliser is None:
        return True
    mean, scale, clip = normaliser
    return bool(clip > 0 and (scale > 0).all() and (np.abs(mean * scale) <= _FOLDABLE).all())


def _box(normaliser: tuple[Array, Array, float] | None, size: int) -> tuple[Array, Array, Any]:
    """What the clip lets through, `[F]` each, and the square of a radius that lies within."""
    if normaliser is None:
        unbounded = np.full(size, np.inf, np.float32)
        return -unbounded, unbounded, np.float32(np.inf)
    mean, scale, clip = normaliser
    reach = np.float32(clip) / scale
    low, high = mean - reach, mean + reach
    radius = max(float(np.minimum(-low, high).min()), 0.0)
    return low, high, np.float32(min(radius**2, float(np.finfo(np.float32).max)))


def _layers(chain: _Chain) -> tuple[Array, Array, list[tuple[Callable[[Array], Array], Array]]]:
    """Weight and bias of the first layer, then the activation before, and the weight of, each other."""
    weight, bias = _folded(chain)
    if chain.functions:
        factor = _activation(chain.functions[0]).before
        weight, bias = _with_unit(factor * weight, factor * bias)
    enter, offset = np.ascontiguousarray(weight, np.float32), np.asarray(bias, np.float32)
    steps = []
    for k, name in enumerate(chain.functions):
        function, tensors = _activation(name), chain.linears[k + 1].tensors
        weight, bias = function.after * np.asarray(tensors["weight"], np.float64), tensors["bias"]
        activate = function.make(weight.shape[1] + 1)
        unit = float(activate(np.ones(weight.shape[1] + 1, np.float32))[-1])
        if k + 1 < len(chain.functions):
            factor = _activation(chain.functions[k + 1]).before
            weight, bias = _with_unit(factor * weight, factor * bias)
        steps.append((activate, np.ascontiguousarray(np.column_stack([weight, bias / unit]), np.float32)))
    return enter, offset, steps


def _folded(chain: _Chain) -> tuple[Array, Array]:
    """The first layer on raw observations, float64."""
    weight, bias = (np.asarray(chain.linears[0].tensors[role], np.float64) for role in ("weight", "bias"))
    if chain.normaliser is None:
        return weight, bias
    mean, scale, _ = chain.normaliser
    weight = weight * scale
    return weight, bias - weight @ mean


def _with_unit(weight: Array, bias: Array) -> tuple[Array, Array]:
    """One more output, which is 1."""
    return np.vstack([weight, np.zeros(weight.shape[1])]), np.append(bias, 1.0)


@dataclass(frozen=True)
class _Activation:
    """`f(x) = after * g(before * x)`, with `make(n)` returning g for arrays `[n]` that it may overwrite."""

    before: float
    after: float
    make: Callable[[int], Callable[[Array], Array]]


def _activation(name: str) -> _Activation:
    if name == "silu":
        return _Activation(0.5, 1.0, _make_silu)
    if name == "sigmoid":
        return _Activation(0.5, 0.5, _make_sigmoid)
    return _Activation(1.0, 1.0, _make_relu if name == "relu" else lambda size: ACTIVATIONS[name])


def _make_silu(size: int) -> Callable[[Array], Array]:
    one = np.ones(size, np.float32)

    def run(half: Array) -> Array:
        t = np.tanh(half)
        t += one
        t *= half
        return t

    return run


def _make_sigmoid(size: int) -> Callable[[Array], Array]:
    one = np.ones(size, np.float32)
    return lambda half: np.tanh(half) + one


def _make_relu(size: int) -> Callable[[Array], Array]:
    zero = np.zeros(size, np.float32)
    return lambda x: np.maximum(x, zero, out=x)


def _decision(head: HeadSpec) -> Callable[[Array], Any]:
    """From the acting columns `[A]` to the greedy action: an int for Discrete, else an array `[*A]`."""
    if head.kind == "categorical":
        start = head.start[0]
        return lambda row: int(row.argmax()) + start
    if head.kind != "diag_gaussian":
        return lambda row: head.greedy(row[None])[0]
    low, high = np.asarray(head.low, np.float32), np.asarray(head.high, np.float32)
    shape, dtype = head.shape, np.dtype(head.dtype)
    return lambda row: np.minimum(np.maximum(row, low), high).astype(dtype).reshape(shape)
