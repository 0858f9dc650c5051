"""How a teacher is asked for, beside its source."""

from dataclasses import dataclass, fields
from typing import Any

import gymnasium as gym

Spaces = tuple[gym.Space[Any], gym.Space[Any]]
"""Observation and action space."""


@dataclass(frozen=True)
class Request:
    """What a plug-in is told; the names and meanings are those of `load_teacher`'s arguments.

    Attributes:
        env: Spaces of the environment that the teacher must fit; None: those that the source tells.
        statistics: File of VecNormalize statistics; None: looked for beside the source.
        allow_missing_statistics: Go on where they are needed but lost.
        trust_teacher: Let Stable-Baselines3 load what is not understood, which runs the code in it.
        onnx_output: Name of the output of an ONNX file that answers; None: the one that fits.
        teacher_activation: Activation between the layers of a file of weights; None: its library's default.
        teacher_squash: How such a file's continuous actions are bounded: "tanh", "clip" or "none"; None: likewise.
    """

    env: Spaces | None = None
    statistics: str | None = None
    allow_missing_statistics: bool = False
    trust_teacher: bool = False
    onnx_output: str | None = None
    teacher_activation: str | None = None
    teacher_squash: str | None = None


def asked_by(settings: Any) -> dict[str, Any]:
    """How a command's settings have a teacher read, as arguments of `load_teacher`; its spaces are not among them.

    Args:
        settings: Those of a command; what is none of its flags keeps its default.
    """
    names = [part.name for part in fields(Request) if part.name != "env"]
    return {name: getattr(settings, name) for name in names if hasattr(settings, name)}
