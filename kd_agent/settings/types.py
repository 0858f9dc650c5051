"""Types of settings, with what each accepts from YAML and from the command line."""

from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BeforeValidator, ConfigDict, Field

STRICT = ConfigDict(extra="forbid")
"""Unknown keys are errors."""


def _whole(value: Any) -> Any:
    """`1e5` and `"1e5"` are whole numbers too."""
    try:
        return int(float(value)) if float(value).is_integer() else value
    except (TypeError, ValueError, OverflowError):
        return value


def _pairs(value: Any) -> Any:
    """`["a=1", "b"]` (or one such string) as `{"a": 1, "b": 1}`, values read as YAML."""
    if isinstance(value, str):
        value = [value]
    if not isinstance(value, list | tuple):
        return value
    split = [str(item).partition("=") for item in value]
    try:
        return {name: yaml.safe_load(text) if text else 1 for name, _, text in split}
    except yaml.YAMLError:
        raise ValueError("should be NAME or NAME=VALUE, the value plain YAML") from None


def _layers(value: Any) -> Any:
    """A lone 0 is no hidden layer at all."""
    items = list(value) if isinstance(value, list | tuple) else [value]
    return [] if [str(item) for item in items] == ["0"] else items


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
Activation = Literal["tanh", "relu", "silu", "elu", "leaky_relu", "sigmoid", "softplus"]
