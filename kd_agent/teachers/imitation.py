"""Policies of imitation (`.pt`): what `policy.save`, `save_policy` and DAgger's `save_trainer` write, as data.

They are Stable-Baselines3's policies, so that what is read of them goes the way of its zips.
"""

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import gymnasium as gym
import numpy as np

from kd_agent.errors import KDError
from kd_agent.policies import OBSERVATION, Array, Normalizer
from kd_agent.policies.normalizer import UNBOUNDED
from kd_agent.teachers._agent import teacher_of
from kd_agent.teachers._archive import Archive, NotUnderstoodError
from kd_agent.teachers._checkpoint import Outline, outline_of, read_checkpoint
from kd_agent.teachers._graph_teacher import GraphTeacher
from kd_agent.teachers._pickled import Built, Name
from kd_agent.teachers._request import Request

_CLASSES = {
    "action_net.weight": ("stable_baselines3.common.policies", "ActorCriticPolicy"),
    "actor.latent_pi.0.weight": ("stable_baselines3.sac.policies", "SACPolicy"),
    "actor.mu.0.weight": ("stable_baselines3.td3.policies", "TD3Policy"),
    "q_net.q_net.0.weight": ("stable_baselines3.dqn.policies", "DQNPolicy"),
}
"""Module and class of a policy by a tensor that it alone has: imitation's own have the layers of these."""
_FIRST_LAYERS = (
    "mlp_extractor.policy_net.0.weight",
    "actor.latent_pi.0.weight",
    "actor.mu.0.weight",
    "q_net.q_net.0.weight",
)
_NORMAL = "features_extractor.normalize."
"""What NormalizeFeaturesExtractor keeps."""
_NORMALIZE = Name("imitation.policies.base", "NormalizeFeaturesExtractor")
_FLATTEN = Name("stable_baselines3.common.torch_layers", "FlattenExtractor")
_NOT_LAYERS = re.compile(r"(action_dist|optimizer)\..*")
"""What the last sample left behind, and what a module keeps of its training."""


def accepts(source: Any) -> bool:
    """Whether this plug-in reads `source`."""
    outline = outline_of(source)
    return outline is not None and not outline.script and _place(outline) is not None


def load(source: str, request: Request) -> GraphTeacher:
    """Load a policy, or the student of a saved trainer.

    Args:
        source: Path of the file.
        request: How it is asked for.

    Raises:
        KDError: It is damaged, its network is not understood, or it does not fit the environment.
    """
    checkpoint = read_checkpoint(source)
    place = _place(checkpoint.outline)
    if place is None:
        raise KDError(f"{source}: no policy of imitation or Stable-Baselines3")
    if request.env is None:
        raise KDError(f"{source}: a policy of imitation is read without its spaces; name the environment (--env)")
    prefix, telling = place
    tensors = {}
    for name, array in checkpoint.tensors(prefix).items():
        if not _NOT_LAYERS.fullmatch(name):
            tensors[name] = array
    _check_size(tensors, request.env[0], source)
    settings = _settings(checkpoint.outline.root, prefix)
    normalizer = _normalizer(tensors, settings, source)
    # Once the running norm is a step of its own, what is left of that extractor flattens.
    extractor = settings.get("features_extractor_class") if normalizer is None else _FLATTEN
    data = _data({**settings, "features_extractor_class": extractor}, *_CLASSES[telling])
    archive = Archive(source, checkpoint.sha256, data, tensors)
    try:
        teacher = teacher_of(archive, request, None if normalizer is None else {OBSERVATION: normalizer})
    except NotUnderstoodError as error:
        raise KDError(error.reason) from None
    teacher.origin = replace(teacher.origin, algo="imitation")
    return teacher


def _place(outline: Outline) -> tuple[str, str] | None:
    """Where the policy lies, and the tensor that tells its class; None where there is none."""
    for name in outline.stored:
        for telling in _CLASSES:
            prefix = name.removesuffix(telling)
            whole = prefix == "" or prefix.endswith(".")
            if prefix != name and whole and _settings(outline.root, prefix):
                return prefix, telling
    return None


def _settings(root: Any, prefix: str) -> Mapping[str, Any]:
    """What the policy was built with: beside its state dict, or what its module kept."""
    if isinstance(root, dict) and prefix == "state_dict.":
        found = root.get("data")
        return found if isinstance(found, dict) else {}
    value = root
    for part in filter(None, prefix.split(".")):
        state = value.state if isinstance(value, Built) else value
        value = state.get(part) if isinstance(state, dict) else None
    is_module = isinstance(value, Built) and isinstance(value.state, dict) and "_modules" in value.state
    return value.state if is_module else {}


def _data(settings: Mapping[str, Any], module: str, policy: str) -> dict[str, Any]:
    """The settings as Stable-Baselines3 writes them into a zip."""
    kwargs: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, Name):
            kwargs[name] = f"<class '{value.module}.{value.name}'>"
        elif isinstance(value, bool | int | float | str):
            kwargs[name] = value
    if "_squash_output" in kwargs:
        kwargs.setdefault("squash_output", kwargs["_squash_output"])
    return {
        "policy_class": {"__module__": module, "__init__": f"<function {policy}.__init__ at 0x0>"},
        "policy_kwargs": kwargs,
        "use_sde": settings.get("use_sde") is True,
    }


def _check_size(tensors: Mapping[str, Array], space: gym.Space[Any], source: str) -> None:
    """Hold the first layer of a perceptron against the environment's observations; other networks say it later."""
    first = next((name for name in _FIRST_LAYERS if name in tensors), None)
    if (
        first is None
        or not isinstance(space, gym.spaces.Box)
        or any(name.endswith(".cnn.0.weight") for name in tensors)
    ):
        return
    taken = tensors[first].shape[-1]
    if taken != int(np.prod(space.shape, dtype=np.int64)):
        raise KDError(
            f"{source}: its network takes observations of shape ({taken},), the environment's are of {space.shape}"
        )


def _normalizer(tensors: Mapping[str, Array], settings: Mapping[str, Any], source: str) -> Normalizer | None:
    """The running norm of a features extractor; None where it has none."""
    if settings.get("features_extractor_class") != _NORMALIZE:
        return None
    epsilon = _epsilon(settings)
    mean, var = tensors.get(f"{_NORMAL}running_mean"), tensors.get(f"{_NORMAL}running_var")
    if mean is None or var is None:
        raise KDError(f"{source}: the statistics of its features extractor are missing")
    return Normalizer(mean.astype(np.float64), var.astype(np.float64), UNBOUNDED, epsilon)


def _epsilon(settings: Mapping[str, Any]) -> float:
    """What a running norm adds to the variance: 1e-5, unless the module says otherwise."""
    value: Any = settings
    for part in ("_modules", "features_extractor", "_modules", "normalize"):
        value = value.state if isinstance(value, Built) else value
        value = value.get(part) if isinstance(value, dict) else None
    state = value.state if isinstance(value, Built) else None
    epsilon = state.get("eps", 1e-5) if isinstance(state, dict) else 1e-5
    return epsilon if isinstance(epsilon, float) and 0 <= epsilon < 1 else 1e-5
