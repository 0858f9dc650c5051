"""A saved student as the teacher of the next one (re-distillation)."""

import hashlib
from typing import Any

from kd_agent.networks import Origin, check_fits
from kd_agent.policies import file as graph_file
from kd_agent.policies.safe_files import read_capped
from kd_agent.teachers._flax_file import is_tree
from kd_agent.teachers._graph_teacher import GraphTeacher
from kd_agent.teachers._request import Request


def accepts(source: Any) -> bool:
    """Whether this plug-in reads `source`."""
    return isinstance(source, str) and source.endswith(".safetensors") and not is_tree(source)


def load(source: str, request: Request) -> GraphTeacher:
    """Load a student's file; it carries its own statistics.

    Args:
        source: Path of the file.
        request: How it is asked for; of its settings, only the spaces concern a student.

    Raises:
        KDError: The file is missing, damaged or no student, or does not fit the spaces.
    """
    raw = read_capped(source, graph_file.MAX_FILE)
    graph = graph_file.from_bytes(raw, source)
    if request.env:
        check_fits(graph, request.env, source)
    origin = Origin(source, hashlib.sha256(raw).hexdigest(), "student", graph.num_parameters)
    return GraphTeacher(graph, origin)
