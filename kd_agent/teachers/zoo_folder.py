"""An RL Zoo folder as a teacher: its zip, statistics, environment settings and wrappers, found by themselves."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kd_agent import plugins
from kd_agent.environments import Recipe
from kd_agent.environments.own_wrappers import NO_WRAPPERS, TypedWrappers
from kd_agent.errors import KDError
from kd_agent.networks import Teacher
from kd_agent.teachers._request import Request

_NOT_AGENTS = ("best_model", "rl_model", "train_eval_metrics")


def accepts(source: Any) -> bool:
    """Whether this plug-in reads `source`."""
    # pathlib takes an empty name, of a shell's unset variable say, for the working folder.
    if not isinstance(source, str) or source == "" or not Path(source).is_dir():
        return False
    # A folder may be an unpacked zip, too.
    return not plugins.load("teachers", "sb3_zip").accepts(source)


def load(source: str, request: Request) -> Teacher:
    """Load the folder's agent, as `sb3_zip.load`.

    Args:
        source: Path of the folder.
        request: How it is asked for.

    Raises:
        KDError: The folder has no agent or several, or the agent cannot be read or does not fit.
    """
    agent = find_agent(Path(source))
    teacher: Teacher = plugins.load("teachers", "sb3_zip").load(str(agent), request)
    return teacher


def recipe(source: str, env: str, env_kwargs: Mapping[str, Any], typed: TypedWrappers = NO_WRAPPERS) -> Recipe:
    """The environment that the folder's agent plays in, as `sb3_zip.recipe`.

    Args:
        source: Path of the folder.
        env: The id asked for; "" for the one that the folder's settings name.
        env_kwargs: Keyword arguments that win over the settings'.
        typed: Wrappers that were typed: those of the settings are allowed by them, the others put around.

    Raises:
        KDError: The folder has no agent or several, or its settings cannot be read.
    """
    agent = find_agent(Path(source))
    agent_recipe: Recipe = plugins.load("teachers", "sb3_zip").recipe(str(agent), env, env_kwargs, typed)
    return agent_recipe


def find_agent(folder: Path) -> Path:
    """The zip to load: the last model of the run `<env>.zip`, as RL Zoo does, or else its best.

    Of a folder of runs, `<algorithm>/<env>_<number>/`, it is that of the latest, where all are of one environment and
    algorithm.

    Raises:
        KDError: The folder has no agent, or several.
    """
    zips = sorted(path for path in folder.glob("*.zip") if path.is_file())
    if not zips:
        zips = _latest_run(folder)
    agents = [path for path in zips if not path.stem.startswith(_NOT_AGENTS)]
    # RL Zoo writes a run's settings into a folder of the agent's own name.
    described = [path for path in agents if path.with_suffix("").is_dir()]
    best = [path for path in zips if path.stem == "best_model"]
    candidates = described or agents or best
    if len(candidates) != 1:
        names = ", ".join(path.name for path in candidates[:5])
        raise KDError(f"{folder}: expected one agent's .zip in this folder, found {names or 'none'}")
    return candidates[0]


def _latest_run(folder: Path) -> list[Path]:
    """The zips of the latest run below a folder of runs; of several environments or algorithms one of each."""
    latest: dict[Path, tuple[int, Path]] = {}
    for path in sorted(folder.glob("*/*/*.zip")):
        number = re.fullmatch(r"(.+)_(\d+)", path.parent.name)
        if number and path.is_file():
            run = path.parent.parent / number.group(1)
            latest[run] = max(latest.get(run, (0, path)), (int(number.group(2)), path.parent))
    zips: list[Path] = []
    for _, run in latest.values():
        zips += sorted(run.glob("*.zip"))
    return zips
