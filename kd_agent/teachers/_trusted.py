"""The explicit way round: Stable-Baselines3's own loader, which runs whatever the zip contains."""

import importlib
import io
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from kd_agent.errors import KDError
from kd_agent.networks import Origin, Teacher
from kd_agent.policies import Normalizer
from kd_agent.teachers._archive import Archive
from kd_agent.teachers._request import Spaces
from kd_agent.teachers._sb3_teacher import Sb3Teacher

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

    As `Sb3Teacher`.

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
    # Nobody can tell which of a policy's parameters act.
    origin = Origin(source, archive.sha256, name, num_parameters=None)
    try:
        algorithm = getattr(importlib.import_module(module), name)
        model = algorithm.load(_loadable(source), device="cpu", custom_objects=replaced)
        teacher = Sb3Teacher(model.policy, origin, env, normalizers)
        # Ask once: what does not fit shows here and not in the middle of a run.
        zeros = {key: np.zeros((1, *spec.shape), spec.dtype) for key, spec in teacher.observations.items()}
        teacher(zeros)
    except Exception as error:
        reason = " ".join(str(error).split())[:160]
        raise KDError(f"{source}: Stable-Baselines3 cannot use it here ({type(error).__name__}: {reason})") from None
    return teacher


def _loadable(source: str) -> Any:
    """What Stable-Baselines3 opens: the path of a zip, or an unpacked folder packed again."""
    folder = Path(source)
    if not folder.is_dir():
        return source
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for path in sorted(folder.iterdir()):
            if path.is_file():
                archive.write(path, path.name)
    packed.seek(0)
    return packed


def _algorithm(archive: Archive) -> tuple[str, str]:
    """The module and the name of the algorithm's class."""
    # These two have PPO's settings to the letter: a memory shows in the tensors, masks in what keeps the rollouts.
    if "lstm_actor.weight_ih_l0" in archive.tensors:
        return "sb3_contrib", "RecurrentPPO"
    buffer = archive.data.get("rollout_buffer_class")
    keeps_masks = isinstance(buffer, dict) and "maskable" in str(buffer.get("__module__"))
    if keeps_masks or "maskable" in archive.policy_module:
        return "sb3_contrib", "MaskablePPO"
    for setting, place in _ALGORITHMS.items():
        if setting in archive.data:
            module, _, name = place.partition(":")
            return module, name
    raise KDError(f"{archive.source}: its algorithm is not recognised")


def _constant(progress: float) -> float:
    """A schedule of no consequence."""
    return 0.0
