"""A saved student as the teacher of the next one (re-distillation)."""

import hashlib
from typing import Any

import gymnasium as gym

from kd_agent import graph_file
from kd_agent.files import read_capped
from kd_agent.policy import GraphTeacher, Origin, check_fits


def accepts(source: Any) -> bool:
    """Whether this plug-in reads `source`."""
    return isinstance(source, str) and source.endswith(".safetensors")


def load(
    source: str,
    *,
    env: tuple[gym.Space[Any], gym.Space[Any]] | None = None,
    statistics: str | None = None,
    allow_missing_statistics: bool = False,
    trust_teacher: bool = False,
) -> GraphTeacher:
    """Load a student's file; it carries its own statistics, so the other arguments change nothing."""
    raw = read_capped(source, graph_file.MAX_FILE)
    graph = graph_file.from_bytes(raw, source)
    if env is not None:
        check_fits(graph, env, source)
    return GraphTeacher(graph, Origin(source, hashlib.sha256(raw).hexdigest(), "student", graph.num_parameters))
