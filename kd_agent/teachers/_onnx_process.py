"""The process in which a model is tried (`_onnx_probe`), before it is opened here."""

import contextlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kd_agent.errors import KDError
from kd_agent.teachers._onnx_described import TYPES, Port
from kd_agent.teachers._onnx_probe import MEMORY, SECONDS

_SCRIPT = Path(__file__).with_name("_onnx_probe.py")


class Probe:
    """A model under trial; a context manager that ends the process.

    Args:
        raw: The model's file.
        source: Its name for messages.

    Attributes:
        head: The kind of the head whose rows it answers with; "" until the ports are known, and where it does not say.
    """

    def __init__(self, raw: bytes, source: str) -> None:
        self.head = ""
        self._raw = raw
        self._source = source
        # -P: nothing is imported from the script's folder. What this process can import, the other one can, too.
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        self._process = subprocess.Popen(  # noqa: S603 - our own file
            [sys.executable, "-P", str(_SCRIPT)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
        )
        # Where the system bounds no time, and for what waits instead of computing.
        self._timer = threading.Timer(2 * SECONDS, self._process.kill)

    def __enter__(self) -> "Probe":
        self._timer.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._timer.cancel()
        self._process.kill()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        self._process.wait()

    def ports(self) -> tuple[list[Port], list[Port]]:
        """The model's inputs and outputs.

        Raises:
            KDError: It is no model, or opening it takes too much.
        """
        self._write(len(self._raw).to_bytes(8, "little") + self._raw)
        answer = self._read("is no usable ONNX model")
        self.head = answer["head"]
        return _ports(answer["inputs"]), _ports(answer["outputs"])

    def ask(self, inputs: Mapping[str, tuple[list[int], str]]) -> None:
        """Ask the model once, with zeros.

        Args:
            inputs: Shape and dtype of each.

        Raises:
            KDError: It does not take them, or takes too much for its answer.
        """
        self._write(json.dumps(inputs).encode() + b"\n")
        self._read("does not take these observations")

    def _write(self, raw: bytes) -> None:
        assert self._process.stdin is not None
        # A process that is gone says so by not answering.
        with contextlib.suppress(OSError):
            self._process.stdin.write(raw)
            self._process.stdin.flush()

    def _read(self, failure: str) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise KDError(f"{self._source}: wants more than {MEMORY >> 20} MiB or {SECONDS} s, or ends its process")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise KDError(f"{self._source}: {failure} ({answer['error']})")
        return answer


def _ports(described: list[list[Any]]) -> list[Port]:
    return [Port(name, TYPES.get(kind), tuple(shape)) for name, kind, shape in described]
