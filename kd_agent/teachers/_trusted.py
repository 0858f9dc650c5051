"""The explicit way round: Stable-Baselines3's own loader, which runs whatever the zip contains."""

import importlib
from collections.abc import Callable, Mapping
from typing import Any

import gymnasium as gym
import numpy as np
import torch

from kd_agent.errors import KDError
from kd_agent.networks import Teacher
from kd_agent.policies import OBSERVATION, Array, Normalizer
from kd_agent.teachers._archive import Archive
from kd_agent.teachers._function import FunctionTeacher

_ALGORITHMS = {
    "delta_std_schedule": "sb3_contrib:ARS", "top_quantiles_to_drop_per_net": "sb3_contrib:TQC",
    "n_quantiles": "sb3_contrib:QRDQN", "cg_max_steps": "sb3_contrib:TRPO", "exploration_rate": "stable_baselines3:DQN",
    "target_entropy": "stable_baselines3:SAC", "policy_delay": "stable_baselines3:TD3",
    "clip_range": "stable_baselines3:PPO", "gae_lambda": "stable_baselines3:A2C",
}  # fmt: skip
"""Algorithm by a setting that it has and those after it lack."""


def load(
    archive: Archive, env: tuple[gym.Space[Any], gym.Space[Any]], normalizers: Mapping[str, Normalizer]
) -> Teacher:  # fmt: skip
    """The teacher that SB3 makes of a zip.

    It tells logits where it has them and else its greedy actions, with the stated density.

    Raises:
        KDError: Its algorithm is not recognised, or SB3 cannot load it either.
    """
    source = archive.source
    found = [place for key, place in _ALGORITHMS.items() if key in archive.data]
    if not found:
        raise KDError(f"{source}: its algorithm is not recognised")
    module, _, name = found[0].partition(":")
    replaced = {"lr_schedule": _constant, "clip_range": _constant, "exploration_schedule": _constant}
    try:
        model = getattr(importlib.import_module(module), name).load(source, device="cpu", custom_objects=replaced)
        model.policy.set_training_mode(False)
        teacher = FunctionTeacher(_answers(model, normalizers), source, env, algo=name)
        teacher({key: np.zeros((1, *spec.shape), spec.dtype) for key, spec in teacher.observations.items()})
    except Exception as error:
        reason = " ".join(str(error).split())[:160]
        raise KDError(f"{source}: Stable-Baselines3 cannot use it here ({type(error).__name__}: {reason})") from None
    return teacher


def _constant(progress: float) -> float:
    """A schedule of no consequence."""
    return 0.0


def _answers(model: Any, normalizers: Mapping[str, Normalizer]) -> Callable[[Any], Array]:
    """A function from observations to logits `[B, P]` or actions `[B, *A]`."""

    def answer(observations: Any) -> Array:
        if isinstance(observations, dict):
            given: Any = {k: normalizers[k](v) if k in normalizers else v for k, v in observations.items()}
        else:
            given = normalizers[OBSERVATION](observations) if OBSERVATION in normalizers else observations
        if not isinstance(model.action_space, gym.spaces.Discrete):
            return np.asarray(model.predict(given, deterministic=True)[0])
        tensors, _ = model.policy.obs_to_tensor(given)
        with torch.no_grad():
            if hasattr(model.policy, "q_net"):
                return np.asarray(model.policy.q_net(tensors))
            if hasattr(model.policy, "get_distribution"):
                return np.asarray(model.policy.get_distribution(tensors).distribution.logits)
        return np.asarray(model.predict(given, deterministic=True)[0])

    return answer
