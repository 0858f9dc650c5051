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
    folder = _ROOT.joinpath(*kind.split("."))
    return sorted(path.stem for path in folder.glob("*.py") if not path.stem.startswith("_"))


def load(kind: str, name: str) -> ModuleType:
    """The module of a plug-in.

    Args:
        kind: A folder's dotted name, as in `names`.
        name: The plug-in's, its file's without the ending.

    Raises:
        KDError: There is no such plug-in; the message names the nearest.
    """
    # Only names that were listed are imported, so that "..cli" or "os.path" cannot reach other modules.
    known = names(kind)
    if name not in known:
        noun = _NOUNS.get(kind, kind.removesuffix("s"))
        raise unknown(noun, name, known)
    return import_module(f"kd_agent.{kind}.{name}")
