"""What `export` can be told, as `settings`."""

from typing import Annotated

from pydantic import Field
from pydantic.dataclasses import dataclass

from kd_agent.settings.types import STRICT, Keywords, StudentWrappers, TeacherActivation, TeacherSquash


@dataclass(frozen=True, config=STRICT)
class ExportConfig:
    """Writing an agent in another format, and holding the file against it."""

    source: Annotated[
        str,
        Field(description="a saved student, or whatever distill takes for a --teacher: an SB3 zip, an RL Zoo folder"),
    ]
    out: Annotated[str, Field(description="the file to write; zoo: the folder")]
    task: Annotated[str | None, Field(description="which task's policy, where the file holds several")] = None
    to: Annotated[
        str | None,
        Field(
            description="the format: arduino, c, csharp, gdscript, javascript, leapp, onnx, python, sb3, script, "
            "torch, wasm or zoo (default: the one that the suffix of --out stands for)"
        ),
    ] = None
    env: Annotated[
        str | None, Field(description="Gymnasium id of its environment (default: the one that the source names)")
    ] = None
    env_kwargs: Annotated[Keywords, Field(description="the environment's keyword arguments, NAME=VALUE")] = Field(
        default_factory=dict
    )
    wrapper: StudentWrappers = ()
    statistics: Annotated[str | None, Field(description="a teacher's VecNormalize statistics")] = None
    allow_missing_statistics: Annotated[
        bool, Field(description="accept a teacher whose VecNormalize statistics are lost")
    ] = False
    onnx_output: Annotated[str | None, Field(description="output of an ONNX or LEAPP teacher that answers")] = None
    teacher_activation: TeacherActivation = None
    teacher_squash: TeacherSquash = None
    check: Annotated[
        bool, Field(description="play the file where its source has been: exit code 1 where it acts otherwise")
    ] = True
    board: Annotated[
        str | None, Field(description="arduino: the board that it has to fit on: uno, nano, leonardo or mega")
    ] = None
    int8: Annotated[
        bool,
        Field(
            description="arduino, c, wasm: int8 weights (packed where they are of 4 bits or ternary) and whole-number "
            "arithmetic"
        ),
    ] = False
    opset: Annotated[
        int | None, Field(description="leapp, onnx: version of the operator set; default: one that old runtimes load")
    ] = None
    prefix: Annotated[
        str | None, Field(description="arduino, c, script: first part of the public names, the script's global (kd)")
    ] = None
    vecnormalize: Annotated[
        bool, Field(description="sb3: statistics to vecnormalize.pkl beside the zip, not into the first layer")
    ] = False
    quiet: Annotated[bool, Field(description="print nothing but errors, and what differs")] = False
