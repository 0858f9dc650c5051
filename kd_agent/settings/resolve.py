"""Settings: YAML, command line and Python use the same names and one validator.

Layers, later ones win: the defaults in `settings`, `configs/<env>.yaml`, `--config FILE`, flags; how a teacher is
trained comes from `configs/<teacher_env>.yaml` first, where there is one. A resumed run starts from the settings in
its own folder instead of the first two.
"""

import functools
import glob
import re
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import TypeAdapter, ValidationError

from kd_agent.errors import KDError, unknown
from kd_agent.settings.distill import DistillConfig
from kd_agent.settings.yaml_file import read_mapping

T = TypeVar("T")
_UNION_BRANCH = re.compile(r"constrained-|literal\[|function-")
"""What pydantic puts between a field's name and a wrong value where several types are allowed."""


def resolve(cls: type[T], settings: Mapping[str, Any], config_file: str | None = None) -> T:
    """Merge the layers and validate.

    Args:
        cls: The settings class.
        settings: The flags or keyword arguments (nested mappings for nested settings).
        config_file: A YAML file between the environment's own and `settings`.

    Raises:
        KDError: A key is unknown, a value is wrong, or a file cannot be read; one line.
    """
    given = read_mapping(config_file) if config_file else {}
    env = settings.get("env", given.get("env"))
    begun = Path(str(settings.get("out"))) / "config.yaml"
    if settings.get("resume") and begun.is_file():
        layers = [read_mapping(begun), given, settings]
    else:
        layers = [env_defaults(env) if isinstance(env, str) else {}, given, settings]
    merged = _merged(layers)
    school = merged.get("teacher_env")
    if isinstance(school, str):
        training = env_defaults(school).get("training", {})
        merged = _merged([{"training": training}, *layers])
    return validate(cls, _select(cls, merged, set(settings)))


def validate(cls: type[T], values: Mapping[str, Any]) -> T:
    """`cls` from plain values; KDError in one line on a wrong one."""
    try:
        return TypeAdapter(cls).validate_python(dict(values))
    except ValidationError as error:
        raise _one_line(cls, error) from None


def env_defaults(env: str) -> dict[str, Any]:
    """The settings shipped for an environment, or for another version of it (empty where there are none)."""
    name = env.rpartition(":")[2].replace("/", "-")
    family, version, _ = name.rpartition("-v")
    versions = sorted(config_folder().glob(f"{glob.escape(family)}-v*.yaml")) if version else []
    shipped = [config_folder() / f"{name}.yaml", *versions]
    return next((read_mapping(path) for path in shipped if path.is_file()), {})


def config_folder() -> Path:
    """Where the shipped settings lie: inside an installed package, or beside it in a checkout."""
    package = Path(__file__).parent.parent
    inside = package / "configs"
    return inside if inside.is_dir() else package.parent / "configs"


def to_yaml(config: Any) -> str:
    """The settings, fully resolved, as YAML that `resolve` reads back."""
    return yaml.safe_dump(plain(config), sort_keys=False)


def plain(config: Any) -> dict[str, Any]:
    """Settings as JSON-able data."""
    return dict(TypeAdapter(type(config)).dump_python(config, mode="json"))


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
    merged = dict(base)
    for key, value in over.items():
        old = merged.get(key)
        merged[key] = (
            _merge(old, value) if isinstance(old, dict) and isinstance(value, dict) and key == "training" else value
        )
    return merged


def _select(cls: Any, merged: Mapping[str, Any], required: Iterable[str]) -> dict[str, Any]:
    """Drop what a file says to other commands; never what was asked for by name."""
    known = {f.name for f in fields(cls)}
    elsewhere = {f.name for f in fields(DistillConfig)} - known - set(required)
    return {key: value for key, value in merged.items() if key not in elsewhere}


def _one_line(cls: Any, error: ValidationError) -> KDError:
    first = error.errors()[0]
    path = [str(part) for part in first["loc"] if not _UNION_BRANCH.match(str(part))]
    name = ".".join(path)
    if first["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
        owner = _bare(nested(cls)[path[0]]) if len(path) > 1 and path[0] in nested(cls) else cls
        return unknown("setting", path[-1], [f.name for f in fields(owner)])
    if first["type"] in ("missing", "missing_argument"):
        return KDError(f"{name} is missing (--{name.replace('_', '-')})")
    return KDError(f"{name}: {first['msg'][0].lower()}{first['msg'][1:]} (got {first['input']!r})")
