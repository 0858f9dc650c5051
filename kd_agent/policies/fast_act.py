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
from kd_agent.policies.ops import KERNELS, SPLIT_ROLES

FastAct = Callable[[Array], Any]
"""From one array `[*O]` to an action, or None: "ask the interpreter" (wrong shape, NaN, infinity)."""
_FLOAT32 = np.dtype(np.float32)
_FOLDABLE = 10.0
"""Means of more standard deviations than this are not folded: digits would be lost."""

OPS = frozenset({"normalise", "flatten", "linear", "activation", "append", "tree"})
"""Kinds of operation that the fast path knows; a program with any other is left to the interpreter."""


@dataclass(frozen=True)
class _Chain:
    """An MLP: at most one normaliser, then linear layers with one activation between them.

    Attributes:
        normaliser: `(mean, scale, clip)`, the first two `[F]`.
        linears: The linear layers.
        functions: The activations between them.
    """

    normaliser: tuple[Array, Array, float] | None
    linears: list[Op]
    functions: list[Op]


def compile_act(graph: PolicyGraph) -> FastAct | None:
    """The fast path to a greedy action, where the policy is a plain MLP or one tree; else None."""
    kinds = {op.kind for op in graph.ops}
    if not kinds <= OPS or graph.states or list(graph.observations) != [OBSERVATION]:
        return None
    tree = _tree(graph)
    if tree is not None:
        return _walk(tree, graph)
    chain = _chain(graph)
    if chain is None or not _foldable(chain.normaliser):
        return None
    return _multiply(chain, graph)


def _multiply(chain: _Chain, graph: PolicyGraph) -> FastAct:
    """An MLP's way: one product a layer."""
    shape = graph.observations[OBSERVATION].shape
    flat = len(shape) == 1
    low, high, radius = _box(chain.normaliser, math.prod(shape))
    enter, offset, steps = _layers(chain)
    decide = _decision(graph.head)

    def _act(observation: Array) -> Any:
        if observation.shape != shape:
            return None
        x = observation if observation.dtype is _FLOAT32 else _as_float32(observation)
        if x is None:
            return None
        if not flat:
            x = x.reshape(-1)
        # One product tells NaN, infinity and what the clip may reach; comparisons with NaN are false.
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

    return _act


def _tree(graph: PolicyGraph) -> Op | None:
    """The tree that the program is, but for a flatten before and log standard deviations behind it; else None."""
    ops = [op for op in _acting(graph) if op.kind != "flatten"]
    if len(ops) != 1 or ops[0].kind != "tree":
        return None
    [tree] = ops
    width = tree.tensors["value"].shape[1]
    return tree if width == graph.head.num_acting else None


def _acting(graph: PolicyGraph) -> tuple[Op, ...]:
    """The program without the log standard deviations that a Gaussian head's last operation puts on the right."""
    if graph.head.is_gaussian and graph.ops[-1].kind == "append":
        return graph.ops[:-1]
    return graph.ops


def _walk(tree: Op, graph: PolicyGraph) -> FastAct:
    """A tree's way: comparisons of Python's numbers, which take a quarter of the time of NumPy's scalars."""
    feature, threshold, left, right = (tree.tensors[role].tolist() for role in SPLIT_ROLES)
    splits, shape = len(feature), graph.observations[OBSERVATION].shape
    actions = graph.head.greedy(tree.tensors["value"])
    # An array is copied, since what is returned is the caller's to change.
    answer = actions.tolist().__getitem__ if graph.head.kind == "categorical" else lambda leaf: actions[leaf].copy()

    def _act(observation: Array) -> Any:
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

    return _act


def _as_float32(x: Array) -> Array | None:
    # A double beyond float32 becomes infinite, which the caller notices: no need to warn.
    if x.dtype.kind not in "fiub":
        return None
    with np.errstate(over="ignore"):
        return x.astype(_FLOAT32)


def _chain(graph: PolicyGraph) -> _Chain | None:
    """Read the program as an MLP; None where it is another one."""
    if graph.ops[-1].output != PARAMS:
        return None
    register, shape = OBSERVATION, graph.observations[OBSERVATION].shape
    normaliser = None
    linears: list[Op] = []
    functions: list[Op] = []
    for op in _acting(graph):
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
            functions.append(op)
        register = op.output
    if len(functions) != len(linears) - 1 or not _fits(linears, shape, graph.head):
        return None
    return _Chain(normaliser, linears, functions)


def _statistics(op: Op, shape: tuple[int, ...]) -> tuple[Array, Array, float]:
    mean = np.broadcast_to(op.tensors["mean"], (1, *shape)).reshape(-1)
    scale = np.broadcast_to(op.tensors["scale"], (1, *shape)).reshape(-1)
    return mean, scale, float(op.attributes["clip"])


def _fits(linears: list[Op], shape: tuple[int, ...], head: HeadSpec) -> bool:
    """Whether the layers are of vectors, each with a bias of its own size, from observation to acting columns."""
    sizes = [op.tensors["weight"].shape for op in linears]
    for op, size in zip(linears, sizes, strict=True):
        if len(size) != 2 or op.tensors["bias"].shape != size[:1]:
            return False
    return shape == sizes[0][1:] and sizes[-1][0] == head.num_acting


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
    # The largest ball around 0 within the box reaches no clip, and the norm says so in one call.
    radius = max(float(np.minimum(-low, high).min()), 0.0)
    return low, high, np.float32(min(radius**2, float(np.finfo(np.float32).max)))


def _layers(chain: _Chain) -> tuple[Array, Array, list[tuple[Callable[[Array], Array], Array]]]:
    """Weight and bias of the first layer, then the activation before, and the weight of, each other."""
    functions = list(map(_activation, chain.functions))
    weight, bias = _folded(chain)
    if functions:
        weight, bias = _with_unit(weight, bias, functions[0].before)
    enter = np.ascontiguousarray(weight, np.float32)
    offset = np.asarray(bias, np.float32)
    steps = []
    for k, function in enumerate(functions):
        tensors = chain.linears[k + 1].tensors
        weight = function.after * np.asarray(tensors["weight"], np.float64)
        bias = tensors["bias"]
        activate = function.make(weight.shape[1] + 1)
        # The unit that was 1 before the activation is this after it.
        unit = float(activate(np.ones(weight.shape[1] + 1, np.float32))[-1])
        if k + 1 < len(functions):
            weight, bias = _with_unit(weight, bias, functions[k + 1].before)
        with_bias = np.column_stack([weight, bias / unit])
        steps.append((activate, np.ascontiguousarray(with_bias, np.float32)))
    return enter, offset, steps


def _folded(chain: _Chain) -> tuple[Array, Array]:
    """The first layer on raw observations, float64."""
    tensors = chain.linears[0].tensors
    weight = np.asarray(tensors["weight"], np.float64)
    bias = np.asarray(tensors["bias"], np.float64)
    if chain.normaliser is None:
        return weight, bias
    mean, scale, _ = chain.normaliser
    weight = weight * scale
    return weight, bias - weight @ mean


def _with_unit(weight: Array, bias: Array, factor: float) -> tuple[Array, Array]:
    """A layer times a factor, with one more output, which is 1."""
    nothing = np.zeros(weight.shape[1])
    return np.vstack([factor * weight, nothing]), np.append(factor * bias, 1.0)


@dataclass(frozen=True)
class _Activation:
    """`f(x) = after * g(before * x)`, with `make(n)` returning g for arrays `[n]` that it may overwrite."""

    before: float
    after: float
    make: Callable[[int], Callable[[Array], Array]]


def _activation(op: Op) -> _Activation:
    name = op.attributes["function"]
    # sigmoid(x) = 0.5 * (tanh(0.5 * x) + 1), and silu(x) = x * sigmoid(x) = h * (tanh(h) + 1) with h = 0.5 * x.
    if name == "silu":
        return _Activation(0.5, 1.0, _make_silu)
    if name == "sigmoid":
        return _Activation(0.5, 0.5, _make_sigmoid)
    if name == "relu":
        return _Activation(1.0, 1.0, _make_relu)
    return _Activation(1.0, 1.0, lambda size: KERNELS[op.kind](op))


def _make_silu(size: int) -> Callable[[Array], Array]:
    # An array of ones: adding the Python number 1 would be converted in each call.
    one = np.ones(size, np.float32)

    def _run(half: Array) -> Array:
        t = np.tanh(half)
        t += one
        t *= half
        return t

    return _run


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
