"""Actions drawn by generated C, called from here."""

import ctypes
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
from draws import DRAWS, OBSERVATION
from exported import STRICT, needs

from kd_agent import export
from kd_agent.policies.graph import PolicyGraph


class InC:
    """A policy without a memory in C, compiled strictly and called from here; its generator goes on from call to call.

    Attributes:
        state: Of the generator.
    """

    def __init__(self, graph: PolicyGraph, folder: Path, file: str = "policy.c", **options: Any) -> None:
        needs("gcc")
        export(graph, folder / Path(file).parts[0], **options)
        command = ["gcc", *STRICT, "-shared", "-fPIC", file, "-o", "policy.so"]
        subprocess.run(command, cwd=folder, check=True)
        self._library = ctypes.CDLL(str(folder / "policy.so"))
        self._head = graph.head
        self.state = ctypes.c_uint32(1)

    def draw(self, observation: Any, mask: Any = None) -> Any:
        """One action, flat."""
        arguments = [_pointer(np.asarray(observation, np.float32))]
        if self._head.expects_masks:
            arguments.append(_pointer(np.asarray(mask, np.uint8)))
        if self._head.kind == "categorical":
            return self._library.kd_sample(*arguments, ctypes.byref(self.state))
        action = np.empty(self._head.shape, np.float32)
        self._library.kd_sample(*arguments, _pointer(action), ctypes.byref(self.state))
        return action

    def params(self, observation: Any) -> np.ndarray:
        row = np.empty(self._head.num_params, np.float32)
        self._library.kd_params(_pointer(np.asarray(observation, np.float32)), _pointer(row))
        return row

    def predict(self, observation: Any, state: Any = None, starts: Any = None, deterministic: bool = False) -> Any:
        """As Stable-Baselines3 has it, for an evaluation."""
        assert not deterministic
        return np.array([self.draw(one) for one in observation]), None


def _pointer(array: np.ndarray) -> Any:
    return array.ctypes.data_as(ctypes.c_void_p)


def by_c(graph: PolicyGraph, mask: Any, folder: Path) -> Any:
    policy = InC(graph, folder)
    return [policy.draw(OBSERVATION, mask) for _ in range(DRAWS)]


def by_arduino(graph: PolicyGraph, mask: Any, folder: Path) -> Any:
    policy = InC(graph, folder, "policy.arduino/src/policy.c")
    return [policy.draw(OBSERVATION, mask) for _ in range(DRAWS)]
