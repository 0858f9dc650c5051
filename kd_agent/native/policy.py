"""A policy in machine code: its generated C, compiled once and called with little overhead.

Checks are those of NumPy's Policy: what the C does not take as it is goes through the same code and
ends in the same answers and errors. Letters: `B` batch, `P` head parameters, `S` numbers of memory.
"""

import ctypes
import importlib.machinery
import importlib.util
from collections.abc import Callable, Mapping, Sequence
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
            numbers, actions = _answers(graph)
            self.act = bind(super().act, numbers)  # type: ignore[method-assign]
            self._greedy = bind(self._slow_greedy, actions)

    def predict(
        self,
        observation: Observation,
        state: tuple[Array, ...] | None = None,
        episode_start: Array | None = None,
        deterministic: bool = False,
    ) -> tuple[Array, tuple[Array, ...] | None]:
        """As `Policy.predict`."""
        if deterministic and not self._widths:
            return self._greedy(observation), None
        return super().predict(observation, state, episode_start, deterministic)

    def step_batch(
        self, observations: Mapping[str, Array], state: Sequence[Any] | None = None, episode_start: Any = None
    ) -> tuple[Array, tuple[Array, ...] | None]:
        """As `Policy.step_batch`."""
        keys = self.graph.observations
        batch = len(observations[next(iter(keys))])
        flat = _rows([observations[key] for key in keys], batch)
        params = np.empty((batch, self.graph.head.num_params), np.float32)
        if not self._widths:
            self._params(flat, None, params)
            return params, None
        memory = self.graph.memory(batch, state, episode_start)
        rows = _rows([memory[name] for name in self._widths], batch).copy()
        self._params(flat, rows, params)
        parts = np.split(rows, np.cumsum(list(self._widths.values()))[:-1], axis=1)
        shapes = [self.graph.states[name] for name in self._widths]
        return params, tuple(part.reshape(batch, *shape) for part, shape in zip(parts, shapes, strict=True))

    def _slow_greedy(self, observation: Observation) -> Array:
        return super().predict(observation, deterministic=True)[0]


def _rows(arrays: Sequence[Array], batch: int) -> Array:
    """Arrays `[B, ...]` side by side, float32 `[B, F]`."""
    flat = [np.asarray(array, np.float32).reshape(batch, -1) for array in arrays]
    return np.ascontiguousarray(flat[0] if len(flat) == 1 else np.concatenate(flat, axis=1))


def _answers(graph: PolicyGraph) -> tuple[Any, Any]:
    """What `bind` needs to answer as `act` and as `predict` do."""
    head = graph.head
    if head.kind != "categorical":
        make = partial(np.empty, head.shape, head.dtype)
        return make, make
    actions = np.arange(head.start[0], head.start[0] + head.nvec[0], dtype=head.dtype)
    return tuple(actions.tolist()), tuple(actions)


def _load(graph: PolicyGraph) -> tuple[Callable[..., None], Callable[..., Any] | None]:
    """The functions `params` and, where there is one, `bind` of the compiled policy."""
    plugin = plugins.load("export", "c")
    missing = sorted({op.kind for op in graph.ops} - plugin.OPS)
    if missing:
        raise KDError(f"the native backend cannot express the operation {missing[0]!r}")
    try:
        if plugin.stack_bytes(graph) > _MAX_STACK:
            raise KDError(f"the policy needs more than {_MAX_STACK >> 20} MiB of working memory")
        header, source = plugin.generate(graph, "policy.h")
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:
        raise KDError(f"the policy's operations cannot be compiled: {error!r}") from error
    texts = {"policy.h": header, "policy.c": source}
    if compiler.python_headers() is None:
        return _plain(compiler.library({**texts, "main.c": extension.plain_text(graph)}, "main.c")), None
    module = _import(compiler.library({**texts, "main.c": extension.module_text(graph)}, "main.c"))
    return module.params, getattr(module, "bind", None)


def _import(path: Path) -> Any:
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
    batch.argtypes, batch.restype = [*[ctypes.c_void_p] * 3, ctypes.c_long], None

    def params(obs: Array, state: Array | None, out: Array) -> None:
        batch(obs.ctypes.data, None if state is None else state.ctypes.data, out.ctypes.data, len(out))

    return params
