"""A policy as a program over named arrays: what it is, its file, and what runs it (NumPy; torch where asked for)."""

from kd_agent.policies.graph import (
    ACTIVATIONS,
    OBSERVATION,
    PARAMS,
    PLAY,
    SAMPLED,
    ObservationSpec,
    Op,
    PolicyGraph,
    compile_ops,
    following,
)
from kd_agent.policies.head import MASKED, Array, HeadSpec
from kd_agent.policies.multitask_graph import MAX_TASKS, Task, TaskGraph
from kd_agent.policies.normalizer import Normalizer
from kd_agent.policies.ops import MAX_LEAVES
from kd_agent.policies.policy import Observation, Policy

__all__ = [
    "ACTIVATIONS",
    "MASKED",
    "MAX_LEAVES",
    "MAX_TASKS",
    "OBSERVATION",
    "PARAMS",
    "PLAY",
    "SAMPLED",
    "Array",
    "HeadSpec",
    "Normalizer",
    "Observation",
    "ObservationSpec",
    "Op",
    "Policy",
    "PolicyGraph",
    "Task",
    "TaskGraph",
    "compile_ops",
    "following",
]
