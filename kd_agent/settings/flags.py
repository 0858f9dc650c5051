"""Flags from settings: every field is one, by its own name."""

import argparse
from collections.abc import Sequence
from dataclasses import fields
from types import UnionType
from typing import Annotated, Any, NoReturn, TypeVar, Union, get_args, get_origin

from kd_agent.errors import KDError, unknown
from kd_agent.settings.resolve import nested, positional, resolve

T = TypeVar("T")


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are the package's own: argparse would print its usage and end the process."""

    def error(self, message: str) -> NoReturn:
        raise KDError(message)


def parse(command: str, cls: type[T], summary: str, argv: Sequence[str]) -> T:
    """The settings of a command.

    Args:
        command: Its name.
        cls: Its settings class; what `resolve.positional` says is named without a flag.
        summary: What it does, in a line.
        argv: What stands behind it on the command line.

    Raises:
        KDError: A flag, a value or a file is wrong.
    """
    # No abbreviations: `--hidden` must not come to mean another setting when one is added that begins alike.
    parser = _Parser(prog=f"kd-agent {command}", description=summary, allow_abbrev=False)
    first = positional(cls)
    if first:
        count = "*" if _holds_several(get_args(_field(cls, first).type)[0]) else "?"
        parser.add_argument(first, help=_description(cls, first), default=argparse.SUPPRESS, nargs=count)
    else:
        parser.add_argument("--config", metavar="FILE", help="YAML over the environment's own settings")
    _add_flags(parser, cls, "")
    # argparse's own answer to an unknown flag has no nearest valid one.
    parsed, unread = parser.parse_known_args(argv)
    if unread:
        raise _unknown_word(parser, cls, unread[0])
    values = dict(vars(parsed))
    config_file = values.pop("config", None)
    return resolve(cls, _unflatten(values), config_file)


def _unknown_word(parser: argparse.ArgumentParser, cls: Any, word: str) -> KDError:
    name = word.partition("=")[0]
    first = positional(cls)
    if first and name == f"--{first}":
        return KDError(
            f"unknown flag {name!r}: {_description(cls, first)}, is named without one: {parser.prog} {first.upper()}"
        )
    # No flag is near a word that is none: it is a value too many, or stands behind a flag that takes none.
    if not word.startswith("-"):
        return KDError(f"unknown argument {name!r}: no flag takes it; --help lists them")
    flags: list[str] = []
    for action in parser._actions:
        flags.extend(action.option_strings)
    return unknown("flag", name, flags)


def _add_flags(parser: argparse.ArgumentParser, cls: Any, prefix: str) -> None:
    """A flag for each field: `--env-steps`, and `--training.total-steps` for nested settings."""
    inner = nested(cls)
    for f in fields(cls):
        name = f"{prefix}{f.name}"
        if f.name in inner:
            _add_flags(parser, get_args(f.type)[0], f"{name}.")
        elif name != positional(cls):
            _add_flag(parser, f"--{name.replace('_', '-')}", name, f)


def _add_flag(parser: argparse.ArgumentParser, flag: str, name: str, f: Any) -> None:
    annotation = get_args(f.type)[0]
    info = get_args(f.type)[-1]
    # A flag that is absent leaves no value at all, so that it cannot overrule a file by its default.
    shared: dict[str, Any] = {"dest": name, "default": argparse.SUPPRESS, "help": _help(info.description, f)}
    if annotation in (bool, bool | None):
        parser.add_argument(flag, action=argparse.BooleanOptionalAction, **shared)
    elif f.name.endswith("wrapper"):
        # Repeated or side by side: wrappers add up, while of any other flag the last one counts.
        parser.add_argument(flag, nargs="+", action="extend", metavar="MODULE:CLASS", **shared)
    elif _holds_several(annotation):
        parser.add_argument(flag, nargs="+", metavar=f.name.upper(), **shared)
    else:
        parser.add_argument(flag, metavar=f.name.upper(), **shared)


def _description(cls: Any, name: str) -> str:
    """What a setting's class says of it."""
    return str(get_args(_field(cls, name).type)[-1].description)


def _field(cls: Any, name: str) -> Any:
    """A setting of a class."""
    [field] = [f for f in fields(cls) if f.name == name]
    return field


def _help(description: str, f: Any) -> str:
    # argparse formats help by `%`.
    escaped = description.replace("%", "%%")
    default = f.default
    if isinstance(default, tuple):
        default = " ".join(map(str, default))
    # What is off or empty unless it is asked for needs no default in words.
    if isinstance(default, bool) or not isinstance(default, int | float | str) or default == "":
        return escaped
    return f"{escaped} ({default})"


def _holds_several(annotation: Any) -> bool:
    origin = get_origin(annotation)
    if origin in (Union, UnionType, Annotated):
        return any(map(_holds_several, get_args(annotation)))
    return origin in (tuple, dict)


def _unflatten(values: dict[str, Any]) -> dict[str, Any]:
    """`{"a.b": 1}` as `{"a": {"b": 1}}`."""
    result: dict[str, Any] = {}
    for name, value in values.items():
        owner, _, key = name.rpartition(".")
        group = result.setdefault(owner, {}) if owner else result
        group[key] = value
    return result
