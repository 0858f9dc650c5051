"""Errors a user can cause, and the words that help out of them."""

from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path

_SHOWN = 12
"""Choices listed where none is near: a message stays one line."""


class KDError(Exception):
    """A wrong input; the message is one line that names it and what was expected."""


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
    # difflib's own cutoff of 0.6 misses short names with one letter wrong ("kk" for "kl").
    close = get_close_matches(str(name), options, n=1, cutoff=0.5)
    if close:
        return KDError(f"unknown {what} {str(name)!r}; did you mean {close[0]!r}?")
    shown = ", ".join(options[:_SHOWN])
    if len(options) > _SHOWN:
        shown += ", ..."
    return KDError(f"unknown {what} {str(name)!r}; choose from: {shown}")
