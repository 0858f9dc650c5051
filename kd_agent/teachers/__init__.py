"""Teachers: anything that can label observations, or several as one. Each plug-in says which sources it accepts."""

from kd_agent.teachers._archive import NotUnderstoodError
from kd_agent.teachers._ensemble import EnsembleTeacher
from kd_agent.teachers._graph_teacher import GraphTeacher
from kd_agent.teachers._keyed_teacher import KeyedTeacher
from kd_agent.teachers._load import load_teacher, recipe_for
from kd_agent.teachers._named import (
    load_named,
    load_one,
    load_recording,
    named_recipe,
    observations_of_student,
    viewing,
)
from kd_agent.teachers._recording import Recording
from kd_agent.teachers._request import asked_by
from kd_agent.teachers._statistics import write_statistics
from kd_agent.teachers._zoo import read_settings
from kd_agent.teachers.recording import RECORDING, RecordedTeacher, environment_of

__all__ = [
    "RECORDING",
    "EnsembleTeacher",
    "GraphTeacher",
    "KeyedTeacher",
    "NotUnderstoodError",
    "RecordedTeacher",
    "Recording",
    "asked_by",
    "environment_of",
    "load_named",
    "load_one",
    "load_recording",
    "load_teacher",
    "named_recipe",
    "observations_of_student",
    "read_settings",
    "recipe_for",
    "viewing",
    "write_statistics",
]
