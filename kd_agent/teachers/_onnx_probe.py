"""Run by itself in a process of its own: an ONNX model is opened and asked once, within bounds of memory and time.

    python _onnx_probe.py        stdin: 8 bytes of length, the model, a line of JSON with the inputs to make

A few hundred bytes of a model can ask for gigabytes or never end, and onnxruntime computes what is constant as soon as
it opens the model. Answers with a line of JSON for each step: `{"inputs", "outputs", "head"}`, then `{}`; or
`{"error": text}`.
"""

import importlib
import json
import sys
from typing import Any

MEMORY = 1 << 30
"""Bytes beside the model's own, of which some four copies are made."""
SECONDS = 20


def limit(size: int) -> None:
    """Bound memory and time, where the system can.

    Args:
        size: Bytes of the model.
    """
    try:
        resource = importlib.import_module("resource")
    except ImportError:  # Windows
        return
    memory = MEMORY + 4 * size
    resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def session_of(raw: bytes) -> Any:
    """The model in onnxruntime, on one thread.

    Args:
        raw: Its file. From bytes, not from a path: weights in files beside it, which could be any file, are not read.
    """
    runtime = importlib.import_module("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = 1
    # Fatal messages alone: what is wrong with a file is said once, by whoever reads it.
    options.log_severity_level = 4
    return runtime.InferenceSession(raw, options, providers=["CPUExecutionProvider"])


def described(values: Any) -> list[list[Any]]:
    """Name, type and axes of inputs or outputs."""
    return [[value.name, value.type, list(value.shape or ())] for value in values]


def head_of(session: Any) -> str:
    """The kind of the head whose rows it answers with, as our own exports tell it; "" where nothing is told."""
    text = session.get_modelmeta().custom_metadata_map.get("head", "")
    try:
        told = json.loads(text)
    except ValueError:
        return ""
    return str(told.get("kind", "")) if isinstance(told, dict) else ""


def say(**answer: Any) -> None:
    """Print a line of JSON."""
    print(json.dumps(answer), flush=True)


def main() -> None:
    """Open and ask the model on standard input."""
    numpy = importlib.import_module("numpy")
    stream = sys.stdin.buffer
    raw = stream.read(int.from_bytes(stream.read(8), "little"))
    importlib.import_module("onnxruntime")
    limit(len(raw))
    try:
        session = session_of(raw)
        ports = {"inputs": described(session.get_inputs()), "outputs": described(session.get_outputs())}
        say(**ports, head=head_of(session))
        inputs = {}
        for name, (shape, dtype) in json.loads(stream.readline() or b"{}").items():
            inputs[name] = numpy.zeros(shape, dtype)
        if inputs:
            session.run(None, inputs)
        say()
    except Exception as error:
        say(error=" ".join(str(error).split())[:160])


if __name__ == "__main__":
    main()
