"""What a run is made of, and what it remembers of itself between processes."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch.utils.tensorboard import SummaryWriter

import kd_agent
from kd_agent.runs.folder import RunFolder
from kd_agent.settings import DistillConfig, plain, to_yaml
from kd_agent.environments import Recipe
from kd_agent.errors import KDError
from kd_agent.policies import ObservationSpec
from kd_agent.networks import Teacher
from kd_agent.runs.reporter import Reporter
from kd_agent.runs.plan import Effort

_PRESENTATION = frozenset({"out", "resume", "render", "progress", "quiet", "trials"})
"""Settings that do not change a run's result."""


@dataclass(frozen=True)
class Session:
    """A run in progress.

    Attributes:
        config: Its settings, every default decided (`sizing.settled`).
        effort: What it may cost.
        recipe: Its environment.
        seen: What the student sees of an observation, by key.
        teacher: Who labels.
        folder: Where it writes.
        reporter: What it shows.
        events: TensorBoard.
    """

    config: DistillConfig
    effort: Effort
    recipe: Recipe
    seen: Mapping[str, ObservationSpec]
    teacher: Teacher
    folder: RunFolder
    reporter: Reporter
    events: SummaryWriter


def remember(folder: RunFolder, config: DistillConfig, teacher: Teacher) -> None:
    """Write settings and teacher into the run folder, or hold them against what lies there."""
    if config.resume:
        compare_settings(folder, config)
        known = folder.read_json("teacher.json")["sha256"]
        if known != teacher.origin.sha256:
            raise KDError(f"{folder.path}: was begun with another teacher (sha256 {known[:12]}...)")
    folder.write_json("teacher.json", vars(teacher.origin))
    folder.write_text("config.yaml", to_yaml(config))


def compare_settings(folder: RunFolder, config: Any) -> None:
    """Refuse to go on under other settings than a run was begun with."""
    stored, given = folder.read_yaml("config.yaml"), plain(config)
    for name in sorted(set(given) - _PRESENTATION):
        if stored.get(name) != given[name]:
            raise KDError(f"{folder.path}: was begun with {name} = {stored.get(name)}, not {given[name]}")


def provenance(config: DistillConfig, recipe: Recipe, teacher: Teacher) -> dict[str, Any]:
    """What the student's file says of where it comes from."""
    settings = {k: v for k, v in plain(config).items() if k not in _PRESENTATION}
    return {
        "env": recipe.env_id,
        "recipe": recipe.to_json(),
        "kd_agent": kd_agent.__version__,
        "teacher_sha256": teacher.origin.sha256,
        "teacher_algo": teacher.origin.algo,
        "config": settings,
    }


@contextmanager
def timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    """Add a block's wall-clock seconds."""
    started = time.monotonic()
    yield
    seconds[name] = round(seconds.get(name, 0.0) + time.monotonic() - started, 2)
