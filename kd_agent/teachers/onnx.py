"""An ONNX file as a teacher, run by onnxruntime (an extra).

It takes the observations `[B, *O]` (one input, or one for each key) and its first output, or the one named
`params`, is head parameters `[B, P]` or actions `[B, *A]`. One with an input `action_masks` plays with action masks.
"""

import hashlib
import importlib
from dataclasses import replace
from typing import Any

import gymnasium as gym
import numpy as np
import torch

from kd_agent.environments import observation_specs
from kd_agent.errors import KDError
from kd_agent.networks import ActionHead, Observations, Origin, PolicyOutput, State, Teacher, head_for
from kd_agent.policies import PARAMS, Array
from kd_agent.policies.safe_files import read_capped
from kd_agent.teachers._density import to_params
from kd_agent.teachers._request import Request

MAX_FILE = 256 << 20
_MASKS = "action_masks"
_TYPES = {
    "tensor(float)": "float32",
    "tensor(double)": "float64",
    "tensor(float16)": "float16",
    "tensor(uint8)": "uint8",
    "tensor(int64)": "int64",
    "tensor(int32)": "int32",
}
"""NumPy's dtype by what onnxruntime calls the type of an input."""


def accepts(source: Any) -> bool:
    """Whether this plug-in reads `source`."""
    return isinstance(source, str) and source.endswith(".onnx")


def load(source: str, request: Request) -> Teacher:
    """Load a model; its spaces are the environment's. It normalises by itself or not at all.

    Args:
        source: Path of the file.
        request: How it is asked for; of its settings, only the spaces concern an ONNX file.

    Raises:
        KDError: No spaces are named, onnxruntime is not installed, or the file is no model or does not fit.
    """
    if request.env is None:
        raise KDError(f"{source}: an ONNX file does not say what it acts on; name the environment (--env)")
    return OnnxTeacher(source, request.env)


class OnnxTeacher(Teacher):
    """A model in onnxruntime.

    Args:
        source: Path of the file; other files that it refers to are not read.
        env: Observation and action space.
    """

    def __init__(self, source: str, env: tuple[gym.Space[Any], gym.Space[Any]]) -> None:
        raw = read_capped(source, MAX_FILE)
        self._session = _session(raw, source)
        self.observations = observation_specs(env[0])
        inputs = {value.name: value for value in self._session.get_inputs()}
        # As in our own exports: asked with all allowed, it answers with the row that any mask is then laid over.
        self._takes_masks = inputs.pop(_MASKS, None) is not None
        head = head_for(env[1])
        self.head = ActionHead(replace(head.spec, expects_masks=self._takes_masks))
        self._inputs = _match(list(inputs.values()), list(self.observations), source)
        names = [output.name for output in self._session.get_outputs()]
        self._output = PARAMS if PARAMS in names else names[0]
        self.origin = Origin(source, hashlib.sha256(raw).hexdigest(), "ONNX", _count(raw))

    def __call__(
        self, observations: Observations, state: State = None, episode_start: Array | None = None
    ) -> PolicyOutput:
        """Label a batch `[B, *O]` by key."""
        inputs = {}
        for key, (name, dtype) in self._inputs.items():
            inputs[name] = np.asarray(observations[key], dtype)
        batch = len(next(iter(inputs.values())))
        if self._takes_masks:
            inputs[_MASKS] = np.ones((batch, self.head.spec.num_masks), bool)
        try:
            (answer,) = self._session.run([self._output], inputs)
        except Exception as error:  # onnxruntime has an exception of its own for each kind of failure
            reason = " ".join(str(error).split())[:160]
            raise KDError(f"{self.origin.source}: does not take these observations ({reason})") from None
        # A copy: the answer's memory is onnxruntime's, and torch wants to be able to write.
        params = to_params(self.head.spec, np.array(answer), batch, self.origin.source)
        return PolicyOutput(torch.from_numpy(params))


def _session(raw: bytes, source: str) -> Any:
    try:
        runtime = importlib.import_module("onnxruntime")
    except ImportError:
        raise KDError(f"{source}: an ONNX teacher needs: pip install onnxruntime") from None
    options = runtime.SessionOptions()
    options.intra_op_num_threads = 1
    # Fatal messages alone: what is wrong with a file is said once, by the KDError.
    options.log_severity_level = 4
    try:
        # From bytes, not from the path: weights in files beside the model, which could be any file, are not read.
        return runtime.InferenceSession(raw, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        reason = " ".join(str(error).split())[:160]
        raise KDError(f"{source}: is no usable ONNX model ({reason})") from None


def _match(inputs: list[Any], keys: list[str], source: str) -> dict[str, tuple[str, str]]:
    """Input and dtype for each observation key: the only one, or those of the same name."""
    # kd_agent's own exports call the input of a key "obs.<key>".
    by_key = {value.name.removeprefix("obs."): value for value in inputs}
    if len(inputs) == len(keys) == 1:
        by_key = {keys[0]: inputs[0]}
    if set(by_key) != set(keys) or any(value.type not in _TYPES for value in inputs):
        raise KDError(f"{source}: its inputs are {sorted(by_key)}, the environment's observations {sorted(keys)}")
    return {key: (by_key[key].name, _TYPES[by_key[key].type]) for key in keys}


def _count(raw: bytes) -> int:
    """Numbers in its constants; 0 where the onnx package is not installed."""
    try:
        model = importlib.import_module("onnx").load_model_from_string(raw)
    except ImportError:
        return 0
    return sum(int(np.prod(tensor.dims)) for tensor in model.graph.initializer)
