"""PPO teachers that are trained in a moment."""

from pathlib import Path
from typing import Any

from samples import PROBES

from kd_agent.ppo.teacher import trained_teacher
from kd_agent.runs.reporter import Reporter
from kd_agent.settings import RunConfig, resolve

QUIET = Reporter(quiet=True)
TINY = {
    "total_steps": 128,
    "n_envs": 2,
    "n_steps": 32,
    "batch_size": 32,
    "n_epochs": 1,
    "hidden": [8],
    "eval_episodes": 2,
    "eval_every": 64,
}


def train(folder: Path, env: str = PROBES["Discrete"], seed: int = 0, **training: Any) -> Path:
    config = resolve(RunConfig, {"env": env, "seed": seed, "training": {**TINY, **training}})
    return trained_teacher(config, QUIET, folder)
