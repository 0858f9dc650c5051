"""The explicit way round: Stable-Baselines3's own loader, which runs whatever the zip contains."""

import importlib
from collections.abc import Callable, Mapping
from typing import Any

import gymnasium as gym
import numpy as np
import torch

from kd_agent.environments import as_sb3_acts
from kd_agent.errors import KDError
from kd_agent.networks import Teacher
from kd_agent.policies import OBSERVATION, Array, Normalizer
from kd_agent.teachers._archive import Archive
from kd_agent.teachers._function import FunctionTeacher
from kd_agent.teachers._request import Spaces

_ALGORITHMS = {
    "delta_std_schedule": "sb3_contrib:ARS",
    "top_quantiles_to_drop_per_net": "sb3_contrib:TQC",
    "n_quantiles": "sb3_contrib:QRDQN",
    "cg_max_steps": "sb3_contrib:TRPO",
    "exploration_rate": "stable_baselines3:DQN",
    "target_entropy": "stable_baselines3:SAC",
    "policy_delay": "stable_baselines3:TD3",
    "clip_range": "stable_baselines3:PPO",
    "gae_lambda": "stable_baselines3:A2C",
}
"""Algorithm by a setting that it has and those after it lack."""


def load(archive: Archive, env: Spaces, normalizers: Mapping[str, Normalizer]) -> Teacher:
    """The teacher that SB3 makes of a zip.

    It tells logits where it has them and else its greedy actions, with the stated density.

    Args:
        archive: What of the zip could be read as data.
        env: Observation and action space.
        normalizers: VecNormalize's statistics by key, which no zip contains.

    Raises:
        KDError: Its algorithm is not recognised, or SB3 cannot load it either.
    """
    source = archive.source
    module, name = _algorithm(archive)
    # Schedules are pickled functions, which break from one Python to the next, and only training reads them.
    replaced = {"lr_schedule": _constant, "clip_range": _constant, "exploration_schedule": _constant}
    try:
        algorithm = getattr(importlib.import_module(module), name)
        model = algorithm.load(source, device="cpu", custom_objects=replaced)
        model.policy.set_training_mode(False)
        acted = env[0], as_sb3_acts(env[1])
        teacher = FunctionTeacher(_answers(model, normalizers), source, acted, algo=name)
        # Ask once: what does not fit shows here and not in the middle of a run.
        zeros = {key: np.zeros((1, *spec.shape), spec.dtype) for key, spec in teacher.observations.items()}
        teacher(zeros)
    except Exception as error:
        reason = " ".join(str(error).split())[:160]
        raise KDError(f"{source}: Stable-Baselines3 cannot use it here ({type(error).__name__}: {reason})") from None
    return teacher


def _algorithm(archive: Archive) -> tuple[str, str]:
    """The module and the name of the algorithm's class."""
    for setting, place in _ALGORITHMS.items():
        if setting in archive.data:
            module, _, name = place.partition(":")
            return module, name
    raise KDError(f"{archive.source}: its algorithm is not recognised")


def _constant(progress: float) -> float:
    """A schedule of no consequence."""
    return 0.0


def _answers(model: Any, normalizers: Mapping[str, Normalizer]) -> Callable[[Any], Array]:
    """A function from observations to logits `[B, P]` or actions `[B, *A]`."""

    @torch.no_grad()
    def answer(observations: Any) -> Array:
        normalised = _normalised(observations, normalizers)
        if isinstance(model.action_space, gym.spaces.Discrete):
            tensors, _ = model.policy.obs_to_tensor(normalised)
            if hasattr(model.policy, "q_net"):
                return np.asarray(model.policy.q_net(tensors))
            if hasattr(model.policy, "get_distribution"):
                return np.asarray(model.policy.get_distribution(tensors).distribution.logits)
        actions, _ = model.predict(normalised, deterministic=True)
        return np.asarray(actions)

    return answer


def _normalised(observations: Any, normalizers: Mapping[str, Normalizer]) -> Any:
    """Observations `[B, *O]`, or such by key, as VecNormalize shows them to a policy."""
    if not isinstance(observations, dict):
        return normalizers[OBSERVATION](observations) if OBSERVATION in normalizers else observations
    parts = dict(observations)
    for key in parts.keys() & normalizers.keys():
        parts[key] = normalizers[key](parts[key])
    return parts
