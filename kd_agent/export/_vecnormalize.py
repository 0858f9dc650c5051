"""The statistics of a Stable-Baselines3 zip, as a file beside it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from kd_agent.errors import KDError
from kd_agent.policies import Normalizer, Op
from kd_agent.policies.safe_files import write_atomically

STATISTICS = "vecnormalize.pkl"
"""The name that RL Zoo, people and our own reader look for beside a zip."""


def write_statistics(target: Path, model: Any, statistics: Mapping[str, Op], clip: float) -> Path:
    """Write them by VecNormalize's own `save`, and let the model say that it needs them.

    Args:
        target: The file.
        model: The PPO that they belong to.
        statistics: The normalise operation of each observation key.
        clip: Standard deviations that are let through.

    Raises:
        KDError: Other statistics lie there.
    """
    raw = _pickled(target, _normalize(model, statistics, clip))
    # Compared as bytes: nothing of another file is unpickled to look into it.
    if target.exists() and target.read_bytes() != raw:
        raise KDError(f"{target}: other statistics are there, another export's: write to another folder, or move them")
    write_atomically(target, raw)
    # Stable-Baselines3 keeps it of agents under VecNormalize alone: by it readers know that statistics are needed.
    model._last_original_obs = _zeros(model.observation_space)
    return target


def _normalize(model: Any, statistics: Mapping[str, Op], clip: float) -> Any:
    import gymnasium as gym
    from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

    class Spaces(gym.Env[Any, Any]):
        """An environment that has spaces and nothing else."""

        observation_space = model.observation_space
        action_space = model.action_space

    settings: dict[str, Any] = {"training": False, "norm_reward": False, "clip_obs": clip, "epsilon": 0.0}
    if isinstance(model.observation_space, gym.spaces.Dict):
        settings["norm_obs_keys"] = list(statistics)
    normalize = VecNormalize(DummyVecEnv([Spaces]), **settings)
    for key, op in statistics.items():
        rms: Any = normalize.obs_rms
        if isinstance(rms, dict):
            rms = rms[key]
        # VecNormalize divides by sqrt(var + epsilon), epsilon 0 here: exactly what the student multiplies by.
        own = Normalizer.of_op(op)
        rms.mean, rms.var = own.mean, own.var
        rms.count = 1e6  # so many observations that who goes on learning moves them slowly
    return normalize


def _pickled(target: Path, normalize: Any) -> bytes:
    """What VecNormalize saves, which it does to a path alone."""
    temporary = target.with_name(f".{target.name}.part")
    try:
        normalize.save(str(temporary))
        return temporary.read_bytes()
    finally:
        temporary.unlink(missing_ok=True)


def _zeros(space: Any) -> Any:
    """A batch of one observation of zeros."""
    import gymnasium as gym

    if isinstance(space, gym.spaces.Dict):
        return {key: _zeros(part) for key, part in space.spaces.items()}
    return np.zeros((1, *space.shape), np.float32)
