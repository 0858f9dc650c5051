"""What the other commands can be told, as `settings`."""

from typing import Annotated

from pydantic import Field
from pydantic.dataclasses import dataclass

from kd_agent.field_types import STRICT, Count, Keywords, Seed, Sources


@dataclass(frozen=True, config=STRICT)
class EvaluateConfig:
    """Playing a saved student."""

    student: Annotated[str, Field(description="a saved student, *.safetensors")]
    env: Annotated[str | None, Field(description="Gymnasium id (default: the one it was made for)")] = None
    env_kwargs: Annotated[Keywords, Field(description="the environment's keyword arguments, NAME=VALUE")] = Field(
        default_factory=dict
    )
    teacher: Annotated[Sources, Field(description="a teacher to compare with, on the same seeds")] = ()
    statistics: Annotated[str | None, Field(description="the teacher's VecNormalize statistics")] = None
    trust_teacher: Annotated[bool, Field(description="let Stable-Baselines3 load it, which runs the code in it")] = (
        False
    )
    episodes: Annotated[Count, Field(description="number of episodes")] = 100
    seed: Annotated[Seed, Field(description="seed of the first episode; the others count up")] = 20_000
    sampled: Annotated[bool, Field(description="sample actions instead of the greedy ones")] = False
    out: Annotated[str | None, Field(description="write the figures to this JSON file")] = None
    render: Annotated[bool, Field(description="watch: a window, or replay.gif without a display")] = False
    progress: Annotated[bool, Field(description="show progress")] = True
    quiet: Annotated[bool, Field(description="print nothing but errors and the result")] = False


@dataclass(frozen=True, config=STRICT)
class ExportConfig:
    """Writing a saved student in another format."""

    student: Annotated[str, Field(description="a saved student, *.safetensors")]
    out: Annotated[str, Field(description="the file to write")]
    to: Annotated[
        str | None, Field(description="onnx, c, javascript, sb3 or torch; default: what the suffix of --out stands for")
    ] = None
    int8: Annotated[bool, Field(description="c: int8 weights and whole-number arithmetic")] = False
    prefix: Annotated[str | None, Field(description="c: first part of the public names (kd)")] = None
    vecnormalize: Annotated[
        bool, Field(description="sb3: statistics to vecnormalize.pkl beside the zip, not into the first layer")
    ] = False
    env: Annotated[str | None, Field(description="sb3: Gymnasium id whose spaces the zip states")] = None
    quiet: Annotated[bool, Field(description="print nothing but errors")] = False


@dataclass(frozen=True, config=STRICT)
class SweepConfig:
    """Distilling every teacher below a folder."""

    teachers: Annotated[str, Field(description="the folder")]
    out: Annotated[str, Field(description="where the runs and sweep.json go; finished runs are not done again")]
    jobs: Annotated[Count, Field(description="how many at once")] = 2
    episodes: Annotated[Count, Field(description="evaluation episodes of each")] = 100
    settings: Annotated[
        str | None, Field(description="a YAML file of settings for every run, as distill's --config")
    ] = None
    quiet: Annotated[bool, Field(description="print nothing but errors")] = False


@dataclass(frozen=True, config=STRICT)
class ExplainConfig:
    """Explaining a saved student beside its teacher."""

    student: Annotated[str, Field(description="a saved student, *.safetensors")]
    teacher: Annotated[Sources, Field(min_length=1, description="its teacher, or several, as distill's")]
    env: Annotated[str | None, Field(description="Gymnasium id (default: the one it was made for)")] = None
    env_kwargs: Annotated[Keywords, Field(description="the environment's keyword arguments, NAME=VALUE")] = Field(
        default_factory=dict
    )
    teacher_keys: Annotated[
        Sources, Field(description="keys of a Dict observation that the teacher sees (default: those of the run)")
    ] = ()
    combine: Annotated[
        str | None, Field(description="how several teachers become one (default: as in the student's run)")
    ] = None
    statistics: Annotated[str | None, Field(description="the teacher's VecNormalize statistics")] = None
    trust_teacher: Annotated[bool, Field(description="let Stable-Baselines3 load it, which runs the code in it")] = (
        False
    )
    names: Annotated[Sources, Field(description="names of the observation's numbers, in order")] = ()
    states: Annotated[Count, Field(description="number of states that the student visits")] = 10_000
    top: Annotated[Count, Field(description="number of disagreements that are shown")] = 20
    seed: Annotated[Seed, Field(description="everything random follows from it")] = 0
    out: Annotated[str | None, Field(description="the folder for the files (default: the student's)")] = None
    progress: Annotated[bool, Field(description="show progress")] = True
    quiet: Annotated[bool, Field(description="print nothing but errors and the result")] = False
