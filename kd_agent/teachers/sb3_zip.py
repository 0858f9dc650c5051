"""Teachers from Stable-Baselines3 zips, old or new, translated into PolicyGraphs without running them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kd_agent.environments import Recipe
from kd_agent.environments.own_wrappers import NO_WRAPPERS, TypedWrappers
from kd_agent.networks import Teacher
from kd_agent.settings import names_recording
from kd_agent.teachers import _fitting, _trusted, _zoo
from kd_agent.teachers._agent import evidence_of, own_spaces, spaces_of_agent, teacher_of
from kd_agent.teachers._archive import MEMBERS, NotUnderstoodError, read
from kd_agent.teachers._checkpoint import SUFFIXES
from kd_agent.teachers._request import Request
from kd_agent.teachers._statistics_search import find_statistics

_ZIP = b"PK\x03\x04"


def accepts(source: Any) -> bool:
    """Whether this plug-in reads `source`."""
    # An .npz of arrays is a zip too.
    return isinstance(source, str) and not names_recording([source]) and locate(source) is not None


def locate(source: str) -> Path | None:
    """The agent that a path names; None where it names none.

    That is a zip, with or without `.zip` in its name or in the path as Stable-Baselines3 has it, or the folder that
    somebody unpacked one into.
    """
    if source.endswith(".zip"):
        return Path(source)
    # pathlib takes an empty name, of a shell's unset variable say, for the working folder.
    if not source:
        return None
    path = Path(source)
    if path.is_dir():
        if all((path / name).is_file() for name in MEMBERS):
            return path
        # A folder with zips of its own is an RL Zoo run; one without is at most the settings of the zip beside it.
        if any(path.glob("*.zip")):
            return None
    if path.is_file() and not source.endswith(SUFFIXES) and _begins_as_zip(path):
        return path
    beside = Path(f"{source}.zip")
    return beside if beside.is_file() else None


def load(source: str, request: Request) -> Teacher:
    """Load a teacher.

    Args:
        source: Path of the zip, or of the folder that it was unpacked into.
        request: How it is asked for.

    Raises:
        KDError: The zip is damaged, not understood, or does not fit; one line.
    """
    archive = read(locate(source) or source)
    try:
        return teacher_of(archive, request)
    except NotUnderstoodError:
        if not request.trust_teacher:
            raise
    _, spaces = spaces_of_agent(archive, request.env)
    statistics = find_statistics(evidence_of(archive, spaces[0]), request)
    return _trusted.load(archive, spaces, statistics or {})


def recipe(source: str, env: str, env_kwargs: Mapping[str, Any], typed: TypedWrappers = NO_WRAPPERS) -> Recipe:
    """The environment that a teacher plays in: as its RL Zoo settings say, or else as its own size tells.

    Args:
        source: Path of the zip, or of the folder that it was unpacked into.
        env: The id asked for; "" for the one that the settings name.
        env_kwargs: Keyword arguments that win over the settings'.
        typed: Wrappers that were typed: those of the settings are allowed by them, the others put around.

    Raises:
        KDError: The zip or its settings cannot be read, or name no environment that is known here.
    """
    agent = locate(source) or Path(source)
    named = typed.around(_zoo.recipe(agent, env, env_kwargs))
    observation_space, _ = own_spaces(read(agent))
    return _fitting.fit(named, observation_space, source)


def _begins_as_zip(path: Path) -> bool:
    """Whether a file without the name of one is a zip."""
    try:
        with path.open("rb") as file:
            return file.read(len(_ZIP)) == _ZIP
    except OSError:
        return False
