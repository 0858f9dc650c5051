"""What a typed word alone may say: which code runs. A file is read for this, and never obeyed.

Typed is what stands on the command line, or is handed to a Python function by its caller. Settings that come out of
`resolve` therefore name a module, or trust a teacher, only where somebody typed it. Whatever else is read (a student's
file, RL Zoo's settings) comes through `registered` and `check_arguments`.
"""

import re
import sys
from collections.abc import Collection, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from kd_agent.errors import KDError

OURS = ("kd_envs", "ale_py")
"""Modules that this package imports by itself."""
_TRUST = ("trust_teacher",)
"""Settings that let foreign code run."""
_WRAPPERS = ("wrapper", "teacher_wrapper")
"""Settings that name classes, which are imported."""
_ENVIRONMENTS = ("env", "teacher_env", "tasks")
"""Settings that may name a module, as Gymnasium does it: `module:Id`."""
_CODE = re.compile(r"([A-Za-z_]\w*)(\.\w+)*[.:]\w[\w./-]*")
"""A text like `module:Id` or `package.module.Class`."""


def check_file(values: Mapping[str, Any], path: str | Path, typed: Collection[str], *, resumes: bool) -> dict[str, Any]:
    """The settings of a file, less the modules that they need not name.

    Args:
        values: What the file says.
        path: The file, for messages.
        typed: Names of the settings that were typed, which win over the file's.
        resumes: Whether it is the file of a run that goes on, whose settings must stay as they were.

    Raises:
        KDError: It trusts a teacher, or names a module that would have to be imported; the message names the flag.
    """
    checked = dict(values)
    untyped = values.keys() - set(typed)
    again = ", as when the run was begun" if resumes else ""
    for name in untyped.intersection(_TRUST):
        # Whatever is not plainly False: a validator takes `yes`, `on` and 1 for True.
        if values[name] is not False:
            raise KDError(
                f"{path}: {name} runs the code in a teacher, and counts where it is typed{again}: {_flag(name)}"
            )
    for name in untyped.intersection(_WRAPPERS):
        if values[name]:
            words = values[name] if isinstance(values[name], list) else [values[name]]
            named = " ".join(map(str, words))
            raise KDError(f"{path}: {name} runs code, and counts where it is typed{again}: {_flag(name)} {named}")
    for name in untyped.intersection(_ENVIRONMENTS):
        try:
            checked[name] = _checked_names(values[name], resumes=resumes)
        except _UntypedError as error:
            raise KDError(
                f"{path}: {name} names the module of {error}, which is imported where it is typed{again}: "
                f"{_flag(name)} {error}"
            ) from None
    if "env_kwargs" in untyped:
        check_arguments(values["env_kwargs"], str(values.get("env")), str(path))
    return checked


def registered(env_id: str) -> str | None:
    """The id without its module where Gymnasium knows it; nothing is imported for it.

    Args:
        env_id: `Id`, or `module:Id`.
    """
    # Late: whoever wants help, or trains nothing, is not to wait for Gymnasium.
    import gymnasium as gym  # noqa: PLC0415

    name = env_id.rpartition(":")[2]
    if name in gym.registry:
        return name
    return None


def check_arguments(arguments: Any, env_id: str, where: str) -> None:
    """Refuse arguments of an environment that name code, which many an environment would import by that name.

    Args:
        arguments: Keyword arguments that stand in a file.
        env_id: The environment's id; its own package may be named.
        where: The file, for the message.

    Raises:
        KDError: One names a module that could be imported.
    """
    for text in _texts(arguments):
        named = _CODE.fullmatch(text)
        if not named:
            continue
        package = named.group(1)
        if _can_be_imported(package) and package != _package_of(env_id):
            raise KDError(f"{where}: the argument {text[:80]!r} names code, which runs where it is typed: --env-kwargs")


class _UntypedError(Exception):
    """An id whose module would have to be imported."""


def _checked_names(value: Any, *, resumes: bool) -> Any:
    if isinstance(value, list):
        return [_checked_names(item, resumes=resumes) for item in value]
    # What is no name at all is refused when the settings are validated.
    if not isinstance(value, str) or ":" not in value:
        return value
    module = value.rpartition(":")[0]
    if module in OURS:
        return value
    known = registered(value)
    # Where the module has been imported by the caller, importing it once more runs nothing.
    if known and module in sys.modules:
        return value
    if known and not resumes:
        return known
    raise _UntypedError(value)


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _texts(value: Any) -> list[str]:
    """All texts in plain data."""
    texts = []
    # A list of what is still to be looked at, because files may nest deeper than Python calls.
    rest = [value]
    while rest:
        part = rest.pop()
        if isinstance(part, str):
            texts.append(part)
        elif isinstance(part, Mapping):
            rest += [*part.keys(), *part.values()]
        elif isinstance(part, list | tuple):
            rest += part
    return texts


def _package_of(env_id: str) -> str:
    """The package that a registered environment comes from; "" where that is not known."""
    import gymnasium as gym  # noqa: PLC0415

    spec = gym.registry.get(env_id.rpartition(":")[2])
    if spec is None:
        return ""
    entry = spec.entry_point
    module = entry if isinstance(entry, str) else getattr(entry, "__module__", "")
    return re.split(r"[.:]", module, maxsplit=1)[0]


def _can_be_imported(package: str) -> bool:
    """Whether there is such a package; looking for a name without dots imports nothing."""
    try:
        return find_spec(package) is not None
    except ValueError:
        # `__main__` is there, but was not found by a search.
        return True
