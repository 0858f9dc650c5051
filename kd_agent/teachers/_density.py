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
        KDError: The answer is neither.
    """
    whole = answer.dtype.kind in "iub"
    if answer.shape == (batch, spec.num_params) and not (whole and answer.shape == (batch, *spec.shape)):
        return np.ascontiguousarray(answer, np.float32)
    if answer.size != batch * int(np.prod(spec.shape)) or answer.dtype.kind not in "fiub":
        raise KDError(f"{name}: answered with shape {answer.shape} to {batch} observations; expected "
                      f"({batch}, {spec.num_params}) head parameters or ({batch}, *{spec.shape}) actions")  # fmt: skip
    flat = answer.reshape(batch, -1)
    return np.ascontiguousarray(_gaussian(spec, flat) if spec.is_gaussian else _logits(spec, flat), np.float32)


def _gaussian(spec: HeadSpec, actions: Array) -> Array:
    half = (np.asarray(spec.high) - np.asarray(spec.low)) / 2
    log_std = np.log(STATED_STD * np.where(np.isfinite(half), half, 1))
    return np.concatenate([actions, np.broadcast_to(log_std, actions.shape)], axis=-1)


def _logits(spec: HeadSpec, actions: Array) -> Array:
    if spec.kind == "bernoulli":
        return (actions - 0.5) * STATED_LOGIT
    choices = (actions - np.asarray(spec.start)).astype(np.int64)
    parts = [choices[:, i, None] == np.arange(n) for i, n in enumerate(spec.nvec)]
    return np.concatenate(parts, axis=-1) * STATED_LOGIT
