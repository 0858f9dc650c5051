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
from kd_agent.learners._leaves import CERTAIN, allowed_means, decision_gaps, leaf_logits, means, winners, with_modes
from kd_agent.losses import BoundObjective, Objective, default_loss
from kd_agent.networks import ActionHead, PolicyOutput, Softening, Teacher
from kd_agent.policies import MAX_LEAVES, Array, HeadSpec, ObservationSpec
from kd_agent.rollouts import Rollout, aggregate
from kd_agent.settings import DistillConfig
from kd_agent.students import sees_images
from kd_agent.students.tree import Tree

_MISSING = "a tree needs the package scikit-learn: pip install scikit-learn"


def check(config: DistillConfig, observed: Mapping[str, ObservationSpec], teacher: Teacher | None) -> None:
    """Refuse what a tree cannot be.

    Args:
        config: The settings.
        observed: What the student sees of an observation, by key.
        teacher: The teacher; None where it is still to be trained.

    Raises:
        KDError: The message says what would fit.
    """
    if teacher and teacher.recurrent:
        raise KDError("a tree has no memory, and the teacher has one; use --student gru")
    if sees_images(observed):
        raise KDError("a tree splits by single numbers, and the student sees images; use --student cnn")
    _check_loss(config, teacher)
    for name in ("dropout", "l2"):
        if getattr(config, name):
            raise KDError(f"{name} is for networks, and a tree has no weights; its size is --leaves")
    if config.leaves > MAX_LEAVES:
        raise KDError(f"leaves: a tree has {MAX_LEAVES} at most (got {config.leaves})")
    if find_spec("sklearn") is None:
        raise KDError(_MISSING)


def _check_loss(config: DistillConfig, teacher: Teacher | None) -> None:
    """Refuse a loss that VIPER's fit does not stand for: the head's default, by itself, is none."""
    losses = sorted(name for name, weight in (config.loss or {}).items() if weight)
    # Before the teacher is there nobody knows which of the two it will be.
    fitting = sorted(default_loss(teacher)) if teacher else ["kl", "mse"]
    if losses and not (len(losses) == 1 and losses[0] in fitting):
        named = ", ".join(losses)
        raise KDError(f"a tree is fitted to the teacher's actions, not by the loss {named}; leave out --loss")


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
        steps: Not needed: a tree is not fitted in steps.
        batch_size: Not needed.
        learning_rate: Not needed.
        l2: Not needed.
        seed: Seed of the order in which features are tried, which decides between equal splits.
        on_step: Called at the end with the mean loss.

    Returns:
        The mean loss over all states.
    """
    head = student.head
    data = _weighted(rollouts)
    observations = {key: data[f"obs.{key}"] for key in student.observations}
    x = student.encoded(observations)
    params = data["params"]
    mask = data.get("mask")
    weight = data["weight"].astype(np.float64)
    settings = {"max_leaf_nodes": student.leaves, "random_state": seed % 2**32}
    if head.spec.is_gaussian:
        model = _scikit_learn().DecisionTreeRegressor(**settings)
        splits, value = _regressed(model, head.spec, x, params, weight)
    else:
        model = _scikit_learn().DecisionTreeClassifier(**settings)
        splits, value = _classified(model, head, x, params, weight, softening=objective.softening, mask=mask)
    # One for all leaves, as a network's: where to be unsure is not what a tree is asked to say.
    log_std = np.average(params[:, head.spec.num_acting :], axis=0, weights=weight)
    student.become(_with_split({**splits, "value": value.astype(np.float32)}), log_std.astype(np.float32))
    loss = float(np.average(_losses(student, observations, params, objective, mask=mask), weights=weight))
    on_step(0, loss)
    return loss


def _regressed(model: Any, head: HeadSpec, x: Array, params: Array, weight: Array) -> tuple[dict[str, Array], Array]:
    """Splits of `x [S, F]` by the actions that Gaussian rows stand for, and the means `[L, A]` of the leaves."""
    actions = unit_actions(head, params)
    splits, leaf = _grown(model, x, actions, weight)
    return splits, from_unit(head, means(leaf, actions, weight))


def _classified(
    model: Any, head: ActionHead, x: Array, params: Array, weight: Array, *, softening: Softening, mask: Array | None
) -> tuple[dict[str, Array], Array]:
    """Splits of `x [S, F]` by the greedy actions, a mistake at its cost, and the logits `[L, P]` of the leaves."""
    actions = choices(head.spec, params)
    cost = weight * decision_gaps(head.spec, params, mask) + CERTAIN
    splits, leaf = _grown(model, x, actions, cost)
    softened = head.soften(torch.from_numpy(params), softening.temperature)
    probabilities = head.spec.probabilities(softened.double().numpy())
    if mask is not None:
        # A leaf's row is read through a mask: which action would win without one is nobody's question.
        allowed = allowed_means(leaf, probabilities, weight, head.spec.open_columns(mask))
        return splits, leaf_logits(head, allowed, softening)
    value = leaf_logits(head, means(leaf, probabilities, weight), softening)
    # The mean of the distributions need not have the mode that the costs chose.
    return splits, with_modes(head.spec, value, winners(leaf, actions, cost, head.spec.nvec))


def choices(head: HeadSpec, params: Array) -> Array:
    """The greedy category of each part, counted from 0, `[S, parts]`.

    Args:
        head: The teacher's.
        params: Its rows `[S, P]`.
    """
    actions = head.greedy(params).reshape(len(params), -1).astype(np.int64)
    return np.asarray(actions - np.asarray(head.start or 0, np.int64))


def unit_actions(head: HeadSpec, params: Array) -> Array:
    """What a Gaussian's means `[S, A]` do: tanh, or clipped to the Box and in its half-widths, as the loss "mse".

    Args:
        head: The teacher's.
        params: Its rows `[S, P]`.
    """
    mean = params[:, : head.num_acting].astype(np.float64)
    if head.kind == "squashed_gaussian":
        return np.asarray(np.tanh(mean))
    return np.asarray(np.clip(mean, head.low, head.high) / _unit(head))


def from_unit(head: HeadSpec, actions: Array) -> Array:
    """Inverse of `unit_actions`.

    Args:
        head: The teacher's.
        actions: `[L, A]`.
    """
    if head.kind == "squashed_gaussian":
        # An action on the edge would need an infinite mean.
        return np.asarray(np.arctanh(np.clip(actions, -1 + 1e-6, 1 - 1e-6)))
    return np.asarray(actions * _unit(head))


def _weighted(rollouts: Sequence[Rollout]) -> dict[str, Array]:
    """The arrays `[S, ...]` of all states that have any weight: scikit-learn would split by the others too."""
    data = aggregate(rollouts)
    counts = data["weight"] > 0
    return {name: array[counts] for name, array in data.items()}


def _unit(head: HeadSpec) -> Array:
    """What an action of 1 is, `[A]`; an unbounded part is taken as it comes."""
    half = (np.asarray(head.high) - np.asarray(head.low)) / 2
    return np.where(np.isfinite(half), half, 1.0)


def _grown(model: Any, x: Array, actions: Array, cost: Array) -> tuple[dict[str, Array], Array]:
    """Fit to `x [S, F]`: the splits, and the leaf `[S]` of each state.

    scikit-learn compares float32 with float64 thresholds; rounded down to float32 these say the same.
    """
    tree = model.fit(x, actions, sample_weight=cost).tree_
    inner = tree.children_left >= 0
    splits = int(inner.sum())
    # The operation has the splits first, then the leaves, each in scikit-learn's order.
    index = np.where(inner, np.cumsum(inner) - 1, splits + np.cumsum(~inner) - 1).astype(np.int32)
    exact = tree.threshold[inner]
    threshold = exact.astype(np.float32)
    threshold = np.where(threshold > exact, np.nextafter(threshold, np.float32(-np.inf)), threshold)
    found = {
        "feature": tree.feature[inner].astype(np.int32),
        "threshold": threshold,
        "left": index[tree.children_left[inner]],
        "right": index[tree.children_right[inner]],
    }
    return found, index[model.apply(x)] - splits


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


def _losses(
    student: Tree, observations: Mapping[str, Array], params: Array, objective: Objective, *, mask: Array | None
) -> Array:
    """The objective in each state, `[S]`."""
    output = student({key: torch.from_numpy(array) for key, array in observations.items()})
    labels = PolicyOutput(torch.from_numpy(params), mask=None if mask is None else torch.from_numpy(mask))
    losses: Array = BoundObjective(objective, student.head, output, labels, None)(output, labels).detach().numpy()
    return losses
