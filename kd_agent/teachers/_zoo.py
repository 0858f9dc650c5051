"""RL Zoo's settings beside an agent: what its environment was and what was put around it."""

import ast
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeGuard

from kd_agent.environments import Recipe, recipe_of, recorded_id
from kd_agent.environments.wrappers import canonical, is_harmless
from kd_agent.errors import KDError
from kd_agent.settings import check_arguments, read_mapping

# Python's parser may crash on deep nesting, which needs a long text.
_MAX_TEXT = 4_000
_FRAME_STACK = "VecFrameStack"


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
    candidates.append(teacher.parent)
    for folder in candidates:
        if (folder / "config.yml").is_file():
            return folder
    return None


def read_settings(teacher: Path) -> Settings:
    """The settings of a teacher's zip; those of a plain environment where there are none.

    Raises:
        KDError: A file is not plain YAML, or an entry is not understood; the message names it.
    """
    folder = settings_folder(teacher)
    if folder is None:
        return Settings()
    config = read_mapping(folder / "config.yml")
    arguments: Mapping[str, Any] = {}
    if (folder / "args.yml").is_file():
        arguments = read_mapping(folder / "args.yml")
    where = str(folder / "config.yml")
    stacked = _vec_wrappers(config.get("vec_env_wrapper"), where)
    wrappers = _wrappers(config.get("env_wrapper"), where)
    # The command line of the run (args.yml) won over its hyperparameters (config.yml).
    env_kwargs = _mapping(config.get("env_kwargs"), where) | _mapping(arguments.get("env_kwargs"), where)
    frames = config.get("frame_stack") or stacked
    if not isinstance(frames, int) or not 0 < frames <= 64:
        raise KDError(f"{where}: frame_stack {frames!r} is no small whole number")
    env = str(arguments.get("env") or "")
    return Settings(env, env_kwargs, wrappers, frames, _normalised(config, where))


def recipe(teacher: Path, env: str, env_kwargs: Mapping[str, Any]) -> Recipe:
    """The environment that a teacher's zip plays in.

    Args:
        teacher: The zip.
        env: The id asked for; "" for the one that the settings name.
        env_kwargs: Keyword arguments that win over the settings'.

    Raises:
        KDError: Neither names an environment, or an entry is not understood.
    """
    settings = read_settings(teacher)
    where = str(settings_folder(teacher))
    if not env and not settings.env:
        raise KDError(f"{teacher}: does not say what its environment is; name it (--env)")
    # Only what is typed may name a module, and code in an argument.
    env = env or recorded_id(settings.env, "", where)
    kept = {name: value for name, value in settings.env_kwargs.items() if name not in env_kwargs}
    plain = recipe_of(env, {**kept, **env_kwargs})
    check_arguments(kept, plain.env_id, where)
    # A plain Atari game has wrappers and frames of its own accord; settings that name others replace them.
    wrappers = settings.wrappers or plain.wrappers
    frames = settings.frame_stack if settings.frame_stack > 1 else plain.frame_stack
    return replace(plain, wrappers=wrappers, frame_stack=frames)


def literal(text: str, where: str) -> Any:
    """A Python literal, or a call `dict(a=1)` of such; nothing is evaluated.

    Args:
        text: What is written in the settings.
        where: Their file, for messages.

    Raises:
        KDError: The text is anything else.
    """
    try:
        if len(text) > _MAX_TEXT:
            raise ValueError("too long")
        node = ast.parse(text.strip(), mode="eval").body
        if _is_dict_call(node):
            return {str(word.arg): ast.literal_eval(word.value) for word in node.keywords if word.arg}
        return ast.literal_eval(node)
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        raise KDError(f"{where}: {text[:80]!r} is not understood") from None


def _is_dict_call(node: ast.expr) -> TypeGuard[ast.Call]:
    """Whether it is `dict(...)` with keyword arguments alone, as RL Zoo's settings like to write mappings."""
    if not isinstance(node, ast.Call) or node.args:
        return False
    return isinstance(node.func, ast.Name) and node.func.id == "dict"


def _mapping(value: Any, where: str) -> dict[str, Any]:
    """Keyword arguments: nothing, a mapping, its text, or a list of mappings."""
    if value is None:
        return {}
    if isinstance(value, str):
        value = literal(value, where)
    parts = value if isinstance(value, list) else [value]
    merged = {}
    for part in parts:
        if not isinstance(part, dict):
            raise KDError(f"{where}: {str(value)[:80]!r} are no keyword arguments")
        for key, content in part.items():
            merged[str(key)] = content
    return merged


def _wrappers(value: Any, where: str) -> tuple[tuple[str, Mapping[str, Any]], ...]:
    """One wrapper or a list of them, each a name or `{name: keyword arguments}`."""
    if value is None:
        return ()
    items = value if isinstance(value, list) else [value]
    wrappers: list[tuple[str, Mapping[str, Any]]] = []
    for item in items:
        if isinstance(item, dict) and len(item) == 1:
            ((name, kwargs),) = item.items()
        elif isinstance(item, str):
            name, kwargs = item, None
        else:
            raise KDError(f"{where}: the wrapper {str(item)[:80]!r} is not understood")
        if not is_harmless(str(name)):
            wrappers.append((canonical(str(name)), _mapping(kwargs, where)))
    return tuple(wrappers)


def _vec_wrappers(value: Any, where: str) -> int:
    """Frames stacked by wrappers of the vector environment."""
    frames = 1
    for name, kwargs in _wrappers(value, where):
        kind = name.rpartition(".")[2]
        if kind == _FRAME_STACK:
            frames = kwargs.get("n_stack", 1)
        else:
            raise KDError(f"{where}: the vector environment's wrapper {name!r} is not known here")
    return frames


def _normalised(config: Mapping[str, Any], where: str) -> bool:
    """Whether observations were normalised; rewards alone do not concern a policy."""
    value = config.get("normalize", False)
    if isinstance(value, str):
        value = literal(value, where)
    arguments = dict(value) if isinstance(value, dict) else {}
    arguments |= _mapping(config.get("normalize_kwargs"), where)
    return bool(value) and bool(arguments.get("norm_obs", True))
