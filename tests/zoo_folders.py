"""Folders as RL Zoo writes them, around agents that have learned nothing."""

from pathlib import Path
from typing import Any

import gymnasium as gym
import yaml
from stable_baselines3 import PPO

ENV = "CartPole-v1"


def agent(path: Path, env: gym.Env[Any, Any] | None = None, algorithm: Any = PPO, **settings: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    model = algorithm(
        "MlpPolicy", env or gym.make(ENV), policy_kwargs={"net_arch": [4]}, seed=0, device="cpu", **settings
    )
    model.save(path)
    return path


def zoo(folder: Path, config: dict[str, Any], arguments: dict[str, Any] | None = None, env: str = ENV) -> Path:
    """Settings as RL Zoo writes them, in an OrderedDict of YAML."""
    settings = folder / env
    settings.mkdir(parents=True, exist_ok=True)
    tag = "!!python/object/apply:collections.OrderedDict\n"
    for name, content in (("config", config), ("args", {"env": env, "env_kwargs": None, **(arguments or {})})):
        pairs = [[[key, value] for key, value in content.items()]]
        (settings / f"{name}.yml").write_text(tag + yaml.safe_dump(pairs))
    return folder
