"""Policies that are played by samples, and how likely it is that actions were drawn from a row of head parameters."""

from functools import reduce
from typing import Any

import numpy as np
from masked_agents import masked_graph
from samples import make_graph
from scipy.special import ndtri
from scipy.stats import chisquare

from kd_agent.policies.graph import PolicyGraph
from kd_agent.policies.head import HeadSpec
from kd_agent.policies.policy import Policy

SAMPLED = {"env": "CartPole-v1", "play": "sampled"}
"""A provenance that says so."""
DRAWS = 4_000
OBSERVATION = np.float32([0.1, -0.2, 0.3, 0.4])
_QUANTILES = np.arange(1, 6) / 6
"""Of a Gaussian, between whose values actions are counted."""
_RARE = 5
"""Actions expected of a cell at least, for the statistic to have its distribution (Cochran 1954)."""


def sampled_graph(kind: str = "categorical", **settings: Any) -> PolicyGraph:
    """The program of a small student that is played by samples."""
    return make_graph(kind, SAMPLED, **settings)


def sampled_masked_graph(kind: str, student: str = "mlp") -> PolicyGraph:
    """One that is played with masks too."""
    graph = masked_graph(kind, student)
    return PolicyGraph(graph.observations, graph.ops, graph.head, SAMPLED, graph.states)


def row_of(graph: PolicyGraph, mask: Any = None) -> np.ndarray:
    """What a policy says of `OBSERVATION`, `[P]`."""
    row: np.ndarray = Policy(graph).params(OBSERVATION, mask)[0]
    return row


def chance(head: HeadSpec, row: np.ndarray, actions: Any) -> float:
    """How likely actions `[n, *A]` drawn from a row `[P]` are to be as far from it as these: Pearson's test."""
    flat = np.asarray(actions).reshape(len(actions), -1)
    cells, shares = [], []
    for part, column in enumerate(flat.T):
        cell, share = _gaussian(head, row, column, part) if head.is_gaussian else _listed(head, row, column, part)
        cells.append(cell)
        shares.append(share)
    expected = len(flat) * reduce(np.multiply.outer, shares).ravel()
    counts = np.bincount(np.ravel_multi_index(cells, [len(share) for share in shares]), minlength=len(expected))
    assert not counts[expected < 1e-9].any(), "an action that is impossible was drawn"
    common = expected >= _RARE
    rest = [counts[~common].sum()], [expected[~common].sum()]
    if rest[1][0] < _RARE:
        rest = [], []
    found, wanted = np.append(counts[common], rest[0]), np.append(expected[common], rest[1])
    return float(chisquare(found, wanted * found.sum() / wanted.sum()).pvalue)


def _listed(head: HeadSpec, row: np.ndarray, column: np.ndarray, part: int) -> tuple[np.ndarray, np.ndarray]:
    """Cell of each action of a part, and the cells' probabilities."""
    share = head.probabilities(row[None].astype(np.float64))
    if head.kind == "bernoulli":
        return column.astype(int), np.array([1 - share[0, part], share[0, part]])
    return column.astype(int) - head.start[part], head.split(share)[part][0]


def _gaussian(head: HeadSpec, row: np.ndarray, column: np.ndarray, part: int) -> tuple[np.ndarray, np.ndarray]:
    mean, log_std = np.split(row.astype(np.float64), 2)
    latent = mean + np.exp(log_std) * ndtri(_QUANTILES)[:, None]
    edges = head.to_box(latent)[:, part]
    # Where the Box cuts a quantile off, what lies beyond is at its bound, with the cell before or after.
    inside = (head.low[part] < edges) & (edges < head.high[part])
    share = np.diff(np.concatenate([[0], _QUANTILES[inside], [1]]))
    return np.searchsorted(edges[inside], column), share
