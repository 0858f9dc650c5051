"""Errors a user can cause, and the words that help out of them."""

from collections.abc import Iterable
from difflib import get_close_matches

_SHOWN = 12
"""Choices listed where none is near: a message stays one line."""


class KDError(Exception):
    """A wrong input; the message is one line that names it and what was expected."""

    def __init__(self, message: str = "") -> None:
        # A space of several axes, or another library's reason, is printed over several lines.
        one_line = " ".join(message.split()) if "\n" in message else message
        super().__init__(one_line)


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
