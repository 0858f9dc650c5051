"""What the numbers of a policy's inputs and outputs mean, for a LEAPP graph: names, ranges, normaliser, layout."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from kd_agent.errors import KDError
from kd_agent.export._onnx import input_name
from kd_agent.export.onnx import MASKS
from kd_agent.policies import PARAMS, Array, HeadSpec, ObservationSpec, Op, PolicyGraph
from kd_agent.policies.names import known_actions, number_names

MAX_TOLD = 256
"""Numbers of a list; longer ones, an image's means say, are in the ONNX file alone, for a graph is read by people."""


def meanings(graph: PolicyGraph) -> dict[str, dict[str, Any]]:
    """What is known of each input and output, by its name in the ONNX file.

    Args:
        graph: The policy.
    """
    head = graph.head
    env_id = str(graph.provenance.get("env", ""))
    normalisers = {op.inputs[0]: op for op in graph.ops if op.kind == "normalise"}
    ranges = _ranges(graph)
    told: dict[str, dict[str, Any]] = {}
    for key, spec in graph.observations.items():
        meaning = _names(number_names(env_id, spec.shape)) | ranges.get(key, {})
        meaning |= _categories(spec)
        if key in normalisers:
            meaning["normalization"] = _normalization(normalisers[key])
        told[input_name(graph, key)] = meaning
    names = known_actions(env_id, head)
    told[PARAMS] = {"distribution": head.kind, **(_names(names) if head.kind == "categorical" else {})}
    told["action"] = _action(head, names)
    for state in graph.states:
        told[f"state.{state}"] = {"description": "memory: zeros where an episode starts, then what came out"}
    if head.expects_masks:
        told[MASKS] = {"description": "which actions are allowed; all true where nothing is forbidden"}
    return told


def _names(names: Iterable[str]) -> dict[str, Any]:
    """Names of the numbers along the axis behind the batch; nothing where none are known."""
    listed = list(names)
    return {"element_names": [listed]} if listed else {}


def _categories(spec: ObservationSpec) -> dict[str, Any]:
    return {"categories": list(spec.categories)} if 0 < len(spec.categories) <= MAX_TOLD else {}


def _action(head: HeadSpec, names: tuple[str, ...]) -> dict[str, Any]:
    """The greedy action: of a Box its bounds in the environment's units, else its choices."""
    if head.is_gaussian:
        return {**_names(names), **_bounds(head.low, head.high)}
    if head.kind == "bernoulli":
        return _names(names)
    choices: dict[str, Any] = {"categories": list(head.nvec), "start": list(head.start)}
    if head.kind == "categorical" and names:
        choices["category_names"] = list(names)
    return choices


def _normalization(op: Op) -> dict[str, Any]:
    """The normaliser, which the model applies: whoever feeds it gives the numbers as the environment does."""
    told: dict[str, Any] = {"applied": "inside the model", "formula": "clip((x - mean) * scale, -clip, clip)"}
    told["clip"] = float(op.attributes["clip"])
    for role in ("mean", "scale"):
        if op.tensors[role].size <= MAX_TOLD:
            told[role] = _listed(op.tensors[role])
    return told


def _ranges(graph: PolicyGraph) -> dict[str, dict[str, Any]]:
    """Bounds of each observation, from the environment that the policy names; none where that is not to be had."""
    try:
        import gymnasium as gym

        from kd_agent.environments import recipe_of_student
        from kd_agent.environments.vector import spaces_of

        space, _ = spaces_of(recipe_of_student(graph, "the policy"))
    except (ImportError, KDError):
        return {}
    parts = dict(space.spaces) if isinstance(space, gym.spaces.Dict) else dict.fromkeys(graph.observations, space)
    ranges: dict[str, dict[str, Any]] = {}
    for key, spec in graph.observations.items():
        part = parts.get(key)
        if isinstance(part, gym.spaces.Box) and part.shape == spec.shape:
            ranges[key] = _bounds(part.low, part.high)
    return ranges


def _bounds(low: Any, high: Any) -> dict[str, Any]:
    """Both ends of a range, null where it is open; nothing where all is, or it is too long to be read."""
    sides = {"low": np.asarray(low, np.float64), "high": np.asarray(high, np.float64)}
    is_open = not any(np.isfinite(side).any() for side in sides.values())
    if is_open or sides["low"].size > MAX_TOLD:
        return {}
    return {name: _listed(side) for name, side in sides.items()}


def _listed(numbers: Array) -> list[float | None]:
    """Numbers in a row, null for what is not finite."""
    return [float(number) if np.isfinite(number) else None for number in np.ravel(numbers)]
