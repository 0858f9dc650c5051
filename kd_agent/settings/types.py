"""Types of settings, with what each accepts from YAML and from the command line."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field
from yaml import YAMLError

from kd_agent.errors import KDError
from kd_agent.settings.yaml_file import read_value

MINARI = "minari:"
"""What the id of a Minari dataset stands behind, where a file could be named."""
STRICT = ConfigDict(extra="forbid")
"""Unknown keys are errors."""


def _whole(value: Any) -> Any:
    """`1e5` and `"1e5"` are whole numbers too."""
    # YAML 1.1 reads `1e5` as text, and a command line has nothing but text.
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return value
    return int(number) if number.is_integer() else value


def _pairs(value: Any) -> Any:
    """`["a=1", "b"]` (or one such string) as `{"a": 1, "b": 1}`, values read as YAML."""
    if isinstance(value, str):
        value = [value]
    if not isinstance(value, list | tuple):
        return value
    pairs: dict[str, Any] = {}
    for item in value:
        name, _, text = str(item).partition("=")
        pairs[name] = _plain(text) if text else 1
    return pairs


def read_arguments(words: Sequence[str], what: str) -> dict[str, Any]:
    """Keyword arguments that are typed, `NAME=VALUE` each.

    Args:
        words: The words.
        what: What they are arguments of, for the message.

    Raises:
        KDError: A value is not plain YAML.
    """
    try:
        return dict(_pairs(list(words)))
    except ValueError as error:
        raise KDError(f"{what}: an argument {error}") from None


def names_recording(sources: Sequence[str]) -> bool:
    """Whether the sources of a teacher are one recording: an `.npz`, or `minari:ID`.

    Args:
        sources: As the settings have them.
    """
    return len(sources) == 1 and (sources[0].endswith(".npz") or sources[0].startswith(MINARI))


def _plain(text: str) -> Any:
    try:
        return read_value(text)
    except YAMLError:
        # pydantic makes a validation error of a ValueError alone.
        raise ValueError("should be NAME or NAME=VALUE, the value plain YAML") from None


def _layers(value: Any) -> Any:
    """A lone 0 is no hidden layer at all."""
    items = list(value) if isinstance(value, list | tuple) else [value]
    # Text, because `--hidden 0` is text; and `False`, which equals 0, is a mistake.
    if list(map(str, items)) == ["0"]:
        return []
    return items


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str | Path) else value


Count = Annotated[int, BeforeValidator(_whole), Field(gt=0)]
Steps = Annotated[int, BeforeValidator(_whole), Field(ge=0)]
Seed = Annotated[int, BeforeValidator(_whole), Field(ge=0, lt=2**31)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Hidden = Annotated[tuple[Count, ...], BeforeValidator(_layers), Field(max_length=16)]
Weights = Annotated[dict[str, NonNegative], BeforeValidator(_pairs), Field(min_length=1)]
Keywords = Annotated[dict[str, Any], BeforeValidator(_pairs)]
Sources = Annotated[tuple[str, ...], BeforeValidator(_listed)]
Activation = Literal[
    "tanh",
    "relu",
    "silu",
    "elu",
    "leaky_relu",
    "sigmoid",
    "softplus",
    "gelu",
    "mish",
    "selu",
    "softsign",
    "relu6",
    "hardtanh",
]
TeacherActivation = Annotated[
    Activation | None,
    Field(
        description="activation of a teacher whose file holds weights alone (rsl_rl, skrl, ...); default: its library's"
    ),
]
TeacherSquash = Annotated[
    Literal["tanh", "clip", "none"] | None,
    Field(
        description="how such a teacher bounds continuous actions: tanh or clip to [-1, 1], then scaled to the Box, or "
        "none; default: its library's"
    ),
]
StudentWrappers = Annotated[
    Sources, Field(description="wrappers around it, module:Class; also those of your own in the student's file")
]
TeacherWrapper = Annotated[Sources, Field(description="wrapper that only the teacher sees through, as --wrapper")]
EpisodeLimit = Annotated[
    Count | None,
    Field(description="steps after which an episode is cut (default: the environment's limit; 10,000 without one)"),
]
StepTimeout = Annotated[
    Positive | None, Field(description="seconds that a step of the environment may take (default: as long as it likes)")
]
