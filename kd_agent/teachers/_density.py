"""The density stated for teachers that only act: near to certain, and the same for all of them."""

import numpy as np

from kd_agent.errors import KDError
from kd_agent.policies import Array, HeadSpec

STATED_STD = 0.1
"""Standard deviation of a continuous action, as a share of half its range (of 1 where unbounded)."""
STATED_LOGIT = 8.0
"""Logit of the action chosen; the others have 0 (of a bit: plus or minus half of it)."""


def to_params(spec: HeadSpec, answer: Array, batch: int, name: str) -> Array:
    """A teacher's answer as rows `[B, P]`, float32.

    Args:
        spec: The head.
        answer: Rows `[B, P]`, or actions `[B, *A]`.
        batch: `B`.
        name: The teacher's name for messages.

    Raises:
        KDError: The answer is neither, is not of numbers, has a NaN, or is an action that there is not.
    """
    if answer.dtype.kind not in "fiub":
        raise KDError(f"{name}: answered with {answer.dtype} of shape {answer.shape}, which are no numbers")
    if np.isnan(answer).any():
        raise KDError(f"{name}: answered with NaN")
    are_rows = answer.shape == (batch, spec.num_params)
    # Rows and actions of MultiBinary spaces have one shape: there whole numbers are actions, and floats are logits.
    are_actions = answer.dtype.kind in "iub" and answer.shape == (batch, *spec.shape)
    if are_rows and not are_actions:
        return np.ascontiguousarray(answer, np.float32)
    if answer.size != batch * int(np.prod(spec.shape)):
        raise KDError(
            f"{name}: answered with shape {answer.shape} to {batch} observations; expected "
            f"({batch}, {spec.num_params}) head parameters or ({batch}, *{spec.shape}) actions"
        )
    actions = answer.reshape(batch, -1)
    _check_categories(spec, actions, name)
    state_density = _gaussian if spec.is_gaussian else _logits
    return np.ascontiguousarray(state_density(spec, actions), np.float32)


def _check_categories(spec: HeadSpec, actions: Array, name: str) -> None:
    """Refuse a category that there is not: its row would choose none, and so say "any"."""
    if not len(actions):
        return
    for part, (first, count) in enumerate(zip(spec.start, spec.nvec, strict=False)):
        least, most = actions[:, part].min(), actions[:, part].max()
        if least < first or most > first + count - 1:
            wrong = least if least < first else most
            raise KDError(
                f"{name}: answered with the action {wrong}, the environment's are {first} to {first + count - 1}"
            )


def _gaussian(spec: HeadSpec, actions: Array) -> Array:
    half_range = (np.asarray(spec.high) - np.asarray(spec.low)) / 2
    log_std = np.log(STATED_STD * np.where(np.isfinite(half_range), half_range, 1))
    return np.concatenate([actions, np.broadcast_to(log_std, actions.shape)], axis=-1)


def _logits(spec: HeadSpec, actions: Array) -> Array:
    if spec.kind == "bernoulli":
        return (actions - 0.5) * STATED_LOGIT
    choices = (actions - np.asarray(spec.start)).astype(np.int64)
    chosen = []
    for part, count in enumerate(spec.nvec):
        chosen.append(choices[:, part, None] == np.arange(count))
    return np.concatenate(chosen, axis=-1) * STATED_LOGIT
