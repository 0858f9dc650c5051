"""A tree policy as text: nested conditions that a person can read, check and write again.

Letters: `N` splits, `A` acting columns of the row.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from kd_agent.errors import KDError
from kd_agent.policies.graph import OBSERVATION, Op, PolicyGraph
from kd_agent.policies.head import Array, HeadSpec
from kd_agent.policies.ops import SPLIT_ROLES, tree_depth

OPS = frozenset({"tree", "append", "flatten", "one_hot", "concatenate"})
"""Kinds of operation that rules are read off; a policy with any other is no tree."""


@dataclass(frozen=True)
class _Column:
    """What a tree splits by: a number of the observation, or whether a part of it names a category."""

    name: str
    category: int | None = None

    def conditions(self, threshold: np.float32) -> tuple[str, str]:
        """The texts of going left and of going right at a threshold."""
        # A one-hot column is 0 or 1: only a threshold between them, as a learner's, tells the two apart.
        if self.category is not None and 0 <= threshold < 1:
            return f"{self.name} != {self.category}", f"{self.name} == {self.category}"
        name = self.name
        if self.category is not None:
            name = f"({self.name} == {self.category})"
        # str() of a float32 is the shortest text that is read as the very same float32.
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
        columns = list(map(_Column, features, [column.category for column in columns]))
    if actions and (graph.head.kind != "categorical" or len(actions) != graph.head.nvec[0]):
        raise KDError(f"{len(actions)} names of actions for a {graph.head.kind} head of {graph.head.num_acting}")
    title = f"# A tree of {len(tree.tensors['value'])} leaves, at most {tree_depth(tree)} comparisons an action."
    lines = _lines(tree, columns, _ends(graph, tree, actions))
    return "\n".join([title, *lines, ""])


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

    def with_those_of(self, other: "_End") -> "_End":
        """Of the leaves of both, which act alike."""
        if self.low is None or self.high is None or other.low is None or other.high is None:
            return self
        return _End(self.action, min(self.low, other.low), max(self.high, other.high))

    def __str__(self) -> str:
        if self.low is None or self.high is None:
            return self.action
        low, high = f"{self.low:.2f}", f"{self.high:.2f}"
        if low == high:
            return f"{self.action} (p {low})"
        return f"{self.action} (p {low} to {high})"


def _tree_of(graph: PolicyGraph) -> Op:
    acting = graph.acting_ops()
    kinds = [op.kind for op in acting]
    if kinds.count("tree") != 1 or not OPS.issuperset(kinds):
        # A dict keeps the order in which the program goes, each kind once.
        listed = ", ".join(dict.fromkeys(kinds))
        raise KDError(f"rules are read off a tree, and this policy is made of {listed}; distil with --student tree")
    return acting[kinds.index("tree")]


def _columns(graph: PolicyGraph, register: str) -> list[_Column]:
    """The columns of what a tree reads, by walking back to the observation."""
    if register in graph.observations:
        return _numbers(register, graph.observations[register].shape)
    [op] = [op for op in graph.ops if op.output == register]
    columns = []
    for name in op.inputs:
        columns += _columns(graph, name)
    if op.kind != "one_hot":
        return columns
    by_category = []
    for column, size in zip(columns, op.attributes["sizes"], strict=True):
        by_category += [_Column(column.name, category) for category in range(int(size))]
    return by_category


def _numbers(key: str, shape: tuple[int, ...]) -> list[_Column]:
    """Each number of one observation."""
    name = _name(key)
    if not shape:
        return [_Column(name)]
    columns = []
    for index in np.ndindex(shape):
        columns.append(_Column(f"{name}[{', '.join(map(str, index))}]"))
    return columns


def _name(key: str) -> str:
    if key == OBSERVATION:
        return "x"
    # A file's strings are a stranger's: escape sequences must not reach a terminal.
    if key.isidentifier() and key.isascii():
        return key
    return ascii(key)


def _ends(graph: PolicyGraph, tree: Op, names: Sequence[str]) -> Mapping[int, _End]:
    """The nodes below which all leaves act alike, from leaves upwards."""
    left, right = tree.tensors["left"].tolist(), tree.tensors["right"].tolist()
    splits = len(left)
    ends = dict(enumerate(_leaves(graph, tree.tensors["value"], names), start=splits))
    # Children come after their split, so backwards they are known before it.
    for node in reversed(range(splits)):
        one, other = ends.get(left[node]), ends.get(right[node])
        if one and other and one.action == other.action:
            ends[node] = one.with_those_of(other)
    return ends


def _leaves(graph: PolicyGraph, value: Array, names: Sequence[str]) -> list[_End]:
    """What each leaf does: its greedy action and, where actions are discrete, the probability of that action."""
    head = graph.head
    texts = [_action(head, action, names) for action in head.greedy(value).reshape(len(value), -1)]
    if head.is_gaussian:
        return [_End(text, None, None) for text in texts]
    p = head.probabilities(value.astype(np.float64))
    # The parts of an action are independent, so their probabilities multiply.
    if head.kind == "bernoulli":
        chances = np.maximum(p, 1 - p).prod(axis=1)
    else:
        chances = np.prod([part.max(axis=1) for part in head.split(p)], axis=0)
    return list(map(_End, texts, chances.tolist(), chances.tolist()))


def _action(head: HeadSpec, action: Array, names: Sequence[str]) -> str:
    """The text of one action `[A]`."""
    if head.is_gaussian:
        return f"action ({', '.join(map('{:.4g}'.format, action))})"
    if head.kind != "categorical":
        return f"action ({', '.join(map(str, action))})"
    if names:
        return names[int(action[0]) - head.start[0]]
    return f"action {action[0]}"


def _lines(tree: Op, columns: Sequence[_Column], ends: Mapping[int, _End]) -> list[str]:
    """Depth first, without recursion: a tree may be a long chain."""
    feature, threshold, left, right = map(tree.tensors.__getitem__, SPLIT_ROLES)
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
        # A stack: what is to be written first is put there last.
        waiting.append((int(right[node]), depth + 1))
        waiting.append(f"{indent}else:  # {no}")
        waiting.append((int(left[node]), depth + 1))
        waiting.append(f"{indent}if {yes}:")
    return lines
