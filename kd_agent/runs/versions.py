"""With what a run was made: figures may be others elsewhere, and whoever plays it again wants to know why."""

import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

import kd_agent

PACKAGES = (
    "numpy",
    "scipy",
    "torch",
    "gymnasium",
    "stable-baselines3",
    "sb3-contrib",
    "safetensors",
    "box2d",
    "mujoco",
    "ale-py",
)
"""Those that returns and weights hang on."""


def versions() -> dict[str, Any]:
    """Python, packages that are installed, platform and torch's threads, as `result.json` has them."""
    packages = {}
    for name in PACKAGES:
        try:
            packages[name] = version(name)
        except PackageNotFoundError:
            continue
    return {
        "kd_agent": kd_agent.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "threads": torch.get_num_threads(),
        "packages": packages,
    }
