"""How a written policy is played in its own runtime: what a format's `play` takes and gives, and programs that do it.

Letters: `B` steps, `M` flags of an action mask, `*O` shape of an observation.
"""

import importlib.util
import math
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kd_agent.errors import KDError
from kd_agent.policies import Array, PolicyGraph

_COMPILERS = ("cc", "gcc", "clang")
_TIMEOUT = 120
"""Seconds that a compiler or a program may take; one that hangs must not hang the command."""


@dataclass(frozen=True)
class Steps:
    """Steps that a policy is asked about, one after the other.

    Attributes:
        observations: What is observed, `[B, *O]` by key.
        starts: Whether each is the first of its episode, `[B]`: there a memory is zeros.
        masks: What is allowed, flags `[B, M]`; None: everything.
    """

    observations: Mapping[str, Array]
    starts: Array
    masks: Array | None = None


@dataclass(frozen=True)
class Played:
    """What a file answered.

    Attributes:
        actions: Its greedy actions, one row a step, in the environment's units.
        runtime: What ran it, as the end of a sentence: "in node".
    """

    actions: Array
    runtime: str


class RuntimeMissingError(KDError):
    """What would run a file is not installed; the message says what."""


def program(name: str) -> str:
    """The path of an installed program.

    Raises:
        RuntimeMissingError: There is none of that name.
    """
    found = shutil.which(name)
    if found is None:
        raise RuntimeMissingError(f"{name} is not there")
    return found


def c_compiler() -> list[str]:
    """The command of the system's C compiler, or of pip's ziglang.

    Raises:
        RuntimeMissingError: There is neither.
    """
    for name in _COMPILERS:
        found = shutil.which(name)
        if found:
            return [found]
    if importlib.util.find_spec("ziglang"):
        return [sys.executable, "-m", "ziglang", "cc"]
    looked_for = ", ".join(_COMPILERS)
    raise RuntimeMissingError(f"no C compiler found (looked for {looked_for} and the Python package ziglang)")


def ran(command: Sequence[str | Path], sent: bytes = b"", folder: Path | None = None) -> bytes:
    """What a program writes to its standard output.

    Args:
        command: The program and its arguments; no shell reads them.
        sent: Its standard input.
        folder: Where it works; default: here.

    Raises:
        KDError: It fails, or hangs.
    """
    words = list(map(str, command))
    name = Path(words[0]).name
    try:
        done = subprocess.run(  # noqa: S603
            words, input=sent, capture_output=True, timeout=_TIMEOUT, check=False, cwd=folder
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise KDError(f"{name} could not be run: {error}") from None
    if done.returncode:
        lines = done.stderr.decode(errors="replace").split("\n")
        errors = [line.strip() for line in lines if "error" in line.lower()] or ["no message"]
        raise KDError(f"{name} failed: {errors[0][:200]}")
    return done.stdout


def piped(command: Sequence[str | Path], graph: PolicyGraph, steps: Steps) -> Array:
    """Actions `[B, numbers of an action]` of a program that is told every step on its standard input.

    A step is a row of float32: 1 where an episode starts (else 0), the observation, key after key, and as many flags
    as a mask has, where the policy plays with masks. The program writes the action of each as float64.

    Args:
        command: The program and its arguments.
        graph: The policy that it plays.
        steps: What it is asked about.

    Raises:
        KDError: It fails, or its answers are too few.
    """
    batch = len(steps.starts)
    answers = np.frombuffer(ran(command, told(graph, steps).tobytes()), np.float64)
    size = math.prod(graph.head.shape)
    if answers.size != batch * size:
        raise KDError(f"{Path(command[0]).name} answered with {answers.size} numbers, expected {batch * size}")
    return answers.reshape(batch, size)


def by_node(main: str, arguments: Sequence[str], graph: PolicyGraph, steps: Steps) -> Played:
    """What Node answers, as `piped` has it.

    Args:
        main: The text of the module that asks.
        arguments: What that is told.
        graph: The policy.
        steps: What it is asked about.

    Raises:
        RuntimeMissingError: Node is not there.
        KDError: It fails.
    """
    node = program("node")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "main.mjs"
        file.write_text(main)
        actions = piped([node, file, *arguments], graph, steps)
    return Played(actions, "in node")


def told(graph: PolicyGraph, steps: Steps) -> Array:
    """What a program is told, a row of float32 a step, as `piped` has it.

    Args:
        graph: The policy.
        steps: What it is asked about.
    """
    columns = [steps.starts.astype(np.float32)[:, None]]
    for key in graph.observations:
        columns.append(np.asarray(steps.observations[key], np.float32).reshape(len(steps.starts), -1))
    if graph.head.expects_masks:
        columns.append(all_allowed(graph, steps).astype(np.float32))
    return np.ascontiguousarray(np.concatenate(columns, axis=1))


def all_allowed(graph: PolicyGraph, steps: Steps) -> Array:
    """The steps' masks `[B, M]`: all true where nothing is forbidden.

    Args:
        graph: The policy.
        steps: What it is asked about.
    """
    if steps.masks is None:
        return np.ones((len(steps.starts), graph.head.num_masks), bool)
    return steps.masks
