"""Models of CleanRL's scripts (`.cleanrl_model`): PPO, DQN, TD3, DDPG and SAC, of vectors."""

from dataclasses import replace
from typing import Any

from kd_agent.errors import KDError
from kd_agent.policies import Array
from kd_agent.teachers import _layout
from kd_agent.teachers._checkpoint import Outline, outline_of, read_checkpoint
from kd_agent.teachers._graph_teacher import GraphTeacher
from kd_agent.teachers._layout import Layout, LogStd, ordered
from kd_agent.teachers._request import Request
from kd_agent.teachers._weights import teacher_of

ASSUMED = _layout.ASSUMED
_PREFIXES = ("", "0.", "actor.", "model_weights.")
"""Where the acting network lies: its state is saved, or it is the first of several, or beside its arguments."""
_CATEGORICAL = {"actor.0.weight", "critic.0.weight"}
_GAUSSIAN = {"actor_mean.0.weight", "actor_logstd"}
_VALUES = {"network.0.weight", "network.2.weight", "network.4.weight"}
_DETERMINISTIC = {"fc1.weight", "fc2.weight", "fc_mu.weight"}
_SQUASHED = {"fc1.weight", "fc2.weight", "fc_mean.weight", "fc_logstd.weight"}
_OF_SAC = (-5.0, 2.0)
"""Between these its log standard deviations are brought, by tanh."""


def accepts(source: Any) -> bool:
    """Whether this plug-in reads `source`."""
    outline = outline_of(source)
    return outline is not None and not outline.script and _prefix(outline) is not None


def load(source: str, request: Request) -> GraphTeacher:
    """Load a model.

    Args:
        source: Path of the file.
        request: How it is asked for.

    Raises:
        KDError: It is damaged, of a script that is not known here, or does not fit the environment; or it is of PPO for
            continuous actions, which normalises its observations, and no statistics are named.
    """
    checkpoint = read_checkpoint(source)
    prefix = _prefix(checkpoint.outline)
    if prefix is None:
        raise KDError(f"{source}: no model of CleanRL's scripts")
    tensors = checkpoint.tensors(prefix)
    return teacher_of(_layout_of(tensors), tensors, source, checkpoint.sha256, request)


def _prefix(outline: Outline) -> str | None:
    """What the names of the acting network begin with; None where the file is of no script."""
    for prefix in _PREFIXES:
        names = {name.removeprefix(prefix) for name in outline.stored if name.startswith(prefix)}
        for known in (_CATEGORICAL, _GAUSSIAN, _VALUES, _DETERMINISTIC, _SQUASHED):
            if known <= names:
                return prefix
    return None


def _layout_of(tensors: dict[str, Array]) -> Layout:
    """By the names that each script gives its layers."""
    names = set(tensors)
    if names >= _CATEGORICAL:
        return _tower(tensors, r"actor\.\d+", "CleanRL PPO", activation="tanh", bystanders=r"critic\..*")
    if names >= _GAUSSIAN:
        layout = _tower(
            tensors, r"actor_mean\.\d+", "CleanRL PPO", activation="tanh", bystanders=r"critic\..*|actor_logstd"
        )
        return replace(
            layout, log_std=LogStd(tensors["actor_logstd"].ravel()), normalized_elsewhere=True, continuous=True
        )
    if names >= _VALUES:
        return _tower(tensors, r"network\.\d+", "CleanRL DQN", activation="relu", bystanders="")
    is_sac = names >= _SQUASHED
    return Layout(
        library="CleanRL",
        algo="CleanRL SAC" if is_sac else "CleanRL TD3",
        hidden=("fc1", "fc2"),
        answer=("fc_mean" if is_sac else "fc_mu",),
        log_std=LogStd(layer="fc_logstd", bounds=_OF_SAC) if is_sac else None,
        squash="tanh",
        bystanders="action_scale|action_bias",
        continuous=True,
        half_range=tensors.get("action_scale"),
        centre=tensors.get("action_bias"),
    )


def _tower(tensors: dict[str, Array], layers: str, algo: str, *, activation: str, bystanders: str) -> Layout:
    """Layers of one `Sequential`."""
    names = ordered(tensors, layers)
    return Layout(
        "CleanRL", algo, names[:-1], names[-1:], activation=activation, bystanders=bystanders, continuous=False
    )
