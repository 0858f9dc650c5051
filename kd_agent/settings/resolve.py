"""Settings: YAML, command line and Python use the same names and one validator.

Layers, later ones win: the defaults in `settings`, `configs/<env>.yaml`, `--config FILE`, flags; how a teacher is
trained comes from `configs/<teacher_env>.yaml` first, where there is one. A resumed run starts from the settings in
its own folder instead of the first two.
"""

import functools
import glob
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import TypeAdapter, ValidationError
from pydantic_core import PydanticSerializationError

from kd_agent.errors import KDError, unknown
from kd_agent.settings.distill import DistillConfig
from kd_agent.settings.typed import check_file
from kd_agent.settings.yaml_file import read_mapping

T = TypeVar("T")
_UNION_BRANCH = re.compile(r"constrained-|literal\[|function-")
"""What pydantic puts between a field's name and a wrong value where several types are allowed."""

POSITIONAL = {"student": "its file, *.safetensors,", "run": "its folder", "source": "its file or folder"}
"""Settings that are typed without a flag, and how to name one."""
_SHOWN = 200
"""Characters of a wrong value that a message shows."""


def resolve(cls: type[T], settings: Mapping[str, Any], config_file: str | None = None) -> T:
    """Merge the layers and validate.

    Args:
        cls: The settings class.
        settings: The flags or keyword arguments (nested mappings for nested settings).
        config_file: A YAML file between the environment's own and `settings`, as `find_config` finds it.

    Returns:
        Settings in which a module is named, or a teacher trusted, only where `settings` do so: files cannot.

    Raises:
        KDError: A key is unknown, a value is wrong, or a file cannot be read; one line.
    """
    file: dict[str, Any] = {}
    if config_file:
        file = check_file(read_mapping(find_config(config_file)), config_file, settings, resumes=False)
    layers = [_lowest_layer(cls, file, settings), file, settings]
    merged = _merged(layers)
    teacher_env = merged.get("teacher_env")
    if isinstance(teacher_env, str):
        # A teacher of another environment is trained as that one asks; everything else is the student's.
        training = env_defaults(teacher_env).get("training", {})
        merged = _merged([{"training": training}, *layers])
    return validate(cls, _select(cls, merged, set(settings)))


def _lowest_layer(cls: Any, file: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """What a resumed run was told before; of a new one, what is shipped for its environment."""
    recorded = Path(str(settings.get("out"))) / "config.yaml"
    if settings.get("resume") and recorded.is_file():
        told = check_file(read_mapping(recorded), recorded, settings, resumes=True)
        _check_complete(cls, told, recorded)
        return told
    env = settings.get("env", file.get("env"))
    # What is no name at all is refused when the settings are validated.
    return env_defaults(env) if isinstance(env, str) else {}


def _check_complete(cls: Any, told: Mapping[str, Any], path: Path) -> None:
    """Require every setting of a run to be in its file: defaults in their place would begin another run."""
    kept = DistillConfig if issubclass(cls, DistillConfig) else cls
    for f in fields(kept):
        # What is None by default is told as nothing, and newer settings are.
        if f.name not in told and f.default is not None:
            raise KDError(f"{path}: damaged: it lacks {f.name}")


def validate(cls: type[T], values: Mapping[str, Any]) -> T:
    """Settings from plain values.

    Args:
        cls: The settings class.
        values: Values by the fields' names, as YAML or a command line has them.

    Raises:
        KDError: A name or a value is wrong; one line.
    """
    try:
        return TypeAdapter(cls).validate_python(dict(values))
    except ValidationError as error:
        raise _one_line(cls, error) from None


def env_defaults(env: str) -> dict[str, Any]:
    """The settings shipped for an environment, or for another version of it (empty where there are none)."""
    name = env.rpartition(":")[2].replace("/", "-")
    family, version, _ = name.rpartition("-v")
    shipped = [config_folder() / f"{name}.yaml"]
    if version:
        # An id comes from the user: `*-v1` is a name like any other, not every file.
        shipped += sorted(config_folder().glob(f"{glob.escape(family)}-v*.yaml"))
    for path in shipped:
        if path.is_file():
            return check_file(read_mapping(path), path, (), resumes=False)
    return {}


def config_folder() -> Path:
    """Where the shipped settings lie: inside an installed package, or beside it in a checkout."""
    package = Path(__file__).parent.parent
    inside = package / "configs"
    return inside if inside.is_dir() else package.parent / "configs"


def find_config(name: str) -> Path:
    """A file of settings: one that is there, or else a shipped one by its name, `methods/hint.yaml` from any folder.

    Args:
        name: A path, or the name below the shipped settings' folder, with or without `configs/` and `.yaml`.

    Raises:
        KDError: There is neither; the message names the nearest shipped one.
    """
    path = Path(name)
    if path.exists():
        return path
    folder = config_folder()
    shipped = {file.relative_to(folder).as_posix(): file for file in folder.rglob("*.yaml")}
    short = path.as_posix().removeprefix("configs/").removesuffix(".yaml")
    found = shipped.get(f"{short}.yaml")
    if found:
        return found
    near = get_close_matches(f"{short}.yaml", shipped, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise KDError(f"{name}: there is no such file, and none is shipped under this name{hint}")


def to_yaml(config: Any) -> str:
    """The settings, fully resolved, as YAML that `resolve` reads back."""
    return yaml.safe_dump(plain(config), sort_keys=False)


def plain(config: Any) -> dict[str, Any]:
    """Settings as JSON-able data.

    Raises:
        KDError: An environment's keyword argument is an object, which no file can hold.
    """
    try:
        return dict(TypeAdapter(type(config)).dump_python(config, mode="json"))
    except PydanticSerializationError as error:
        raise KDError(
            f"env_kwargs should be plain values, for the run's files hold them ({error}); "
            "an environment registered under an id of its own can be made with any others"
        ) from None


def shared_settings(config: Any, **more: Any) -> DistillConfig:
    """What another command's settings share with a distillation's, as those.

    Args:
        config: Settings of another class.
        more: What is to be said beside.
    """
    known = {field.name for field in fields(config)}
    shared = {field.name: getattr(config, field.name) for field in fields(DistillConfig) if field.name in known}
    return DistillConfig(**{**shared, **more})


def nested(cls: Any) -> dict[str, Any]:
    """The fields of a settings class that are settings classes themselves."""
    return {f.name: f.type for f in fields(cls) if is_dataclass(_bare(f.type))}


def _bare(annotation: Any) -> Any:
    return get_args(annotation)[0] if hasattr(annotation, "__metadata__") else annotation


def _merged(layers: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    return functools.reduce(_merge, layers, {})


def _merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    merged = {**base, **over}
    # Of all mappings only `training` is a group of settings, merged name by name. The others are values: a loss of
    # `js` replaces one of `kl`, it is not added to it.
    lower = base.get("training")
    upper = over.get("training")
    if isinstance(lower, dict) and isinstance(upper, dict):
        merged["training"] = {**lower, **upper}
    return merged


def _select(cls: Any, merged: Mapping[str, Any], required: Iterable[str]) -> dict[str, Any]:
    """Drop what a file says to other commands; never what was asked for by name."""
    elsewhere = _names(DistillConfig) - _names(cls) - set(required)
    return {key: value for key, value in merged.items() if key not in elsewhere}


def _names(cls: Any) -> set[str]:
    return {f.name for f in fields(cls)}


def _one_line(cls: Any, error: ValidationError) -> KDError:
    # Where one value fits none of several types, pydantic tells of each; the first is the field's main one.
    first = error.errors()[0]
    path = [str(part) for part in first["loc"] if not _UNION_BRANCH.match(str(part))]
    name = ".".join(path)
    if first["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
        return unknown("setting", path[-1], _names(_owner(cls, path)))
    if first["type"] in ("missing", "missing_argument"):
        return KDError(f"{name} is missing ({_how_to_name(cls, name)})")
    message = first["msg"]
    got = repr(first["input"])
    if len(got) > _SHOWN:
        got = f"{got[:_SHOWN]}..."
    return KDError(f"{name}: {message[0].lower()}{message[1:]} (got {got})")


def positional(cls: Any) -> str | None:
    """The setting that a command is told without a flag, one of `POSITIONAL` that has no default; None: none is.

    For other commands a student is a kind of student, or nothing.
    """
    for f in fields(cls):
        if f.name in POSITIONAL and f.default is MISSING:
            return f.name
    return None


def _how_to_name(cls: Any, name: str) -> str:
    """What to type for a setting that has no default."""
    if name == positional(cls):
        return f"name {POSITIONAL[name]} behind the command"
    return f"--{name.replace('_', '-')}"


def _owner(cls: Any, path: Sequence[str]) -> Any:
    """The settings class that the last name of a path was looked for in."""
    inner = nested(cls)
    if len(path) > 1 and path[0] in inner:
        return _bare(inner[path[0]])
    return cls
