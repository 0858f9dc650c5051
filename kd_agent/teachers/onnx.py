"""An ONNX file as a teacher, run by onnxruntime (an extra).

It takes the observations `[B, *O]` (one input, or one for each key), where it has a memory also that, and one of its
outputs is head parameters `[B, P]` or actions `[B, *A]`. A model that takes a fixed number of rows is asked in parts.
One with an input `action_masks` plays with action masks.
"""

import hashlib
import importlib
import importlib.util
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import gymnasium as gym
import numpy as np
import torch

from kd_agent.environments import observation_specs
from kd_agent.errors import KDError
from kd_agent.networks import ActionHead, Observations, Origin, PolicyOutput, State, Teacher, head_for
from kd_agent.policies import PARAMS, Array, Policy, PolicyGraph
from kd_agent.policies.safe_files import read_capped
from kd_agent.teachers._density import to_params
from kd_agent.teachers._onnx_described import Wiring
from kd_agent.teachers._onnx_ports import match
from kd_agent.teachers._onnx_probe import session_of
from kd_agent.teachers._onnx_process import Probe
from kd_agent.teachers._onnx_program import Model, graph_of_answer, read_program
from kd_agent.teachers._request import Request

MAX_FILE = 256 << 20
_ASKED = 16
"""Observations on which the program read from a file is held against it."""


def accepts(source: Any) -> bool:
    """Whether this plug-in reads `source`."""
    return isinstance(source, str) and source.endswith(".onnx")


def load(source: str, request: Request) -> Teacher:
    """Load a model; its spaces are the environment's. It normalises by itself or not at all.

    Args:
        source: Path of the file.
        request: How it is asked for; only its spaces and its output concern an ONNX file.

    Raises:
        KDError: No spaces are named, onnxruntime is not installed, or the file is no model or does not fit.
    """
    if request.env is None:
        raise KDError(f"{source}: an ONNX file does not say what it acts on; name the environment (--env)")
    return OnnxTeacher(source, request.env, request.onnx_output)


class OnnxTeacher(Teacher):
    """A model in onnxruntime.

    Args:
        source: Path of the file; other files that it refers to are not read.
        env: Observation and action space.
        output: Name of the output that answers; default: the one that fits.
        raw: Content of the file, where it was read before.
        wiring: What is said of its inputs and outputs elsewhere.
    """

    def __init__(
        self,
        source: str,
        env: tuple[gym.Space[Any], gym.Space[Any]],
        output: str | None = None,
        *,
        raw: bytes | None = None,
        wiring: Wiring | None = None,
    ) -> None:
        if raw is None:
            raw = read_capped(source, MAX_FILE)
        self.observations = observation_specs(env[0])
        head = head_for(env[1])
        if importlib.util.find_spec("onnxruntime") is None:
            raise KDError(f"{source}: an ONNX teacher needs: pip install onnxruntime")
        with Probe(raw, source) as probe:
            try:
                self._ports = match(*probe.ports(), self.observations, head.spec, output, wiring=wiring)
            except KDError as error:
                raise KDError(f"{source}: {error.args[0].removeprefix(f'{source}: ')}") from None
            if self._ports.answer == PARAMS and head.spec.is_gaussian:
                # Rows tell nothing of the tanh behind them; our own exports say so beside them.
                head = head_for(env[1], squashed=probe.head == "squashed_gaussian")
            # As in our own exports: asked with all allowed, it answers with the row that any mask is then laid over.
            self.head = ActionHead(replace(head.spec, expects_masks=self._ports.masks is not None))
            probe.ask(self._blank())
        self._raw = raw
        self._session = session_of(raw)
        self.recurrent = bool(self._ports.memories)
        # Another output is another teacher.
        chosen = f" {output}".encode() if output else b""
        self.origin = Origin(source, hashlib.sha256(raw + chosen).hexdigest(), "ONNX", _count(raw))

    def to_graph(self) -> PolicyGraph:
        """Its nodes as operations, as far as these can express them; of actions, with the stated density.

        Raises:
            KDError: A node has no operation that does the same, or it has a memory.
        """
        if self.recurrent:
            raise KDError(f"{self.origin.source}: a model with a memory is run, and not read as a program")
        inputs = {port.name: key for key, port in self._ports.observations.items()}
        masks = None if self._ports.masks is None else self._ports.masks.name
        try:
            ops = read_program(Model(self._raw, inputs, self._ports.answer, masks))
            graph = graph_of_answer(ops, self.observations, self.head.spec)
            self._check(graph)
        except KDError as error:
            raise KDError(f"{self.origin.source}: cannot be written as a program: {error}") from None
        return graph

    def _check(self, graph: PolicyGraph) -> None:
        """Ask both: what an operation makes of a node is believed where they agree."""
        rng = np.random.default_rng(0)
        observations = {}
        for key, spec in self.observations.items():
            array = rng.uniform(0, 2, (_ASKED, *spec.shape))
            observations[key] = array.astype(spec.dtype)
        expected = self(observations).params.numpy()
        found = Policy(graph).params_batch(observations)
        if not np.allclose(found, expected, rtol=1e-3, atol=1e-3):
            raise KDError("the operations read from it answer otherwise than it does")

    def __call__(
        self, observations: Observations, state: State = None, episode_start: Array | None = None
    ) -> PolicyOutput:
        """Label a batch `[B, *O]` by key; a memory is what the model calls its states, each `[B, *S]`."""
        arrays = {}
        for key, port in self._ports.observations.items():
            arrays[port.name] = np.asarray(observations[key], port.dtype)
        batch = len(next(iter(arrays.values())))
        for memory, array in zip(self._ports.memories, self._last(state, episode_start, batch), strict=True):
            arrays[memory.port.name] = array.astype(memory.port.dtype)
        if self._ports.masks is not None:
            arrays[self._ports.masks.name] = np.ones((batch, self.head.spec.num_masks), self._ports.masks.dtype)
        answer, *following = self._in_parts(arrays, batch)
        params = to_params(self.head.spec, answer, batch, self.origin.source)
        states = tuple(map(torch.from_numpy, following)) or None
        return PolicyOutput(torch.from_numpy(params), state=states)

    def _in_parts(self, arrays: Mapping[str, Array], batch: int) -> list[Array]:
        """The answer and the next states `[B, ...]`, by as many calls as the model's own batch takes."""
        rows = self._ports.batch
        if rows is None:
            return self._run(arrays)
        parts = []
        rows = max(rows, 1)
        for first in range(0, max(batch, 1), rows):
            part = {}
            for name, array in arrays.items():
                taken = array[first : first + rows]
                # The last part is filled up by rows of zeros, whose answers nobody reads.
                missing = rows - len(taken)
                part[name] = np.concatenate([taken, np.zeros((missing, *taken.shape[1:]), taken.dtype)])
            parts.append(self._run(part))
        return [np.concatenate(column)[:batch] for column in zip(*parts, strict=True)]

    def _run(self, arrays: Mapping[str, Array]) -> list[Array]:
        """One call: the answer and the next states, the batch first."""
        axes = {memory.port.name: memory.axis for memory in self._ports.memories}
        inputs = {}
        for name, array in arrays.items():
            inputs[name] = array[0] if self._ports.batch == 0 else np.moveaxis(array, 0, axes.get(name, 0))
        wanted = [self._ports.answer, *(memory.following for memory in self._ports.memories)]
        try:
            outputs = self._session.run(wanted, inputs)
        except Exception as error:  # onnxruntime has an exception of its own for each kind of failure
            reason = " ".join(str(error).split())[:160]
            raise KDError(f"{self.origin.source}: does not take these observations ({reason})") from None
        # A copy: the answer's memory is onnxruntime's, and torch wants to be able to write.
        answer, *following = map(np.array, outputs)
        if self._ports.batch == 0:
            return [output[None] for output in (answer, *following)]
        moved = [
            np.moveaxis(array, memory.axis, 0) for array, memory in zip(following, self._ports.memories, strict=True)
        ]
        return [np.atleast_1d(answer), *map(np.ascontiguousarray, moved)]

    def _last(self, state: State, episode_start: Array | None, batch: int) -> list[Array]:
        """The states before a step, `[B, *S]`: what they start as where an episode begins."""
        first = [np.repeat(memory.start[None], batch, axis=0) for memory in self._ports.memories]
        if state is None:
            return first
        starts = np.broadcast_to(np.asarray(False if episode_start is None else episode_start, bool), (batch,))
        last = []
        for initial, array in zip(first, state, strict=True):
            begins = starts.reshape(batch, *[1] * (initial.ndim - 1))
            last.append(np.where(begins, initial, np.asarray(array)))
        return last

    def _blank(self) -> dict[str, tuple[list[int], str]]:
        """Shape and dtype of each input for one call."""
        rows = [] if self._ports.batch == 0 else [self._ports.batch or 1]
        inputs = {}
        for key, port in self._ports.observations.items():
            inputs[port.name] = ([*rows, *self.observations[key].shape], str(port.dtype))
        for memory in self._ports.memories:
            shape = [*memory.shape[: memory.axis], *rows, *memory.shape[memory.axis :]]
            inputs[memory.port.name] = (shape, str(memory.port.dtype))
        if self._ports.masks is not None:
            inputs[self._ports.masks.name] = ([*rows, self.head.spec.num_masks], str(self._ports.masks.dtype))
        return inputs


def _count(raw: bytes) -> int | None:
    """Numbers in its constants; None where the onnx package is not installed."""
    try:
        model = importlib.import_module("onnx").load_model_from_string(raw)
    except ImportError:
        return None
    return sum(int(np.prod(tensor.dims)) for tensor in model.graph.initializer)
