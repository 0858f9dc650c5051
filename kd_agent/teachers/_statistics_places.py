"""Where the VecNormalize statistics of an agent may lie, and under which names."""

import re
from pathlib import Path

from kd_agent.teachers._statistics import MAX_BYTES

_PLAIN = ("vecnormalize", "vec_normalize", "vecnorm")
"""What people call a file of statistics, in the order of how often they do."""
_SUFFIXES = (".npz", ".pkl", ".pickle")
_CHECKPOINT = re.compile(r"(.+)_(\d+)_steps")
"""How Stable-Baselines3's CheckpointCallback names a zip; its statistics are `<prefix>_vecnormalize_<n>_steps.pkl`."""
_LIKELY = re.compile(r"norm|rms|stat", re.IGNORECASE)
_MANY = 32
"""Files of a folder that are tried at most: each is read in a process of its own."""


def own_places(agent: Path) -> list[Path]:
    """Files that would be this agent's alone by their names, the surest first.

    Args:
        agent: Its zip, or the folder that it was unpacked into.
    """
    beside = [agent.parent / name for name in _own_names(agent.stem)]
    within = [agent.with_suffix("") / f"{name}{suffix}" for name in _PLAIN for suffix in _SUFFIXES]
    if agent.stem.startswith(("best_model", "rl_model")):
        # RL Zoo names a run's settings folder by the environment, and its best model never by it.
        for settings in sorted(agent.parent.glob("*/config.yml"))[:1]:
            within += [settings.parent / f"{name}{suffix}" for name in _PLAIN for suffix in _SUFFIXES]
    return list(filter(Path.is_file, [*beside, *within]))


def near_places(agent: Path) -> list[Path]:
    """Files beside an agent that may hold its statistics, whatever they are called; none that is another agent's own.

    Args:
        agent: Its zip, or the folder that it was unpacked into.
    """
    return _files_of(agent.parent, agent)


def places_above(agent: Path) -> list[Path]:
    """The same in the folder above, where only names count that speak of statistics.

    Args:
        agent: Its zip, or the folder that it was unpacked into.
    """
    above = agent.absolute().parent.parent
    return [path for path in _files_of(above, agent) if _LIKELY.search(path.stem)]


def _own_names(stem: str) -> list[str]:
    """Names beside an agent of this name that would be its statistics'."""
    # An .npz of the agent's own name is ours, and was written for it alone.
    names = [stem]
    checkpoint = _CHECKPOINT.fullmatch(stem)
    if checkpoint:
        prefix, steps = checkpoint.groups()
        names += [f"{prefix}_{name}_{steps}_steps" for name in _PLAIN]
    for name in _PLAIN:
        names += [f"{stem}_{name}", f"{stem}-{name}", f"{name}_{stem}", f"{name}-{stem}"]
    return [f"{name}{suffix}" for name in names for suffix in _SUFFIXES]


def _files_of(folder: Path, agent: Path) -> list[Path]:
    """Small files of a folder that are of a kind to hold statistics, names that speak of them first."""
    others: set[str] = set()
    for zipped in folder.glob("*.zip"):
        if zipped.stem != agent.stem:
            others.update(_own_names(zipped.stem))
    found = []
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        is_small = path.suffix in _SUFFIXES and path.is_file() and path.stat().st_size <= MAX_BYTES
        if is_small and path.name not in others:
            found.append(path)
    found.sort(key=lambda path: not _LIKELY.search(path.stem))
    return found[:_MANY]
