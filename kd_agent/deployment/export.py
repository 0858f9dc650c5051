"""The door out: any agent becomes a file of another world."""

import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kd_agent.export import export as write
from kd_agent.export import format_of
from kd_agent.policies import Policy, PolicyGraph
from kd_agent.policies import file as graph_file

if TYPE_CHECKING:
    from kd_agent.settings import ExportConfig

_OPTIONS = ("board", "int8", "opset", "prefix", "vecnormalize")
"""Settings that are a format's own."""


def export(
    agent: Any,
    path: str | os.PathLike[str],
    to: str | None = None,
    *,
    env: str | None = None,
    task: str | None = None,
    **options: Any,
) -> list[Path]:
    """Write an agent in another format, everything that decides its actions inside.

    Args:
        agent: A policy, its graph, a teacher, or anything that `load_teacher` takes: the path of a saved student, of
            a Stable-Baselines3 zip, of an RL Zoo folder, of an ONNX file, an agent of Stable-Baselines3.
        path: The file to write (C writes its header beside it).
        to: The format, a plug-in's name; default: the one that the suffix stands for.
        env: Gymnasium id of its environment, `module:Id` too; default: the one that the agent names.
        task: Which task's policy, where a saved student holds several.
        options: The format's own, see `write` of its plug-in.

    Returns:
        The files written.

    Raises:
        KDError: The agent cannot be read as a program, the format is unknown or cannot express it, or the file
            cannot be written.
    """
    if env is None and isinstance(agent, Policy | PolicyGraph):
        return write(agent, path, to, **options)
    if env is None and str(agent).endswith(".safetensors"):
        return write(graph_file.read(agent, task), path, to, **options)
    # Late: whoever writes a student's file needs no torch.
    agents = import_module("kd_agent.deployment.agents")
    read = agents.read_agent(agent, agents.Reading(env=env, task=task))
    return write(read.graph, path, to, **options)


@dataclass(frozen=True)
class Line:
    """What the command says.

    Attributes:
        text: A file that was written, or how it compares with its agent.
        holds: Whether all is as it should be.
    """

    text: str
    holds: bool = True


def export_file(config: "ExportConfig") -> Iterator[Line]:
    """Write an agent as the settings have it, and play the file where the agent has been.

    Args:
        config: The settings.

    Raises:
        KDError: As by `export`; or the file cannot be played although its runtime is there.
    """
    # Each format knows some of them, and says so of the others: what was not asked for is not handed on.
    options: dict[str, Any] = {}
    for name in _OPTIONS:
        value = getattr(config, name)
        if value is not None and value is not False:
            options[name] = value
    if not config.check and _is_plain_student(config):
        yield from _written(export(config.source, config.out, config.to, task=config.task, **options))
        return
    agents = import_module("kd_agent.deployment.agents")
    agent = agents.read_agent(config.source, agents.Reading.of(config))
    files = write(agent.graph, config.out, config.to, **options)
    yield from _written(files)
    if not config.check:
        return
    if agent.reason:
        warnings.warn(f"checked on random observations: {agent.reason}", stacklevel=2)
    walked = import_module("kd_agent.deployment.walk").walk(agent)
    to = format_of(config.out, config.to)
    found = import_module("kd_agent.deployment.parity").compare(agent, files[0], to, walked)
    hint = ""
    if to == "sb3" and not found.holds and not config.vecnormalize:
        hint = " (--vecnormalize is exact also where the normaliser clips)"
    # Weights of 8 bits act otherwise here and there, and whoever asks for them knows it.
    yield Line(f"{found}{hint}", found.holds or config.int8)


def _is_plain_student(config: "ExportConfig") -> bool:
    """Whether a source is a student's file of which nothing else is told, so that nothing but NumPy is needed."""
    told = [config.env, config.env_kwargs, config.wrapper, config.statistics, config.allow_missing_statistics]
    told += [config.teacher_activation, config.teacher_squash]
    return config.source.endswith(".safetensors") and not any(told)


def _written(files: list[Path]) -> Iterator[Line]:
    for path in files:
        yield Line(str(path))
