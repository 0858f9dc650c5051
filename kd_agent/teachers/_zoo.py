"""RL Zoo's settings beside an agent: what its environment was and what was put around it."""

import ast
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kd_agent.environments import Recipe, recipe_of
from kd_agent.errors import KDError
from kd_agent.settings import read_mapping

_MAX_TEXT = 4_000
_FRAME_STACK = "VecFrameStack"
_HARMLESS = ("VecMonitor",)


@dataclass(frozen=True)
class Settings:
    """What the settings say.

    Attributes:
        env: The environment's id ("" if they do not say).
        env_kwargs: Its keyword arguments.
        wrappers: Names and keyword arguments of its wrappers, the innermost first.
        frame_stack: How many observations are shown side by side.
        normalised: Whether observations were normalised (VecNormalize).
    """

    env: str = ""
    env_kwargs: Mapping[str, Any] = field(default_factory=dict)
    wrappers: tuple[tuple[str, Mapping[str, Any]], ...] = ()
    frame_stack: int = 1
    normalised: bool = False


def settings_folder(teacher: Path) -> Path | None:
    """Where the settings of a teacher's zip lie: the folder of its name, or its own; None where there are none.

    A best model or a checkpoint has those of the run that it lies in.
    """
    candidates = [teacher.with_suffix("")]
    if teacher.stem.startswith(("best_model", "rl_model")):
        candidates += sorted(path.parent for path in teacher.parent.glob("*/config.yml"))
    return next((folder for folder in (*candidates, teacher.parent) if (folder / "config.yml").is_file()), None)


def read_settings(teacher: Path) -> Settings:
    """The settings of a teacher's zip; those of a plain environment where there are none.

    Raises:
        KDError: A file is not plain YAML, or an entry is not understood; the message names it.
    """
    folder = settings_folder(teacher)
    if folder is None:
        return Settings()
    config = read_mapping(folder / "config.yml")
    arguments = read_mapping(folder / "args.yml") if (folder / "args.yml").is_file() else {}
    where = str(folder / "config.yml")
    stacks, named = _vec_wrappers(config.get("vec_env_wrapper"), where), _wrappers(config.get("env_wrapper"), where)
    kwargs = _mapping(config.get("env_kwargs"), where) | _mapping(arguments.get("env_kwargs"), where)
    frames = config.get("frame_stack") or stacks
    if not isinstance(frames, int) or not 0 < frames <= 64:
        raise KDError(f"{where}: frame_stack {frames!r} is no small whole number")
    return Settings(str(arguments.get("env") or ""), kwargs, named, frames, _normalised(config, where))


def recipe(teacher: Path, env: str, env_kwargs: Mapping[str, Any]) -> Recipe:
    """The environment that a teacher's zip plays in.

    Args:
        teacher: The zip.
        env: The id asked for; "" for the one that the settings name.
        env_kwargs: Keyword arguments that win over the settings'.
    """
    found = read_settings(teacher)
    if not (env or found.env):
        raise KDError(f"{teacher}: does not say what its environment is; name it (--env)")
    plain = recipe_of(env or found.env, {**found.env_kwargs, **env_kwargs})
    return Recipe(plain.env_id, plain.env_kwargs, found.wrappers or plain.wrappers,
                  found.frame_stack if found.frame_stack > 1 else plain.frame_stack)  # fmt: skip


def literal(text: str, where: str) -> Any:
    """A Python literal, or a call `dict(a=1)` of such; nothing is evaluated.

    Raises:
        KDError: The text is anything else.
    """
    try:
        if len(text) > _MAX_TEXT:
            raise ValueError("too long")
        node = ast.parse(text.strip(), mode="eval").body
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "dict" and not node.args:
            return {str(word.arg): ast.literal_eval(word.value) for word in node.keywords if word.arg}
        return ast.literal_eval(node)
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        raise KDError(f"{where}: {text[:80]!r} is not understood") from None


def _mapping(value: Any, where: str) -> dict[str, Any]:
    """Keyword arguments: nothing, a mapping, its text, or a list of mappings."""
    if value is None:
        return {}
    value = literal(value, where) if isinstance(value, str) else value
    parts = value if isinstance(value, list) else [value]
    if not all(isinstance(part, dict) for part in parts):
        raise KDError(f"{where}: {str(value)[:80]!r} are no keyword arguments")
    return {str(key): content for part in parts for key, content in part.items()}


def _wrappers(value: Any, where: str) -> tuple[tuple[str, Mapping[str, Any]], ...]:
    """One wrapper or a list of them, each a name or `{name: keyword arguments}`."""
    items = value if isinstance(value, list) else [] if value is None else [value]
    found: list[tuple[str, Mapping[str, Any]]] = []
    for item in items:
        if isinstance(item, dict) and len(item) == 1:
            ((name, kwargs),) = item.items()
            found.append((str(name), _mapping(kwargs, where)))
        elif isinstance(item, str):
            found.append((item, {}))
        else:
            raise KDError(f"{where}: the wrapper {str(item)[:80]!r} is not understood")
    return tuple(found)


def _vec_wrappers(value: Any, where: str) -> int:
    """Frames stacked by wrappers of the vector environment."""
    frames = 1
    for name, kwargs in _wrappers(value, where):
        kind = name.rpartition(".")[2]
        if kind == _FRAME_STACK:
            frames = kwargs.get("n_stack", 1)
        elif kind not in _HARMLESS:
            raise KDError(f"{where}: the vector environment's wrapper {name!r} is not known here")
    return frames


def _normalised(config: Mapping[str, Any], where: str) -> bool:
    value = config.get("normalize", False)
    value = literal(value, where) if isinstance(value, str) else value
    more = {**(value if isinstance(value, dict) else {}), **_mapping(config.get("normalize_kwargs"), where)}
    return bool(value) and bool(more.get("norm_obs", True))
