"""Exports: a policy as a file of another world. The plug-in's name is the format's.

Each plug-in has `write(graph, path, **options)`, which returns the files it wrote, and `OPS`, the
kinds of operations it can write. The graph carries the normaliser, so no format can forget it.
"""

import inspect
import os
from pathlib import Path
from types import ModuleType
from typing import Any

from kd_agent import plugins
from kd_agent.errors import KDError, unknown
from kd_agent.policies import Policy, PolicyGraph
from kd_agent.policies import file as graph_file

SUFFIXES = {".onnx": "onnx", ".c": "c", ".mjs": "javascript", ".zip": "sb3", ".pt2": "torch"}
"""The format that a file's suffix stands for."""


def export(
    policy: Policy | PolicyGraph | str | os.PathLike[str],
    path: str | os.PathLike[str],
    to: str | None = None,
    **options: Any,
) -> list[Path]:
    """Write a policy in another format.

    Args:
        policy: A policy, its graph, or the path of a saved student.
        path: The file to write (C writes its header beside it).
        to: The format: onnx, c, javascript, sb3 or torch; default: what the suffix stands for.
        options: The format's own, see `write` of its plug-in.

    Returns:
        The files written.

    Raises:
        KDError: The format is unknown, cannot express the policy, or the file cannot be written.
    """
    target = Path(path)
    name = to or _inferred(target)
    plugin = plugins.load("export", name)
    graph = _graph(policy)
    _check_options(plugin, name, options)
    _check_ops(plugin, name, graph)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        written: list[Path] = plugin.write(graph, target, **options)
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:
        raise KDError(f"the policy's operations cannot be written as {name}: {error!r}") from error
    except OSError as error:
        raise KDError(f"{error.filename or target}: cannot be written ({error.strerror or error})") from None
    except ModuleNotFoundError as error:
        raise KDError(f"exporting to {name} needs the package {error.name!r}: pip install {error.name}") from None
    return written


def _inferred(path: Path) -> str:
    if path.suffix not in SUFFIXES:
        raise KDError(f"{path}: name the format (to=...), or use a suffix of {', '.join(SUFFIXES)}")
    return SUFFIXES[path.suffix]


def _graph(policy: Policy | PolicyGraph | str | os.PathLike[str]) -> PolicyGraph:
    if isinstance(policy, PolicyGraph):
        return policy
    return policy.graph if isinstance(policy, Policy) else graph_file.read(policy)


def _check_options(plugin: ModuleType, name: str, options: dict[str, Any]) -> None:
    known = [k for k, p in inspect.signature(plugin.write).parameters.items() if p.kind is p.KEYWORD_ONLY]
    for option in options:
        if option not in known:
            raise unknown(f"{name} option", option, known)


def _check_ops(plugin: ModuleType, name: str, graph: PolicyGraph) -> None:
    kinds = {op.kind for op in graph.ops}
    if lacking := sorted(kinds - plugin.OPS):
        able = [other for other in plugins.names("export") if kinds <= plugins.load("export", other).OPS]
        hint = f"formats that can: {', '.join(able)}" if able else "no format can"
        raise KDError(f"{name} cannot express the operation {lacking[0]!r}; {hint}")
