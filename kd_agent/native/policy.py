"""A policy in machine code: its generated C, compiled once and called with little overhead.

Checks are those of NumPy's Policy: what the C does not take as it is goes through the same code and
ends in the same answers and errors. Letters: `B` batch, `P` head parameters, `S` numbers of memory.
"""

import ctypes
import importlib.machinery
import importlib.util
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from kd_agent import plugins
from kd_agent.errors import KDError
from kd_agent.native import compiler, extension
from kd_agent.policies import Array, Observation, Policy, PolicyGraph

_MAX_STACK = 1 << 20
"""Bytes of working memory that the C may take from the stack."""


class NativePolicy(Policy):
    """As `Policy`, compiled.

    Raises:
        KDError: It cannot be compiled here; the message says why.
    """

    backend = "native"

    def __init__(self, graph: PolicyGraph, seed: int | None = None) -> None:
        super().__init__(graph, seed)
        self._params, bind = _load(graph)
        self._widths = {name: int(np.prod(shape)) for name, shape in sorted(graph.states.items())}
        self._greedy: Callable[[Observation], Array] = self._slow_greedy
        if bind is not None:
            # On the instance, where it hides the method: one call into C, and no Python around it.
            numbers, actions = _answers(graph)
            if not graph.sampled:
                self.act = bind(super().act, numbers)  # type: ignore[method-assign]
            self._greedy = bind(self._slow_greedy, actions)

    def predict(
        self,
        observation: Observation,
        state: tuple[Array, ...] | None = None,
        episode_start: Array | None = None,
        deterministic: bool = False,
        action_masks: Any = None,
    ) -> tuple[Array, tuple[Array, ...] | None]:
        """As `Policy.predict`.

        Args:
            observation: One observation `[*O]` or a batch `[B, *O]`.
            state: Memory of a recurrent policy (None for the others).
            episode_start: `[B]`, where the memory begins anew.
            deterministic: The greedy action instead of a sample.
            action_masks: `[M]` or `[B, M]`, what is allowed; None: everything.
        """
        if deterministic and action_masks is None and not self._widths:
            return self._greedy(observation), None
        return super().predict(observation, state, episode_start, deterministic, action_masks)

    def _step(
        self, observations: Mapping[str, Array], state: Sequence[Any] | None, episode_start: Any
    ) -> tuple[Array, tuple[Array, ...] | None]:
        # In the graph's order of keys, which is the one that the C was written for.
        arrays = list(map(observations.__getitem__, self.graph.observations))
        batch = len(arrays[0])
        flat = _rows(arrays, batch)
        params = np.empty((batch, self.graph.head.num_params), np.float32)
        if not self._widths:
            self._params(flat, None, params)
            return params, None
        memory = self.graph.memory(batch, state, episode_start)
        # A copy, which the C updates in place: the caller keeps the state of the step before.
        rows = _rows(list(map(memory.__getitem__, self._widths)), batch).copy()
        self._params(flat, rows, params)
        parts = np.split(rows, np.cumsum(list(self._widths.values()))[:-1], axis=1)
        next_state = []
        for name, part in zip(self._widths, parts, strict=True):
            next_state.append(part.reshape(batch, *self.graph.states[name]))
        return params, tuple(next_state)

    def _slow_greedy(self, observation: Observation) -> Array:
        return super().predict(observation, deterministic=True)[0]


def _rows(arrays: Sequence[Array], batch: int) -> Array:
    """Arrays `[B, ...]` side by side, float32 `[B, F]`."""
    flat = [np.asarray(array, np.float32).reshape(batch, math.prod(array.shape[1:])) for array in arrays]
    # Concatenating one array would copy it for nothing.
    if len(flat) == 1:
        return np.ascontiguousarray(flat[0])
    return np.concatenate(flat, axis=1)


def _answers(graph: PolicyGraph) -> tuple[Any, Any]:
    """What `bind` needs to answer as `act` and as `predict` do."""
    head = graph.head
    if head.kind != "categorical":
        make = partial(np.empty, head.shape, head.dtype)
        return make, make
    # All answers made beforehand: `act` gives Python's ints, `predict` the dtype's scalars.
    actions = np.arange(head.start[0], head.start[0] + head.nvec[0], dtype=head.dtype)
    return tuple(actions.tolist()), tuple(actions)


def _load(graph: PolicyGraph) -> tuple[Callable[..., None], Callable[..., Any] | None]:
    """The functions `params` and, where there is one, `bind` of the compiled policy.

    Which kinds of operation it can have is what the C export writes: its `OPS`.
    """
    plugin = plugins.load("export", "c")
    kinds = {op.kind for op in graph.ops}
    missing = sorted(kinds - plugin.OPS)
    if missing:
        raise KDError(f"the native backend cannot express the operation {missing[0]!r}")
    try:
        if plugin.stack_bytes(graph) > _MAX_STACK:
            raise KDError(f"the policy needs more than {_MAX_STACK >> 20} MiB of working memory")
        # Masks are NumPy's part: the C answers with bare rows, and its functions take no mask.
        bare = replace(graph, head=replace(graph.head, expects_masks=False))
        header, source = plugin.generate(bare, "policy.h")
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:
        raise KDError(f"the policy's operations cannot be compiled: {error!r}") from error
    texts = {"policy.h": header, "policy.c": source}
    if compiler.python_headers() is None:
        return _plain(compiler.library({**texts, "main.c": extension.plain_text(graph)}, "main.c")), None
    module = _import(compiler.library({**texts, "main.c": extension.module_text(graph)}, "main.c"))
    return module.params, getattr(module, "bind", None)


def _import(path: Path) -> Any:
    """The extension module at a path, outside `sys.modules`: each policy has its own."""
    loader = importlib.machinery.ExtensionFileLoader("kd_native", str(path))
    spec = importlib.util.spec_from_loader("kd_native", loader)
    try:
        if spec is None:
            raise ImportError("no specification")
        module = importlib.util.module_from_spec(spec)
        loader.exec_module(module)
    except ImportError as error:
        raise KDError(f"{path}: cannot be loaded ({error}); remove it to compile it anew") from None
    return module


def _plain(path: Path) -> Callable[..., None]:
    """`params` of a library without Python in it, through ctypes."""
    batch = ctypes.CDLL(str(path)).kd_batch
    batch.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_long]
    batch.restype = None

    def _params(obs: Array, state: Array | None, out: Array) -> None:
        memory = None if state is None else state.ctypes.data
        batch(obs.ctypes.data, memory, out.ctypes.data, len(out))

    return _params
