"""Exports: a policy as a file of another world. The plug-in's name is the format's.

Each plug-in has `write(graph, path, **options)`, which returns the files it wrote, `OPS`, the kinds of
operations it can write, and `SUFFIX`, the suffix of files that stands for it. The graph carries the
normaliser, so no format can forget it.

A plug-in whose files something here can run may have `play(path, graph, steps)` too: it asks the file that
`write` wrote about each of the `Steps` in turn and returns `Played`, the greedy actions and what ran it, or
raises `RuntimeMissingError` where that is not installed. By it a written file is held against the policy it
was written from. `piped` does most of it for a program that reads its standard input. Files of a plug-in without one
are read back as teachers; its `spaces(graph)`, if there is one, says in which spaces.
"""

import inspect
import os
from pathlib import Path
from types import ModuleType
from typing import Any

from kd_agent import plugins
from kd_agent.errors import KDError, unknown
from kd_agent.export._play import Played, RuntimeMissingError, Steps, c_compiler, piped
from kd_agent.policies import Policy, PolicyGraph
from kd_agent.policies import file as graph_file

__all__ = [
    "Played",
    "RuntimeMissingError",
    "Steps",
    "c_compiler",
    "export",
    "format_of",
    "piped",
    "suffixes",
]


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
        to: The format, a plug-in's name; default: the one that the suffix stands for.
        options: The format's own, see `write` of its plug-in.

    Returns:
        The files written.

    Raises:
        KDError: The format is unknown, cannot express the policy, or the file cannot be written.
    """
    target = Path(path)
    name = format_of(target, to)
    plugin = plugins.load("export", name)
    graph = _graph(policy)
    _check_options(plugin, name, options)
    _check_ops(plugin, name, graph)
    # The errors of the first kind are NumPy's and the dictionaries': a program that its own broadcasting allows and
    # flat loops do not. It is refused, never guessed at.
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


def suffixes() -> dict[str, str]:
    """The format that a file's suffix stands for, in the order of the formats' names."""
    known: dict[str, str] = {}
    for name in plugins.names("export"):
        known[plugins.load("export", name).SUFFIX] = name
    return known


def format_of(path: str | os.PathLike[str], to: str | None = None) -> str:
    """The format to write.

    Args:
        path: The file to write.
        to: The format, where it is named; else the one that the suffix stands for.

    Raises:
        KDError: The suffix stands for none.
    """
    if to:
        return to
    known = suffixes()
    suffix = Path(path).suffix
    if suffix not in known:
        raise KDError(f"{path}: name the format (to=...), or use a suffix of {', '.join(known)}")
    return known[suffix]


def _graph(policy: Policy | PolicyGraph | str | os.PathLike[str]) -> PolicyGraph:
    if isinstance(policy, PolicyGraph):
        return policy
    if isinstance(policy, Policy):
        return policy.graph
    return graph_file.read(policy)


def _check_options(plugin: ModuleType, name: str, options: dict[str, Any]) -> None:
    # A format's options are the keyword-only arguments of its `write`, so that no list of them can go stale.
    parameters = inspect.signature(plugin.write).parameters.values()
    known = [parameter.name for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY]
    for option in options:
        if option not in known:
            raise unknown(f"{name} option", option, known)


def _check_ops(plugin: ModuleType, name: str, graph: PolicyGraph) -> None:
    kinds = {op.kind for op in graph.ops}
    lacking = sorted(kinds - plugin.OPS)
    if not lacking:
        return
    able = [other for other in plugins.names("export") if kinds <= plugins.load("export", other).OPS]
    hint = "no format can"
    if able:
        hint = f"formats that can: {', '.join(able)}"
    raise KDError(f"{name} cannot express the operation {lacking[0]!r}; {hint}")
