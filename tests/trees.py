"""Policies that are one tree, for tests of what runs, reads and refuses them."""

import numpy as np
from sample_graphs import tree_op
from samples import HEADS

from kd_agent.policies.graph import ObservationSpec, Op, PolicyGraph
from kd_agent.policies.head import Array

OBSERVATIONS = {"obs": ObservationSpec((3,), "float32")}


def graph_of(op: Op, kind: str = "categorical") -> PolicyGraph:
    log_std = Op("append", (op.output,), "params", {}, {"value": np.zeros(2, np.float32)})
    return PolicyGraph(OBSERVATIONS, (op, log_std) if HEADS[kind].spec.is_gaussian else (op,), HEADS[kind].spec)


def random_tree(kind: str = "categorical", leaves: int = 12) -> PolicyGraph:
    spec = HEADS[kind].spec
    output = "mean" if spec.is_gaussian else "params"
    return graph_of(tree_op("obs", output, leaves=leaves, features=3, width=spec.num_acting), kind)


def edges(graph: PolicyGraph) -> dict[str, Array]:
    """Observations that lie on thresholds, and their nearest neighbours on either side."""
    thresholds = graph.ops[0].tensors["threshold"]
    near = np.concatenate(
        [thresholds, np.nextafter(thresholds, np.float32(9)), np.nextafter(thresholds, -np.float32(9))]
    )
    return {"obs": np.random.default_rng(0).choice(near, (4000, 3))}
