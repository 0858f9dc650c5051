"""Policies whose weights have few values."""

from dataclasses import replace
from typing import Any

from samples import make_graph

from kd_agent.policies import packed
from kd_agent.policies.graph import PolicyGraph


def on_grid(name: str, kind: str = "categorical", **settings: Any) -> PolicyGraph:
    """A policy whose linear layers are on a grid, by default of 32 and 24 units."""
    graph = make_graph(kind, **{"hidden": (32, 24), **settings})
    ops = []
    for op in graph.ops:
        tensors = dict(op.tensors)
        if op.kind == "linear":
            tensors["weight"] = packed.GRIDS[name](tensors["weight"]).weight
        ops.append(replace(op, tensors=tensors))
    return replace(graph, ops=tuple(ops))
