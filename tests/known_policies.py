"""Policies whose explanation is known, because their weights were chosen."""

from typing import Any

import numpy as np
from samples import HEADS, PROBES

from kd_agent.environments.recipe import Recipe, recipe_of
from kd_agent.explanations.visited_states import VisitedStates, visit
from kd_agent.networks.base import Origin
from kd_agent.policies.graph import ObservationSpec, Op, PolicyGraph
from kd_agent.policies.head import HeadSpec
from kd_agent.policies.policy import Policy
from kd_agent.teachers import GraphTeacher

FOUR = {"obs": ObservationSpec((4,), "float32")}
RECIPE = recipe_of(PROBES["Discrete"])


def quiet(done: int, **figures: float) -> None:
    """Shows nothing."""


def linear(source: str, output: str, weight: Any, bias: Any = None) -> Op:
    w = np.asarray(weight, np.float32)
    return Op("linear", (source,), output, {}, {"weight": w, "bias": np.zeros(len(w), "f") if bias is None else bias})


def graph_of(weight: Any, head: HeadSpec | None = None, bias: Any = None) -> PolicyGraph:
    """A policy whose row is linear in the observation."""
    return PolicyGraph(FOUR, (linear("obs", "params", weight, bias),), head or HEADS["categorical"].spec)


def teacher_of(graph: PolicyGraph) -> GraphTeacher:
    return GraphTeacher(graph, Origin("t.safetensors", "0" * 64, "known", graph.num_parameters))


def visited_by(teacher: GraphTeacher, student: Policy, recipe: Recipe = RECIPE, states: int = 3200) -> VisitedStates:
    return visit(teacher, student, recipe, states=states, seed=0, advance=quiet)
