"""A tree policy as text: nested conditions that a person can read, check and write again.

Letters: `N` splits, `A` acting columns of the row.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from kd_agent.errors import KDError
from kd_agent.policies.graph import OBSERVATION, Op, PolicyGraph
from kd_agent.policies.head import Array
from kd_agent.policies.ops import tree_depth


@dataclass(frozen=True)
class _Column:
    """What a tree splits by: a number of the observation, or whether a part of it names a category."""

    name: str
    category: int | None = None

    def conditions(self, threshold: np.float32) -> tuple[str, str]:
        """The texts of going left and of going right."""
        if self.category is not None and 0 <= threshold < 1:
            return f"{self.name} != {self.category}", f"{self.name} == {self.category}"
        name = self.name if self.category is None else f"({self.name} == {self.category})"
        return f"{name} <= {threshold!s}", f"{name} > {threshold!s}"


def rules(graph: PolicyGraph, features: Sequence[str] = (), actions: Sequence[str] = ()) -> str:
    """The rules of a tree policy, one condition or action a line.

    Where all leaves below a split act alike, it is not written: the probabilities behind an action are
    then the smallest and the largest of those leaves. Thresholds are exact.

    Args:
        graph: The policy.
        features: Names of what it sees, one a number; default: `x[0]`, `x[1]`, ... (a Dict's key instead of x).
        actions: Names of the actions of a Discrete space, from its first; default: `action 0`, ...

    Raises:
        KDError: The policy is no tree, or there are names too many or too few.
    """
    tree = _tree_of(graph)
    columns = _columns(graph, tree.inputs[0])
    if features and len(features) != len(columns):
        raise KDError(f"{len(features)} names for the {len(columns)} numbers that the tree sees")
    if features:
        columns = [_Column(name, column.category) for name, column in zip(features, columns, strict=True)]
    if actions and (graph.head.kind != "categorical" or len(actions) != graph.head.nvec[0]):
        raise KDError(f"{len(actions)} names of actions for a {graph.head.kind} head of {graph.head.num_acting}")
    head = f"# A tree of {len(tree.tensors['value'])} leaves, at most {tree_depth(tree)} comparisons an action."
    return "\n".join([head, *_lines(tree, columns, _ends(graph, tree, actions)), ""])


@dataclass(frozen=True)
class _End:
    """What happens below a node, where all leaves act alike.

    Attributes:
        action: Its text.
        low, high: The probability of the action (None: continuous actions have none).
    """

    action: str
    low: float | None
    high: float | None

    def __str__(self) -> str:
        if self.low is None or self.high is None:
            return self.action
        low, high = f"{self.low:.2f}", f"{self.high:.2f}"
        return f"{self.action} (p {low})" if low == high else f"{self.action} (p {low} to {high})"


def _tree_of(graph: PolicyGraph) -> Op:
    trees = [op for op in graph.acting_ops() if op.kind == "tree"]
    known = {op.kind for op in graph.acting_ops()} <= {"tree", "append", "flatten", "one_hot", "concatenate"}
    if len(trees) != 1 or not known:
        kinds = ", ".join(dict.fromkeys(op.kind for op in graph.acting_ops()))
        raise KDError(f"rules are read off a tree, and this policy is made of {kinds}; distil with --student tree")
    return trees[0]


def _columns(graph: PolicyGraph, register: str) -> list[_Column]:
    """The columns of what a tree reads, by walking back to the observation."""
    if register in graph.observations:
        shape = graph.observations[register].shape
        indices = [", ".join(map(str, index)) for index in np.ndindex(shape)]
        return [_Column(f"{_name(register)}[{index}]" if index else _name(register)) for index in indices]
    op = next(op for op in graph.ops if op.output == register)
    parts = [_columns(graph, name) for name in op.inputs]
    if op.kind != "one_hot":
        return list(itertools.chain(*parts))
    sizes = zip(parts[0], op.attributes["sizes"], strict=True)
    return [_Column(part.name, category) for part, size in sizes for category in range(int(size))]


def _name(key: str) -> str:
    if key == OBSERVATION:
        return "x"
    return key if key.isidentifier() and key.isascii() else ascii(key)


def _ends(graph: PolicyGraph, tree: Op, names: Sequence[str]) -> Mapping[int, _End]:
    """The nodes below which all leaves act alike, from leaves upwards."""
    value, left, right = (tree.tensors[role] for role in ("value", "left", "right"))
    splits = len(left)
    ends = {splits + leaf: end for leaf, end in enumerate(_leaves(graph, value, names))}
    for node in reversed(range(splits)):
        one, other = ends.get(int(left[node])), ends.get(int(right[node]))
        if one and other and one.action == other.action:
            known = [p for p in (one.low, one.high, other.low, other.high) if p is not None]
            ends[node] = _End(one.action, min(known, default=None), max(known, default=None))
    return ends


def _leaves(graph: PolicyGraph, value: Array, names: Sequence[str]) -> list[_End]:
    head = graph.head
    greedy = head.greedy(value).reshape(len(value), -1)
    if head.is_gaussian:
        return [_End(f"action ({', '.join(f'{x:.4g}' for x in row)})", None, None) for row in greedy]
    p = head.probabilities(value.astype(np.float64))
    if head.kind == "bernoulli":
        chances = np.maximum(p, 1 - p).prod(axis=1)
    else:
        chances = np.prod([part.max(axis=1) for part in head.split(p)], axis=0)
    if head.kind == "categorical":
        texts = [names[a - head.start[0]] if names else f"action {a}" for a in greedy[:, 0]]
    else:
        texts = [f"action ({', '.join(map(str, row))})" for row in greedy]
    return [_End(text, float(chance), float(chance)) for text, chance in zip(texts, chances, strict=True)]


def _lines(tree: Op, columns: Sequence[_Column], ends: Mapping[int, _End]) -> list[str]:
    """Depth first, without recursion: a tree may be a long chain."""
    feature, threshold, left, right = (tree.tensors[role] for role in ("feature", "threshold", "left", "right"))
    waiting: list[tuple[int, int] | str] = [(0, 0)]
    lines = []
    while waiting:
        item = waiting.pop()
        if isinstance(item, str):
            lines.append(item)
            continue
        node, depth = item
        indent = "    " * depth
        if node in ends:
            lines.append(f"{indent}{ends[node]}")
            continue
        yes, no = columns[feature[node]].conditions(threshold[node])
        waiting += [(int(right[node]), depth + 1), f"{indent}else:  # {no}",
                    (int(left[node]), depth + 1), f"{indent}if {yes}:"]  # fmt: skip
    return lines
