"""Loading a saved student: the one door through which every agent comes in."""

import os
from importlib import import_module

from kd_agent.errors import KDError, unknown
from kd_agent.policies import Policy
from kd_agent.policies import file as graph_file

BACKENDS = ("numpy", "native", "auto")


def load_policy(
    path: str | os.PathLike[str], *, task: str | None = None, seed: int | None = None, backend: str = "numpy"
) -> Policy:
    """Load a saved student.

    Args:
        path: A `student.safetensors` written by kd_agent.
        task: Which task's policy, where the file holds several.
        seed: Seed of the samples drawn by `predict(deterministic=False)`.
        backend: "numpy", which needs nothing else; "native", which compiles the policy once, with the
            system's C compiler, and keeps the library in the user's cache folder; "auto", native where
            that is possible, else NumPy (`policy.backend` says which).

    Raises:
        KDError: The file is missing, damaged, of a newer format, or not a policy; or it holds several tasks,
            and none or an unknown one is named; or `backend` is "native" and there is no compiler.
    """
    if backend not in BACKENDS:
        raise unknown("backend", backend, BACKENDS)
    graph = graph_file.read(path, task)
    if backend == "numpy":
        return Policy(graph, seed)
    try:
        # Late, so that whoever asks for NumPy loads neither the compiler's code nor the C export.
        policy: Policy = import_module("kd_agent.native.policy").NativePolicy(graph, seed)
    except KDError:
        if backend == "native":
            raise
        return Policy(graph, seed)
    return policy
