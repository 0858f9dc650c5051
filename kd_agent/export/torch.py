"""torch: a `torch.export` program (`.pt2`), which runs without kd_agent.

    program = torch.export.load("policy.pt2").module()
    params, action = program(observations)  # a policy that plays with action masks: program(observations, masks)

Of a policy that is played by samples, the action is drawn, by torch's own generator. Inside Python, `policy.to_torch()`
is the same as an `nn.Module`.
"""

import io
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from kd_agent.errors import KDError
from kd_agent.export._loops import WRITERS
from kd_agent.export._play import Played, RuntimeMissingError, Steps, all_allowed
from kd_agent.policies import OBSERVATION, PolicyGraph
from kd_agent.policies.safe_files import write_atomically

SUFFIX = ".pt2"
OPS = frozenset(WRITERS)
_DTYPES = {"float64": "float32"}
"""Policies compute in float32; the program takes what they compute with."""


def write(graph: PolicyGraph, path: Path) -> list[Path]:
    """Write the program; its input is a tensor `[B, *O]`, or a dict of such by key.

    Args:
        graph: The policy.
        path: The file.

    Raises:
        KDError: The policy has a memory.
    """
    import torch

    if graph.states:
        raise KDError("a torch program has no memory; use to_torch() and its step(), or onnx, c, javascript")
    # By name: whoever loads the exports for another format need not have torch.
    module = import_module("kd_agent.policies.torch_policy").WithAction(graph).eval()
    batch = torch.export.Dim("batch", min=1)
    example: dict[str, Any] = {}
    shapes: dict[str, Any] = {}
    for key, spec in graph.observations.items():
        # Two observations, since torch takes a batch of one for a constant.
        example[key] = torch.zeros((2, *spec.shape), dtype=getattr(torch, _DTYPES.get(spec.dtype, spec.dtype)))
        shapes[key] = {0: batch}
    if list(example) == [OBSERVATION]:
        example = example[OBSERVATION]
        shapes = shapes[OBSERVATION]
    examples: tuple[Any, ...] = (example,)
    dynamic: tuple[Any, ...] = (shapes,)
    if graph.head.expects_masks:
        # A program has no argument that may be left out: all true allows everything.
        examples += (torch.ones((2, graph.head.num_masks), dtype=torch.bool),)
        dynamic += ({0: batch},)
    program = torch.export.export(module, examples, dynamic_shapes=dynamic)
    buffer = io.BytesIO()
    torch.export.save(program, buffer)
    write_atomically(path, buffer.getvalue())
    return [path]


def play(path: Path, graph: PolicyGraph, steps: Steps) -> Played:
    """Play the program in torch; of one that draws its actions, what it draws from.

    Args:
        path: The file.
        graph: The policy.
        steps: What it is asked about.

    Raises:
        RuntimeMissingError: torch is not installed.
    """
    try:
        import torch
    except ImportError:
        raise RuntimeMissingError("torch is not there") from None
    arguments: list[Any] = [{}]
    for key, spec in graph.observations.items():
        array = np.asarray(steps.observations[key], _DTYPES.get(spec.dtype, spec.dtype))
        arguments[0][key] = torch.from_numpy(array)
    if list(arguments[0]) == [OBSERVATION]:
        arguments[0] = arguments[0][OBSERVATION]
    if graph.head.expects_masks:
        arguments.append(torch.from_numpy(all_allowed(graph, steps)))
    with torch.no_grad():
        params, actions = torch.export.load(path).module()(*arguments)
    if graph.sampled:
        return Played(graph.head.greedy(params.numpy()), "in torch")
    return Played(actions.numpy(), "in torch")
