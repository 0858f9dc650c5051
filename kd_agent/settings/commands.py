"""What the other commands can be told, as `settings`."""

from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from kd_agent.settings.distill import TaughtConfig
from kd_agent.settings.types import (
    STRICT,
    Activation,
    Count,
    EpisodeLimit,
    Fraction,
    Hidden,
    Keywords,
    NonNegative,
    Positive,
    Seed,
    Sources,
    Steps,
    StepTimeout,
    StudentWrappers,
    TeacherActivation,
    TeacherSquash,
    TeacherWrapper,
    Weights,
)


@dataclass(frozen=True, config=STRICT)
class EvaluateConfig:
    """Playing a saved student."""

    student: Annotated[str, Field(description="a saved student, *.safetensors")]
    task: Annotated[str | None, Field(description="which task's policy, where the file holds several")] = None
    env: Annotated[str | None, Field(description="Gymnasium id (default: the one it was made for)")] = None
    env_kwargs: Annotated[Keywords, Field(description="the environment's keyword arguments, NAME=VALUE")] = Field(
        default_factory=dict
    )
    max_episode_steps: EpisodeLimit = None
    step_timeout: StepTimeout = None
    wrapper: StudentWrappers = ()
    teacher_wrapper: TeacherWrapper = ()
    teacher: Annotated[Sources, Field(description="a teacher to compare with, on the same seeds")] = ()
    statistics: Annotated[str | None, Field(description="the teacher's VecNormalize statistics")] = None
    allow_missing_statistics: Annotated[
        bool, Field(description="accept a teacher whose VecNormalize statistics are lost")
    ] = False
    trust_teacher: Annotated[bool, Field(description="let Stable-Baselines3 load it, which runs the code in it")] = (
        False
    )
    onnx_output: Annotated[str | None, Field(description="output of an ONNX or LEAPP teacher that answers")] = None
    teacher_activation: TeacherActivation = None
    teacher_squash: TeacherSquash = None
    episodes: Annotated[Count, Field(description="number of episodes")] = 100
    # The verdict's episodes, so that a student is played where it was compared.
    seed: Annotated[Seed, Field(description="seed of the first episode; the others count up")] = 20_000
    sampled: Annotated[
        bool | None, Field(description="sample actions instead of the greedy ones; default: as the student was judged")
    ] = None
    out: Annotated[str | None, Field(description="write the figures to this JSON file")] = None
    render: Annotated[bool, Field(description="watch: a window, or replay.gif without a display")] = False
    progress: Annotated[bool, Field(description="show progress")] = True
    quiet: Annotated[bool, Field(description="print nothing but errors and the result")] = False


@dataclass(frozen=True, config=STRICT)
class TasksConfig:
    """Several tasks in one student; what is not said here comes from `configs/<task>.yaml` and the defaults."""

    tasks: Annotated[Sources, Field(min_length=2, description="Gymnasium ids, each another environment")]
    teacher: Annotated[
        Sources, Field(description="one for each task, in their order; none: train or reuse one for each")
    ] = ()
    allow_missing_statistics: Annotated[
        bool, Field(description="accept a teacher whose VecNormalize statistics are lost")
    ] = False
    trust_teacher: Annotated[
        bool, Field(description="let Stable-Baselines3 load a zip that is not understood, which runs the code in it")
    ] = False
    hidden: Annotated[
        Hidden, Field(description="hidden layers: the first is each task's own, the others are shared")
    ] = (16, 16)
    activation: Annotated[Activation, Field(description="their activation")] = "silu"
    loss: Annotated[
        Weights | None, Field(description="loss of every task: NAME or NAME=WEIGHT; default: what suits each head")
    ] = None
    env_steps: Annotated[Count | None, Field(description="distillation budget of each task in environment steps")] = (
        None
    )
    rounds: Annotated[Count, Field(description="rounds of collecting, with a fit in between")] = 8
    round_steps: Annotated[Steps, Field(description="gradient steps between rounds")] = 500
    final_steps: Annotated[Steps, Field(description="gradient steps of a final fit")] = 6_000
    attempts: Annotated[
        Count, Field(description="final fits at most, one more round before each, until every task holds")
    ] = 8
    exam_episodes: Annotated[Count, Field(description="episodes on which a final fit is validated in each task")] = 100
    batch_size: Annotated[Count, Field(description="states of each task in a gradient step")] = 512
    learning_rate: Annotated[Positive, Field(description="Adam's first rate, a cosine takes it to 0")] = 5e-3
    episodes: Annotated[Count, Field(description="evaluation episodes of each after which most verdicts fall")] = 90
    max_episodes: Annotated[Count, Field(description="evaluation episodes while a verdict is open")] = 1_000
    sampled: Annotated[
        bool | None, Field(description="play, judge and export by sampled actions instead of the greedy ones")
    ] = None
    margin: Annotated[Positive, Field(description="loss that counts as none, as a share of |teacher - random|")] = 0.05
    seed: Annotated[Seed, Field(description="everything follows from it")] = 0
    device: Annotated[str, Field(description="torch device")] = "cpu"
    out: Annotated[str | None, Field(description="the run folder (default runs/tasks/<n>)")] = None
    resume: Annotated[bool, Field(description="go on from the last finished round in --out")] = False
    progress: Annotated[bool, Field(description="show progress")] = True
    quiet: Annotated[bool, Field(description="print nothing but errors")] = False


@dataclass(frozen=True, config=STRICT)
class SweepConfig:
    """Distilling every teacher below a folder."""

    teachers: Annotated[str, Field(description="the folder")]
    out: Annotated[str, Field(description="where the runs and sweep.json go; finished runs are not done again")]
    jobs: Annotated[Count, Field(description="how many at once")] = 2
    episodes: Annotated[Count, Field(description="evaluation episodes of each after which most verdicts fall")] = 90
    settings: Annotated[
        str | None, Field(description="a YAML file of settings for every run, as distill's --config")
    ] = None
    trust_teacher: Annotated[
        bool, Field(description="let Stable-Baselines3 load a zip that is not understood, which runs the code in it")
    ] = False
    quiet: Annotated[bool, Field(description="print nothing but errors")] = False


@dataclass(frozen=True, config=STRICT)
class ExplainConfig:
    """Explaining a saved student beside its teacher."""

    student: Annotated[str, Field(description="a saved student, *.safetensors")]
    teacher: Annotated[Sources, Field(min_length=1, description="its teacher, or several, as distill's")]
    task: Annotated[str | None, Field(description="which task's policy, where the file holds several")] = None
    env: Annotated[str | None, Field(description="Gymnasium id (default: the one it was made for)")] = None
    env_kwargs: Annotated[Keywords, Field(description="the environment's keyword arguments, NAME=VALUE")] = Field(
        default_factory=dict
    )
    max_episode_steps: EpisodeLimit = None
    step_timeout: StepTimeout = None
    wrapper: StudentWrappers = ()
    teacher_wrapper: TeacherWrapper = ()
    teacher_keys: Annotated[
        Sources, Field(description="keys of a Dict observation that the teacher sees (default: those of the run)")
    ] = ()
    combine: Annotated[
        str | None, Field(description="how several teachers become one (default: as in the student's run)")
    ] = None
    statistics: Annotated[str | None, Field(description="the teacher's VecNormalize statistics")] = None
    allow_missing_statistics: Annotated[
        bool, Field(description="accept a teacher whose VecNormalize statistics are lost")
    ] = False
    trust_teacher: Annotated[bool, Field(description="let Stable-Baselines3 load it, which runs the code in it")] = (
        False
    )
    onnx_output: Annotated[str | None, Field(description="output of an ONNX or LEAPP teacher that answers")] = None
    teacher_activation: TeacherActivation = None
    teacher_squash: TeacherSquash = None
    names: Annotated[Sources, Field(description="names of the observation's numbers, in order")] = ()
    states: Annotated[Count, Field(description="number of states that the student visits")] = 10_000
    top: Annotated[Count, Field(description="number of disagreements that are shown")] = 20
    seed: Annotated[Seed, Field(description="everything random follows from it")] = 0
    out: Annotated[str | None, Field(description="the folder for the files (default: the student's)")] = None
    progress: Annotated[bool, Field(description="show progress")] = True
    quiet: Annotated[bool, Field(description="print nothing but errors and the result")] = False


@dataclass(frozen=True, config=STRICT)
class KickstartConfig(TaughtConfig):
    """Training a small student by PPO under a teacher that fades."""

    init: Annotated[str | None, Field(description="a saved student to go on from (default: a new one)")] = None
    hidden: Annotated[
        Hidden | None,
        Field(description="a new student's hidden layers (0: linear); default: what a small share of the teacher buys"),
    ] = None
    activation: Annotated[Activation, Field(description="a new student's activation")] = "silu"
    method: Annotated[
        Literal["kickstart", "ppd"], Field(description="plain KL, or weighted by PPO's ratio (proximal distillation)")
    ] = "kickstart"
    weight: Annotated[NonNegative, Field(description="first weight of the KL to the teacher")] = 1.0
    fade: Annotated[
        Literal["linear", "exponential", "adaptive"],
        Field(description="by schedule, or as the student's return nears the teacher's"),
    ] = "linear"
    fade_fraction: Annotated[Fraction, Field(description="share of the steps after which a schedule is over")] = 0.5
    critic_warmup: Annotated[
        Fraction,
        Field(description="share of the steps in which the critic learns while the actor follows the KL alone"),
    ] = 0.1
    total_steps: Annotated[Count, Field(description="environment steps")] = 300_000
    episodes: Annotated[Count, Field(description="evaluation episodes")] = 100
    max_episodes: Annotated[Count, Field(description="evaluation episodes while the verdict is open")] = 400
    margin: Annotated[Positive, Field(description="loss that counts as none, as a share of |teacher - random|")] = 0.05
    out: Annotated[str | None, Field(description="the run folder (default runs/<env>/<n>)")] = None


@dataclass(frozen=True, config=STRICT)
class FollowDriftConfig:
    """Watching a saved student in a world that drifts, and teaching it on."""

    student: Annotated[str, Field(description="a saved student, *.safetensors")]
    teacher: Annotated[str, Field(description="its teacher, who must cope with both worlds")]
    env: Annotated[str, Field(min_length=1, description="the world that drifts: Gymnasium id, module:ID too")]
    task: Annotated[str | None, Field(description="which task's policy, where the file holds several")] = None
    env_kwargs: Annotated[Keywords, Field(description="its keyword arguments, NAME=VALUE")] = Field(
        default_factory=dict
    )
    max_episode_steps: EpisodeLimit = None
    step_timeout: StepTimeout = None
    wrapper: StudentWrappers = ()
    new_kwargs: Annotated[
        Keywords,
        Field(description="arguments that hold the world where the drift ends, for the verdict there (drift=1)"),
    ] = Field(default_factory=dict)
    statistics: Annotated[str | None, Field(description="the teacher's VecNormalize statistics")] = None
    allow_missing_statistics: Annotated[
        bool, Field(description="accept a teacher whose VecNormalize statistics are lost")
    ] = False
    trust_teacher: Annotated[bool, Field(description="let Stable-Baselines3 load it, which runs the code in it")] = (
        False
    )
    env_steps: Annotated[Count, Field(description="environment steps to follow")] = 20_000
    # Scores are of ranks, so that they end where the reference does: with 20 episodes at 2 standard deviations.
    reference_episodes: Annotated[
        int, Field(ge=20, description="episodes in the old world that the student is measured by")
    ] = 50
    reservoir: Annotated[Steps, Field(description="states from before that it is taught again (0: none)")] = 10_000
    lesson_steps: Annotated[Count, Field(description="gradient steps of a lesson, one after each episode")] = 500
    batch_size: Annotated[Count, Field(description="minibatch of a gradient step")] = 512
    learning_rate: Annotated[Positive, Field(description="Adam's first rate, a cosine takes it down")] = 2e-3
    seed: Annotated[Seed, Field(description="everything follows from it")] = 0
    episodes: Annotated[Count, Field(description="evaluation episodes")] = 100
    max_episodes: Annotated[Count, Field(description="evaluation episodes while the verdict is open")] = 400
    margin: Annotated[Positive, Field(description="loss that counts as none, as a share of |teacher - random|")] = 0.05
    out: Annotated[str | None, Field(description="the run folder (default runs/<env>/<n>)")] = None
    progress: Annotated[bool, Field(description="show progress")] = True
    quiet: Annotated[bool, Field(description="print nothing but errors")] = False
