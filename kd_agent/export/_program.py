"""What an export needs to know of a graph: shapes, and which operations the greedy action needs.

Letters: `A` acting columns of the row, `P` all of them.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from kd_agent.errors import KDError
from kd_agent.policies import PARAMS, Array, Op, PolicyGraph, following
from kd_agent.policies.names import known_actions, number_names


@dataclass(frozen=True)
class Program:
    """A graph, analysed.

    Attributes:
        graph: The graph.
        shapes: Shape of one observation's array in each register (no batch).
        acting: Operations that the greedy action, or the memory, depends on.
        rest: The others, which only `params` needs (log standard deviations).
        row: The register whose `A` leading columns decide the greedy action.
    """

    graph: PolicyGraph
    shapes: Mapping[str, tuple[int, ...]]
    acting: tuple[Op, ...]
    rest: tuple[Op, ...]
    row: str

    def size(self, register: str) -> int:
        """Numbers in a register."""
        return math.prod(self.shapes[register])

    @property
    def observed(self) -> int:
        """Numbers of an observation."""
        return sum(map(self.size, self.graph.observations))

    @property
    def remembered(self) -> int:
        """Numbers of the memory; 0 where there is none."""
        return sum(map(self.size, self.graph.states))

    def layout(self) -> list[str]:
        """What lies where in the flat array of an observation, and what numbers and actions are called, a line each.

        Names are those of the environment's documentation; an environment that is not known has none.
        """
        env_id = str(self.graph.provenance.get("env", ""))
        lines: list[str] = []
        offset = 0
        for key, spec in self.graph.observations.items():
            size = self.size(key)
            shape = " x ".join(map(str, spec.shape)) or "1"
            lines.append(f"obs[{offset}..{offset + size - 1}]: {plain(key)}, {shape}")
            for index, name in enumerate(number_names(env_id, spec.shape), offset):
                lines.append(f"obs[{index}]: {name}")
            offset += size
        head = self.graph.head
        label = "action[{}]"
        first = 0
        if head.kind == "categorical":
            label = "action {}"
            first = head.start[0]
        for index, name in enumerate(known_actions(env_id, head), first):
            lines.append(f"{label.format(index)}: {name}")
        return lines


def analyse(graph: PolicyGraph) -> Program:
    """Shapes by a dry run on zeros, and the acting part by walking backwards."""
    shapes = _shapes(graph)
    row = _row(graph, shapes)
    needed = {row, *map(following, graph.states)}
    acting: list[Op] = []
    for op in reversed(graph.ops):
        if op.output in needed:
            acting.insert(0, op)
            needed |= set(op.inputs)
    rest = tuple(op for op in graph.ops if op.output not in needed)
    return Program(graph, shapes, tuple(acting), rest, row)


def _shapes(graph: PolicyGraph) -> dict[str, tuple[int, ...]]:
    """Shape of each register, without the batch."""
    observations = {key: np.zeros((1, *spec.shape), spec.dtype) for key, spec in graph.observations.items()}
    registers = graph.compile()(observations | graph.memory(1))
    shapes: dict[str, tuple[int, ...]] = {}
    for name, array in registers.items():
        # C has no arrays of length 0.
        if not array.size:
            raise KDError("an operation of the policy writes nothing")
        shapes[name] = array.shape[1:]
    return shapes


def _row(graph: PolicyGraph, shapes: Mapping[str, tuple[int, ...]]) -> str:
    # A greedy Gaussian acts by its means alone; where the program joins log standard deviations to them at its very
    # end, `act` need not compute these.
    last = next(op for op in graph.ops if op.output == PARAMS)
    if graph.head.is_gaussian and last.kind in ("append", "concatenate"):
        means = last.inputs[0]
        if shapes[means] == (graph.head.num_acting,):
            return means
    return PARAMS


def transposed(weight: Array) -> Array:
    """`weight [out, ...]` as `[..., out]`, contiguous: neighbouring outputs lie side by side."""
    return np.ascontiguousarray(np.moveaxis(weight, 0, -1))


def environment_of(graph: PolicyGraph) -> str:
    """The id of a policy's environment, plain, as a text calls it."""
    return plain(graph.provenance.get("env") or "an unnamed environment")


def plain(text: object, limit: int = 60) -> str:
    """Text from a file that is safe inside a comment or a literal of any language.

    Args:
        text: Anything, by whoever made the file.
        limit: Characters of it that are kept.
    """
    # Letters, digits and these six: none opens or closes a comment or a literal, none begins an escape or a trigraph.
    # (A slash does nothing without an asterisk or a second one, and the comments that hold this text are open.)
    return re.sub(r"[^A-Za-z0-9 _.:/-]", "_", str(text))[:limit]
