"""A LEAPP graph as a teacher: a YAML file that says what an ONNX model's inputs, outputs and states are.

It is read as data, within bounds: the package `leapp` is not needed, and no file outside the graph's folder is opened.
The model is run as an ONNX teacher is; what the graph says of states, their first values and the outputs is believed.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as read_tensors

from kd_agent.errors import KDError
from kd_agent.networks import Teacher
from kd_agent.policies import Array
from kd_agent.policies.safe_files import read_capped
from kd_agent.settings.yaml_file import read_mapping
from kd_agent.teachers._onnx_described import Wiring
from kd_agent.teachers._request import Request
from kd_agent.teachers.onnx import MAX_FILE, OnnxTeacher

_MAX_INITIAL = 16 << 20
"""Bytes of the first values of states, which have some kilobytes."""


def accepts(source: Any) -> bool:
    """Whether this plug-in reads `source`."""
    return isinstance(source, str) and source.endswith((".yaml", ".yml"))


def load(source: str, request: Request) -> Teacher:
    """Load a graph of one model; its spaces are the environment's. The model normalises by itself.

    Args:
        source: Path of the YAML file.
        request: How it is asked for; only its spaces and its output concern a graph.

    Raises:
        KDError: No spaces are named, the graph is damaged or not of one ONNX model, or that does not fit.
    """
    if request.env is None:
        raise KDError(f"{source}: a LEAPP graph does not say what it acts on; name the environment (--env)")
    graph = _Graph.read(source)
    teacher = OnnxTeacher(source, request.env, request.onnx_output, raw=graph.model, wiring=graph.wiring)
    digest = hashlib.sha256(f"{teacher.origin.sha256} {graph.wiring_sha256}".encode()).hexdigest()
    teacher.origin = replace(teacher.origin, sha256=digest, algo="LEAPP")
    return teacher


@dataclass(frozen=True)
class _Graph:
    """A graph of one model.

    Attributes:
        model: The model's file.
        wiring: What the graph says of its inputs and outputs.
        wiring_sha256: Of all that says so: another wiring is another teacher.
    """

    model: bytes
    wiring: Wiring
    wiring_sha256: str

    @staticmethod
    def read(source: str) -> "_Graph":
        """Read a graph and the files that it names."""
        try:
            told = read_mapping(source)
            name, model = _only_model(_mapping(told, "models"))
            pipeline = _mapping(told, "pipeline")
            folder = Path(source).parent
            raw = _model_file(folder, _mapping(model, "parameters"))
            initial, digest = _initial_values(folder, pipeline, name)
            wiring = Wiring(
                _ports(pipeline, "inputs", name),
                # Where all that comes out is also fed back, the graph lists no output.
                _ports(pipeline, "outputs", name) or tuple(_names_of(model, "outputs")),
                _following(pipeline, name),
                initial,
            )
        except KDError as error:
            reason = error.args[0].removeprefix(f"{source}: ")
            raise KDError(f"{source}: {reason}") from None
        described = repr((wiring.inputs, wiring.outputs, sorted(wiring.following.items()), digest))
        return _Graph(raw, wiring, hashlib.sha256(described.encode()).hexdigest())


def _mapping(told: Mapping[str, Any], key: str) -> dict[str, Any]:
    """A mapping in a mapping.

    Raises:
        KDError: There is none of that key.
    """
    found = told.get(key)
    if not isinstance(found, dict) or not all(isinstance(name, str) for name in found):
        raise KDError(f"no LEAPP graph: {key!r} is not a mapping in it")
    return found


def _only_model(models: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """The graph's one model and its name."""
    if len(models) != 1:
        names = ", ".join(list(models)[:5]) or "none"
        raise KDError(f"a graph of {len(models)} models ({names}); only one model can be a teacher")
    [name] = models
    return name, _mapping(models, name)


def _model_file(folder: Path, parameters: Mapping[str, Any]) -> bytes:
    """The content of the model's file, which is the one that the graph was written with."""
    backend = parameters.get("backend")
    if backend != "onnx":
        raise KDError(f"its model is of the backend {backend!r}; only onnx can be read without running its code")
    raw = read_capped(_inside(folder, parameters.get("model_path"), "model_path"), MAX_FILE)
    if hashlib.sha256(raw).hexdigest() != parameters.get("sha256sum"):
        raise KDError(f"{parameters['model_path']} is not the file that the graph was written with (its sha256sum)")
    return raw


def _inside(folder: Path, name: Any, key: str) -> Path:
    """A file that the graph names; it must lie in the graph's folder, links followed."""
    if not isinstance(name, str) or not name:
        raise KDError(f"no LEAPP graph: {key!r} is not the name of a file")
    try:
        inside = (folder / name).resolve().is_relative_to(folder.resolve())
    except (OSError, ValueError, RuntimeError):  # a loop of links, or a name that no file can have
        inside = False
    if not inside:
        raise KDError(f"{key} {name!r} is not inside the graph's folder")
    return folder / name


def _ports(pipeline: Mapping[str, Any], key: str, model: str) -> tuple[str, ...]:
    """Names of the model's inputs or outputs that the graph shows to its host."""
    listed = _mapping(pipeline, key)
    for name in listed:
        if name != model:
            raise KDError(f"its {key} name the model {name!r}, which is not {model!r}")
    return tuple(_texts(listed.get(model, []), key))


def _texts(value: Any, key: str) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
        raise KDError(f"no LEAPP graph: {key!r} is not a list of names in it")
    return value


def _names_of(model: Mapping[str, Any], key: str) -> list[str]:
    """Names of the tensors that the graph describes."""
    described = model.get(key)
    if not isinstance(described, list) or not all(isinstance(tensor, dict) for tensor in described):
        raise KDError(f"no LEAPP graph: {key!r} is not a list of tensors in it")
    return _texts([tensor.get("name") for tensor in described], key)


def _following(pipeline: Mapping[str, Any], model: str) -> dict[str, str]:
    """The output that is fed back, by the input that it goes into."""
    if "feedback_flow" not in pipeline:
        return {}
    following: dict[str, str] = {}
    for source, targets in _mapping(pipeline, "feedback_flow").items():
        for target in _texts(targets, "feedback_flow"):
            following[_tensor(target, model)] = _tensor(source, model)
    return following


def _tensor(place: str, model: str) -> str:
    """The tensor of `MODEL/TENSOR`."""
    name, slash, tensor = place.partition("/")
    if name != model or not slash:
        raise KDError(f"no LEAPP graph: {place!r} is not a tensor of its model {model!r}")
    return tensor


def _initial_values(folder: Path, pipeline: Mapping[str, Any], model: str) -> tuple[dict[str, Array], str]:
    """First values of the model's inputs, by name, and the digest of the file; none where the graph names none."""
    name = pipeline.get("initial_values")
    if name is None:
        return {}, ""
    raw = read_capped(_inside(folder, name, "initial_values"), _MAX_INITIAL)
    try:
        tensors = read_tensors(raw)
    except (SafetensorError, KeyError, ValueError, OverflowError) as error:
        raise KDError(f"{name}: cannot be read as safetensors ({error})") from None
    values: dict[str, Array] = {}
    for place, tensor in tensors.items():
        value = tensor.astype(np.float32)
        if not np.isfinite(value).all():
            raise KDError(f"{name}: {place!r} has values that are not finite")
        values[_tensor(place, model)] = value
    return values, hashlib.sha256(raw).hexdigest()
