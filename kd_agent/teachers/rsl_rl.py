"""Checkpoints of rsl_rl (`model_*.pt`): actors, students of its distillation, with its normaliser and its memories."""

from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np

from kd_agent.errors import KDError
from kd_agent.policies import Array, Normalizer
from kd_agent.policies.normalizer import UNBOUNDED
from kd_agent.teachers import _layout
from kd_agent.teachers._checkpoint import Checkpoint, outline_of, read_checkpoint
from kd_agent.teachers._graph_teacher import GraphTeacher
from kd_agent.teachers._layout import Layout, LogStd, ordered, scaled_by
from kd_agent.teachers._request import Request
from kd_agent.teachers._weights import teacher_of

ASSUMED = _layout.ASSUMED
EPSILON = 1e-2
"""What EmpiricalNormalization adds to the standard deviation, and no file says."""


@dataclass(frozen=True)
class _Names:
    """Where a version of rsl_rl keeps a policy.

    Attributes:
        layers: Name of its layers.
        normalizer: Name of its normaliser.
        memory: Name of its LSTM or GRU.
        std: Name of its standard deviations; of their logarithm likewise, by `log_std`.
        log_std: Name of those.
        algo: What trained it.
    """

    layers: str
    normalizer: str
    memory: str
    std: str
    log_std: str
    algo: str


def _of_model(role: str, algo: str) -> _Names:
    """Since version 4, each model has a state of its own."""
    state = f"{role}_state_dict"
    return _Names(
        layers=f"{state}.mlp",
        normalizer=f"{state}.obs_normalizer",
        memory=f"{state}.rnn.rnn",
        std=f"{state}.distribution.std_param",
        log_std=f"{state}.distribution.log_std_param",
        algo=algo,
    )


def _of_policy(role: str, memory: str, algo: str) -> _Names:
    """Before version 4, one policy holds actor and critic, or student and teacher."""
    state = "model_state_dict"
    return _Names(
        layers=f"{state}.{role}",
        normalizer=f"{state}.{role}_obs_normalizer",
        memory=f"{state}.{memory}.rnn",
        std=f"{state}.std",
        log_std=f"{state}.log_std",
        algo=algo,
    )


_KNOWN = (
    _of_model("student", "rsl_rl distillation"),
    _of_model("actor", "rsl_rl PPO"),
    _of_policy("student", "memory_s", "rsl_rl distillation"),
    _of_policy("actor", "memory_a", "rsl_rl PPO"),
)

_BYSTANDERS = (
    r"\w+_state_dict\.(obs_normalizer|distribution)\..*"
    r"|model_state_dict\.((actor|student)_obs_normalizer|critic.*|teacher.*|memory_[ct]\..*|std|log_std).*"
)
"""Tensors that do not act, and the normaliser's, which is read by itself."""


def accepts(source: Any) -> bool:
    """Whether this plug-in reads `source`."""
    outline = outline_of(source)
    return outline is not None and not outline.script and _names(outline.stored) is not None


def load(source: str, request: Request) -> GraphTeacher:
    """Load a checkpoint: the actor, or where it is of a distillation the student.

    Args:
        source: Path of the file.
        request: How it is asked for.

    Raises:
        KDError: It is damaged, of a make that is not known here, or does not fit the environment.
    """
    checkpoint = read_checkpoint(source)
    names = _names(checkpoint.outline.stored)
    if names is None:
        raise KDError(f"{source}: no checkpoint of rsl_rl")
    tensors = _acting(checkpoint, names)
    layers = ordered(tensors, rf"{names.layers}\.\d+")
    _check_distribution(tensors, names, layers[-1], request, source)
    has_memory = f"{names.memory}.weight_ih_l0" in tensors
    layout = Layout(
        library="rsl_rl",
        algo=names.algo,
        hidden=layers[:-1],
        answer=layers[-1:],
        normalizer=_normalizer(checkpoint, names),
        memory=names.memory if has_memory else None,
        log_std=LogStd(_log_std(tensors, names, source)),
        activation="elu",
        # Nothing of rsl_rl bounds an action; the environment clips it.
        squash="none",
        bystanders=_BYSTANDERS,
        continuous=True,
    )
    return teacher_of(layout, tensors, source, checkpoint.sha256, request)


def _names(stored: Any) -> _Names | None:
    for names in _KNOWN:
        if f"{names.layers}.0.weight" in stored:
            return names
    return None


def _acting(checkpoint: Checkpoint, names: _Names) -> dict[str, Array]:
    """Tensors of the policy, and what lies beside it in its state."""
    state = names.layers.partition(".")[0]
    return {f"{state}.{name}": array for name, array in checkpoint.tensors(f"{state}.").items()}


def _normalizer(checkpoint: Checkpoint, names: _Names) -> Normalizer | None:
    """EmpiricalNormalization, which divides by the standard deviation and a hundredth."""
    for prefix in (names.normalizer, "obs_norm_state_dict"):
        found = checkpoint.tensors(f"{prefix}.")
        if "_mean" in found and "_std" in found:
            if (found["_std"] < 0).any():
                raise KDError(f"{checkpoint.source}: a standard deviation of its observations is below 0")
            return scaled_by(found["_mean"].ravel(), found["_std"].ravel() + EPSILON, UNBOUNDED)
    return None


def _check_distribution(tensors: dict[str, Array], names: _Names, last: str, request: Request, source: str) -> None:
    """Refuse distributions of two numbers an action, of which a checkpoint does not tell which they are."""
    if (
        request.env is None
        or not isinstance(request.env[1], gym.spaces.Box)
        or {names.std, names.log_std} & set(tensors)
    ):
        return
    rows = len(tensors[f"{last}.weight"])
    if rows == 2 * int(np.prod(request.env[1].shape, dtype=np.int64)):
        raise KDError(
            f"{source}: writes {rows} numbers for {rows // 2} actions, as a Beta does and a Gaussian of varying "
            "deviation: no checkpoint tells which; the file that rsl_rl's export_policy_to_onnx writes does"
        )


def _log_std(tensors: dict[str, Array], names: _Names, source: str) -> Array | None:
    """Of the Gaussian; a policy of `--distribution` another says nothing of it."""
    if names.log_std in tensors:
        return tensors[names.log_std]
    if names.std not in tensors:
        return None
    if (tensors[names.std] <= 0).any():
        raise KDError(f"{source}: a standard deviation is not above 0")
    return np.log(tensors[names.std])
