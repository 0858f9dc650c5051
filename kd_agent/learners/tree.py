"""Fit a decision tree to labelled states: VIPER (Bastani, Pu and Solar-Lezama 2018, algorithm 1).

Letters: `S` states, `F` features, `N` splits, `L` leaves, `A` acting columns, `P` head parameters.
"""

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch

from kd_agent.errors import KDError
from kd_agent.losses import BoundObjective, Objective, default_loss
from kd_agent.networks import ActionHead, PolicyOutput, Softening, Teacher
from kd_agent.policies import MAX_LEAVES, Array, HeadSpec, ObservationSpec
from kd_agent.rollouts import Rollout, aggregate
from kd_agent.settings import DistillConfig
from kd_agent.students import sees_images
from kd_agent.students.tree import Tree

_CERTAIN = 1e-12
_MISSING = "a tree needs the package scikit-learn: pip install 'kd-agent[trees]' (or pip install scikit-learn)"
_EDGE = 1e-2
"""By how much a leaf's logit is made the largest where the mean distribution has another mode."""


def check(config: DistillConfig, seen: Mapping[str, ObservationSpec], teacher: Teacher | None) -> None:
    """Refuse what a tree cannot be.

    Args:
        config: The settings.
        seen: What the student sees.
        teacher: The teacher; None where it is still to be trained.

    Raises:
        KDError: The message says what would fit.
    """
    losses = sorted(name for name, weight in (config.loss or {}).items() if weight)
    fitting = sorted(default_loss(teacher)) if teacher else ["kl", "mse"]
    if teacher and teacher.recurrent:
        raise KDError("a tree has no memory, and the teacher has one; use --student gru")
    if sees_images(seen):
        raise KDError("a tree splits by single numbers, and the student sees images; use --student cnn")
    if losses and not (len(losses) == 1 and losses[0] in fitting):
        raise KDError(
            f"a tree is fitted to the teacher's actions, not by the loss {', '.join(losses)}; leave out --loss"
        )
    for name in ("dropout", "l2"):
        if getattr(config, name):
            raise KDError(f"{name} is for networks, and a tree has no weights; its size is --leaves")
    if config.leaves > MAX_LEAVES:
        raise KDError(f"leaves: a tree has {MAX_LEAVES} at most (got {config.leaves})")
    if find_spec("sklearn") is None:
        raise KDError(_MISSING)


def fit(
    student: Tree,
    rollouts: Sequence[Rollout],
    objective: Objective,
    *,
    steps: int = 0,
    batch_size: int = 0,
    learning_rate: float = 0.0,
    l2: float = 0.0,
    seed: int = 0,
    on_step: Callable[[int, float], None] = lambda step, loss: None,
) -> float:
    """Grow a tree, best split first, until its leaves are spent; the student becomes it.

    Discrete heads: classification of the teacher's greedy action, each state weighted by what acting
    wrongly would cost, `decision_gaps`. A leaf's row is the distribution nearest by KL to those of its
    states, their mean, with the action that the weighted states choose as its mode. Gaussian heads:
    regression of the actions that the means stand for.

    Args:
        student: The tree.
        rollouts: Labelled states.
        objective: What the result is measured by; its temperature softens the teacher's distributions.
        steps: Not needed, and neither are batch_size, learning_rate and l2: a tree is not fitted in steps.
        batch_size: See steps.
        learning_rate: See steps.
        l2: See steps.
        seed: Seed of the order in which features are tried, which decides between equal splits.
        on_step: Called at the end with the mean loss.

    Returns:
        The mean loss over all states.
    """
    data, head = aggregate(rollouts), student.head
    data = {name: array[data["weight"] > 0] for name, array in data.items()}
    observations = {key: data[f"obs.{key}"] for key in student.observations}
    x, params, weight = student.encoded(observations), data["params"], data["weight"].astype(np.float64)
    settings = {"max_leaf_nodes": student.leaves, "random_state": seed % 2**32}
    if head.spec.is_gaussian:
        actions = unit_actions(head.spec, params)
        splits, leaf = _grown(_scikit_learn().DecisionTreeRegressor(**settings), x, actions, weight)
        value = from_unit(head.spec, _means(leaf, actions, weight))
    else:
        actions, cost = choices(head.spec, params), weight * decision_gaps(head.spec, params) + _CERTAIN
        splits, leaf = _grown(_scikit_learn().DecisionTreeClassifier(**settings), x, actions, cost)
        value = _logits(
            head, _means(leaf, _probabilities(head, params, objective.softening), weight), objective.softening
        )
        value = with_modes(head.spec, value, _winners(leaf, actions, cost, head.spec.nvec))
    log_std = np.average(params[:, head.spec.num_acting :], axis=0, weights=weight)
    student.become(_with_split({**splits, "value": value.astype(np.float32)}), log_std.astype(np.float32))
    loss = float(np.average(_losses(student, observations, params, objective), weights=weight))
    on_step(0, loss)
    return loss


def decision_gaps(head: HeadSpec, params: Array) -> Array:
    """What acting wrongly costs in each state, `l(s) = V(s) - min_a Q(s, a)`, `[S]`.

    Value-based teachers' rows are their Q. For the others Q is the log-probability, as the paper has it for
    policy gradients (it is so, up to a constant, for a policy of maximum entropy); several parts of an
    action are independent, so that theirs add up.
    """
    if head.kind == "bernoulli":
        return np.asarray(np.abs(params).sum(axis=1))
    return np.asarray(np.sum([np.ptp(part, axis=1) for part in head.split(params)], axis=0))


def choices(head: HeadSpec, params: Array) -> Array:
    """The greedy category of each part, counted from 0, `[S, parts]`."""
    actions = head.greedy(params).reshape(len(params), -1).astype(np.int64)
    return np.asarray(actions - np.asarray(head.start or 0, np.int64))


def unit_actions(head: HeadSpec, params: Array) -> Array:
    """What a Gaussian's means `[S, A]` do: tanh, or clipped to the Box and in its half-widths, as the loss "mse"."""
    mean = params[:, : head.num_acting].astype(np.float64)
    if head.kind == "squashed_gaussian":
        return np.asarray(np.tanh(mean))
    return np.asarray(np.clip(mean, head.low, head.high) / _unit(head))


def from_unit(head: HeadSpec, actions: Array) -> Array:
    """Inverse of `unit_actions`."""
    if head.kind == "squashed_gaussian":
        return np.asarray(np.arctanh(np.clip(actions, -1 + 1e-6, 1 - 1e-6)))
    return np.asarray(actions * _unit(head))


def with_modes(head: HeadSpec, logits: Array, modes: Array) -> Array:
    """Logits `[L, P]` whose greedy action is `modes [L, parts]`: where it is another, that category's is raised."""
    logits, rows = logits.copy(), np.arange(len(logits))
    if head.kind == "bernoulli":
        return np.where((logits > 0) == (modes > 0), logits, np.where(modes > 0, _EDGE, -_EDGE))
    for part, mode in zip(head.split(logits), modes.T, strict=True):  # the parts are views
        wrong = part.argmax(axis=1) != mode
        part[rows[wrong], mode[wrong]] = part.max(axis=1)[wrong] + _EDGE
    return logits


def _unit(head: HeadSpec) -> Array:
    half = (np.asarray(head.high) - np.asarray(head.low)) / 2
    return np.where(np.isfinite(half), half, 1.0)


def _grown(model: Any, x: Array, actions: Array, cost: Array) -> tuple[dict[str, Array], Array]:
    """Fit to `x [S, F]`: the splits, and the leaf `[S]` of each state.

    scikit-learn compares float32 with float64 thresholds; rounded down to float32 these say the same.
    """
    tree = model.fit(x, actions, sample_weight=cost).tree_
    inner = tree.children_left >= 0
    splits = int(inner.sum())
    index = np.where(inner, np.cumsum(inner) - 1, splits + np.cumsum(~inner) - 1).astype(np.int32)
    threshold = tree.threshold[inner].astype(np.float32)
    threshold = np.where(threshold > tree.threshold[inner], np.nextafter(threshold, np.float32(-np.inf)), threshold)
    left, right = (index[children[inner]] for children in (tree.children_left, tree.children_right))
    feature = tree.feature[inner].astype(np.int32)
    return {"feature": feature, "threshold": threshold, "left": left, "right": right}, index[model.apply(x)] - splits


def _scikit_learn() -> Any:
    try:
        return import_module("sklearn.tree")
    except ModuleNotFoundError:
        raise KDError(_MISSING) from None


def _with_split(tree: dict[str, Array]) -> dict[str, Array]:
    """The tree; where it is a single leaf, a split whose two leaves are that one."""
    if len(tree["feature"]):
        return tree
    ends = {"left": np.array([1], np.int32), "right": np.array([2], np.int32)}
    split = {"feature": np.zeros(1, np.int32), "threshold": np.zeros(1, np.float32)}
    return {**split, **ends, "value": np.repeat(tree["value"], 2, axis=0)}


def _means(leaf: Array, columns: Array, weight: Array) -> Array:
    """Weighted mean in each leaf of `columns [S, C]`, `[L, C]`."""
    sums = np.stack([np.bincount(leaf, weight * column) for column in columns.T], axis=1)
    return np.asarray(sums / np.bincount(leaf, weight)[:, None])


def _winners(leaf: Array, actions: Array, cost: Array, nvec: Sequence[int]) -> Array:
    """The category of each part that has the most weight in a leaf, `[L, parts]`."""
    count = leaf.max() + 1
    return np.stack([
        np.argmax([np.bincount(leaf, cost * (part == category), count) for category in range(n)], axis=0)
        for part, n in zip(actions.T, nvec, strict=True)
    ], axis=1)  # fmt: skip


def _probabilities(head: ActionHead, params: Array, softening: Softening) -> Array:
    """The teacher's softened probabilities `[S, P]`."""
    return head.spec.probabilities(head.soften(torch.from_numpy(params), softening.temperature).double().numpy())


def _logits(head: ActionHead, probabilities: Array, softening: Softening) -> Array:
    """Logits `[L, P]` of these probabilities, once softened, if the convention softens the student too."""
    p = np.clip(probabilities, _CERTAIN, 1 - _CERTAIN)
    logits = np.log(p) - np.log1p(-p) if head.kind == "bernoulli" else np.log(p)
    return np.asarray(logits * (softening.temperature if softening.convention == "hinton" else 1.0))


def _losses(student: Tree, observations: Mapping[str, Array], params: Array, objective: Objective) -> Array:
    """The objective in each state, `[S]`."""
    output = student({key: torch.from_numpy(array) for key, array in observations.items()})
    labels = PolicyOutput(torch.from_numpy(params))
    losses: Array = BoundObjective(objective, student.head, output, labels, None)(output, labels).detach().numpy()
    return losses
