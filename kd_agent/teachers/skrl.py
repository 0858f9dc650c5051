"""Agents of skrl (`agent_*.pt`, `best_agent.pt`): the policy, or the action values, behind its running scaler."""

from typing import Any

import numpy as np

from kd_agent.errors import KDError
from kd_agent.policies import Array, Normalizer
from kd_agent.teachers import _layout
from kd_agent.teachers._checkpoint import Checkpoint, Outline, outline_of, read_checkpoint
from kd_agent.teachers._graph_teacher import GraphTeacher
from kd_agent.teachers._layout import Layout, LogStd, ordered, scaled_by
from kd_agent.teachers._request import Request
from kd_agent.teachers._weights import teacher_of

ASSUMED = _layout.ASSUMED
EPSILON, CLIP = 1e-8, 5.0
"""What RunningStandardScaler adds to the standard deviation, and where it clips; its defaults, which no file says."""
_LOG_STD = "log_std_parameter"
_DETERMINISTIC = ("skrl TD3", "skrl DDPG")
_PREPROCESSORS = ("observation_preprocessor", "state_preprocessor")
"""The scaler of what the policy observes: since version 2, and before."""


def accepts(source: Any) -> bool:
    """Whether this plug-in reads `source`."""
    outline = outline_of(source)
    return outline is not None and not outline.script and _role(outline) is not None


def load(source: str, request: Request) -> GraphTeacher:
    """Load an agent: its policy, or of DQN and the like the action values.

    Args:
        source: Path of the file.
        request: How it is asked for.

    Raises:
        KDError: It is damaged, of a make that is not known here, or does not fit the environment.
    """
    checkpoint = read_checkpoint(source)
    role = _role(checkpoint.outline)
    tensors = checkpoint.tensors(f"{role}.")
    # A model that is shared has the critic's last layer too.
    layers = ordered(tensors, r"(?!value_layer$).*")
    if role is None or not layers:
        raise KDError(f"{source}: no agent of skrl with linear layers")
    is_off_policy = "value" not in {name.partition(".")[0] for name in checkpoint.outline.stored}
    log_std = tensors.get(_LOG_STD)
    algo = _algo(checkpoint.outline, role)
    layout = Layout(
        library="skrl",
        algo=algo,
        hidden=layers[:-1],
        answer=layers[-1:],
        normalizer=_normalizer(checkpoint),
        log_std=None if log_std is None else LogStd(np.clip(log_std, -20, 2)),
        # skrl has no default: these are what its examples of these algorithms use.
        activation="relu" if is_off_policy else "elu",
        squash="tanh" if is_off_policy else "none",
        # Whoever draws continuous actions keeps the deviations under this name; TD3 and DDPG draw none.
        continuous=log_std is not None or algo in _DETERMINISTIC,
        bystanders=rf"value_layer\..*|{_LOG_STD}",
    )
    return teacher_of(layout, tensors, source, checkpoint.sha256, request)


def _role(outline: Outline) -> str | None:
    """Which of an agent's models acts; None where the file is no agent of skrl."""
    models = {name.partition(".")[0] for name in outline.stored}
    if "policy" in models and models & {"value", "critic", "critic_1"}:
        return "policy"
    if {"q_network", "target_q_network"} <= models:
        return "q_network"
    return None


def _algo(outline: Outline, role: str) -> str:
    """By the models that an algorithm has; on-policy ones all have the same two."""
    models = {name.partition(".")[0] for name in outline.stored}
    if role == "q_network":
        return "skrl DQN"
    if "target_policy" in models:
        return "skrl TD3" if "critic_1" in models else "skrl DDPG"
    return "skrl SAC" if "critic_1" in models else "skrl PPO"


def _normalizer(checkpoint: Checkpoint) -> Normalizer | None:
    for name in _PREPROCESSORS:
        found: dict[str, Array] = checkpoint.tensors(f"{name}.")
        if "running_mean" in found and "running_variance" in found:
            deviation = np.sqrt(np.maximum(found["running_variance"], 0)) + EPSILON
            return scaled_by(found["running_mean"], deviation, CLIP)
    return None
