"""What `verify` can be told, as `settings`."""

from typing import Annotated

from pydantic import Field
from pydantic.dataclasses import dataclass

from kd_agent.settings.types import (
    STRICT,
    Count,
    Keywords,
    NonNegative,
    Sources,
    StepTimeout,
    StudentWrappers,
    TeacherWrapper,
)


@dataclass(frozen=True, config=STRICT)
class VerifyConfig:
    """Holding a run folder to what it says; files name neither code nor whom to trust, so that those are told here."""

    run: Annotated[str, Field(description="a run folder")]
    teacher: Annotated[
        Sources, Field(description="where the run's teacher lies now, or several (default: where it lay then)")
    ] = ()
    statistics: Annotated[str | None, Field(description="where its VecNormalize statistics lie now")] = None
    trust_teacher: Annotated[bool, Field(description="let Stable-Baselines3 load it, which runs the code in it")] = (
        False
    )
    env: Annotated[str | None, Field(description="module:ID of an environment whose module is to be imported")] = None
    env_kwargs: Annotated[Keywords, Field(description="arguments of the environment that name code, NAME=VALUE")] = (
        Field(default_factory=dict)
    )
    step_timeout: StepTimeout = None
    wrapper: StudentWrappers = ()
    teacher_wrapper: TeacherWrapper = ()
    episodes: Annotated[
        Count | None, Field(description="play only so many of each player's episodes again, or a few more (all)")
    ] = None
    tolerance: Annotated[
        NonNegative,
        Field(
            description="for another machine or version: how far means may lie from those written, as a share of "
            "|teacher - random|; 0: every return is the same"
        ),
    ] = 0.0
    progress: Annotated[bool, Field(description="show progress")] = True
    quiet: Annotated[bool, Field(description="print nothing but errors and the result")] = False
