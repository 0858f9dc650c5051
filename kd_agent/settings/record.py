"""What `record` can be told, as `settings`."""

from typing import Annotated

from pydantic import Field
from pydantic.dataclasses import dataclass

from kd_agent.settings.types import (
    STRICT,
    Count,
    EpisodeLimit,
    Keywords,
    Seed,
    StepTimeout,
    StudentWrappers,
    TeacherActivation,
    TeacherSquash,
)


@dataclass(frozen=True, config=STRICT)
class RecordConfig:
    """Writing what a policy does, or what a run has collected, as data."""

    source: Annotated[
        str,
        Field(description="a saved student, whatever distill takes for a --teacher, or a run folder: its rollouts"),
    ]
    out: Annotated[str, Field(description="the file to write, *.npz, or a Minari dataset: minari:NAMESPACE/NAME-v0")]
    env: Annotated[
        str | None, Field(description="Gymnasium id of its environment (default: the one that the source names)")
    ] = None
    env_kwargs: Annotated[Keywords, Field(description="the environment's keyword arguments, NAME=VALUE")] = Field(
        default_factory=dict
    )
    max_episode_steps: EpisodeLimit = None
    step_timeout: StepTimeout = None
    wrapper: StudentWrappers = ()
    statistics: Annotated[str | None, Field(description="a teacher's VecNormalize statistics")] = None
    allow_missing_statistics: Annotated[
        bool, Field(description="accept a teacher whose VecNormalize statistics are lost")
    ] = False
    trust_teacher: Annotated[
        bool, Field(description="let Stable-Baselines3 load a zip that is not understood, which runs the code in it")
    ] = False
    onnx_output: Annotated[str | None, Field(description="output of an ONNX or LEAPP teacher that answers")] = None
    teacher_activation: TeacherActivation = None
    teacher_squash: TeacherSquash = None
    episodes: Annotated[Count, Field(description="episodes that a policy plays")] = 20
    seed: Annotated[Seed, Field(description="seed of the first episode; the others count up")] = 0
    sampled: Annotated[bool, Field(description="a policy plays sampled actions instead of the greedy ones")] = False
    params: Annotated[bool, Field(description="keep the distributions beside the actions: they are better labels")] = (
        True
    )
    progress: Annotated[bool, Field(description="show progress")] = True
    quiet: Annotated[bool, Field(description="print nothing but errors")] = False
