"""The directory is the registry: a file `kd_agent/<kind>/<name>.py` is the plug-in `<name>`.

Nothing is imported until it is asked for, and adding a plug-in edits no other file.
"""

from importlib import import_module
from pathlib import Path
from types import ModuleType

from kd_agent.errors import unknown

_ROOT = Path(__file__).parent
_NOUNS = {"losses": "loss", "teachers.combine": "combine"}
"""What one plug-in of a kind is called, where that is not the kind without its s."""


def names(kind: str) -> list[str]:
    """Sorted names of the plug-ins of one kind, a folder's dotted name ("losses", "teachers.combine", ...)."""
    return sorted(p.stem for p in _ROOT.joinpath(*kind.split(".")).glob("*.py") if not p.stem.startswith("_"))


def load(kind: str, name: str) -> ModuleType:
    """The module of a plug-in.

    Raises:
        KDError: There is no such plug-in; the message names the nearest.
    """
    if name not in names(kind):
        raise unknown(_NOUNS.get(kind, kind.removesuffix("s")), name, names(kind))
    return import_module(f"kd_agent.{kind}.{name}")
