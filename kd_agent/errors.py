"""Errors a user can cause, and the words that help out of them."""

import re
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from pathlib import Path

_SHOWN = 12
"""Choices listed where none is near: a message stays one line."""
_LONGEST = 80
"""Characters of a wrong name that a message repeats."""

_SHARED = re.compile(r"^-+|-v\d+$")
"""What many names have in common, a flag's dashes and an environment's version: it makes no two of them alike."""
_ALIKE = 0.7
"""Share of equal letters from which two names are near (difflib's ratio)."""
_ALIKE_SHORT = 0.5
"""Of names of up to three letters: one of two, or two of three."""


class KDError(Exception):
    """A wrong input; the message is one line that names it and what was expected."""

    def __init__(self, message: str = "") -> None:
        # A space of several axes, or another library's reason, is printed over several lines.
        one_line = " ".join(message.split()) if "\n" in message else message
        super().__init__(one_line)


class Stopped(KeyboardInterrupt):
    """A run was stopped, by Ctrl-C or by a signal.

    Args:
        folder: Where it was writing.
        why: What the interrupt said.

    Attributes:
        folder: Where it was writing.
    """

    def __init__(self, folder: Path, *why: object) -> None:
        super().__init__(*why)
        self.folder = folder

    def __str__(self) -> str:
        return f"stopped while writing {self.folder}"


def unknown(what: str, name: object, choices: Iterable[str]) -> KDError:
    """Error for a name that is not among `choices`, with the nearest valid one.

    Args:
        what: What the name stands for, as a noun ("loss", "environment").
        name: The name given.
        choices: The valid names.
    """
    options = sorted(choices)
    given = str(name)
    said = repr(given if len(given) <= _LONGEST else f"{given[:_LONGEST]}...")
    if not options:
        return KDError(f"unknown {what} {said}; there is none to choose")
    close = nearest(given, options)
    if close:
        return KDError(f"unknown {what} {said}; did you mean {close!r}?")
    shown = ", ".join(options[:_SHOWN])
    if len(options) > _SHOWN:
        shown += ", ..."
    return KDError(f"unknown {what} {said}; choose from: {shown}")


def nearest(name: str, options: Sequence[str]) -> str | None:
    """The option that was probably meant; None where none is near.

    Args:
        name: The name given.
        options: The valid names.
    """
    meant = _SHARED.sub("", name)
    parts = {option: _SHARED.sub("", option) for option in options}
    cutoff = _ALIKE_SHORT if len(meant) <= 3 else _ALIKE
    close = get_close_matches(meant, set(parts.values()), n=1, cutoff=cutoff)
    # A beginning is near too, however much is missing.
    close += sorted(part for part in parts.values() if len(meant) > 3 and part.startswith(meant))
    if not close:
        return None
    versions = [option for option in options if parts[option] == close[0]]
    return get_close_matches(name, versions, n=1, cutoff=0)[0]
