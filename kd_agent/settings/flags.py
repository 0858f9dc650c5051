"""Flags from settings: every field is one, by its own name."""

import argparse
from collections.abc import Sequence
from dataclasses import MISSING, fields
from types import UnionType
from typing import Annotated, Any, NoReturn, TypeVar, Union, get_args, get_origin

from kd_agent.errors import KDError, unknown
from kd_agent.settings.resolve import nested, resolve

T = TypeVar("T")


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise KDError(message)


def parse(command: str, cls: type[T], summary: str, argv: Sequence[str]) -> T:
    """The settings of a command.

    Args:
        command: Its name.
        cls: Its settings class; a `student` without a default is a file, named without a flag.
        summary: What it does, in a line.
        argv: What stands behind it on the command line.

    Raises:
        KDError: A flag, a value or a file is wrong.
    """
    parser = _Parser(prog=f"kd-agent {command}", description=summary, allow_abbrev=False)
    if _names_student(cls):
        parser.add_argument("student", help="a saved student, *.safetensors", default=argparse.SUPPRESS, nargs="?")
    else:
        parser.add_argument("--config", metavar="FILE", help="YAML over the environment's own settings")
    _add_flags(parser, cls, "")
    given, rest = parser.parse_known_args(argv)
    if rest:
        flags = [option for action in parser._actions for option in action.option_strings]
        raise unknown("flag" if rest[0].startswith("-") else "argument", rest[0].partition("=")[0], flags)
    values = {k: v for k, v in vars(given).items() if k != "config"}
    return resolve(cls, _unflatten(values), getattr(given, "config", None))


def _names_student(cls: Any) -> bool:
    return any(f.name == "student" and f.default is MISSING for f in fields(cls))


def _add_flags(parser: argparse.ArgumentParser, cls: Any, prefix: str) -> None:
    """A flag for each field: `--env-steps`, and `--training.total-steps` for nested settings."""
    inner = nested(cls)
    for f in fields(cls):
        name = f"{prefix}{f.name}"
        if f.name in inner:
            _add_flags(parser, get_args(f.type)[0], f"{name}.")
        elif name != "student" or not _names_student(cls):
            _add_flag(parser, f"--{name.replace('_', '-')}", name, f)


def _add_flag(parser: argparse.ArgumentParser, flag: str, name: str, f: Any) -> None:
    annotation, info = get_args(f.type)[0], get_args(f.type)[-1]
    shared: dict[str, Any] = {"dest": name, "default": argparse.SUPPRESS, "help": _help(info.description, f)}
    if annotation is bool:
        parser.add_argument(flag, action=argparse.BooleanOptionalAction, **shared)
    elif _holds_several(annotation):
        parser.add_argument(flag, nargs="+", metavar=f.name.upper(), **shared)
    else:
        parser.add_argument(flag, metavar=f.name.upper(), **shared)


def _help(description: str, f: Any) -> str:
    default = f.default if isinstance(f.default, bool | int | float | str | tuple) else None
    shown = " ".join(map(str, default)) if isinstance(default, tuple) else default
    return description.replace("%", "%%") + (f" ({shown})" if shown not in (None, "", False, True) else "")


def _holds_several(annotation: Any) -> bool:
    origin = get_origin(annotation)
    if origin in (Union, UnionType, Annotated):
        return any(_holds_several(part) for part in get_args(annotation))
    return origin in (tuple, dict)


def _unflatten(values: dict[str, Any]) -> dict[str, Any]:
    """`{"a.b": 1}` as `{"a": {"b": 1}}`."""
    result: dict[str, Any] = {}
    for name, value in values.items():
        owner, _, key = name.rpartition(".")
        (result.setdefault(owner, {}) if owner else result)[key] = value
    return result
