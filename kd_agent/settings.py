"""What can be set: one frozen, validated dataclass a command; its fields are YAML keys, flags and keyword arguments."""

from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BeforeValidator, ConfigDict, Field
from pydantic.dataclasses import dataclass


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

_STRICT = ConfigDict(extra="forbid")


@dataclass(frozen=True, config=_STRICT)
class TrainingConfig:
    """How a PPO teacher is trained when there is none (Stable-Baselines3's PPO and its names)."""

    total_steps: Annotated[Count, Field(description="environment steps at most")] = 1_000_000
    target_return: Annotated[
        Finite | None, Field(description="stop once the mean of an evaluation holds this twice in a row")
    ] = None
    hidden: Annotated[Hidden, Field(description="hidden layers of actor and critic")] = (256, 256)
    activation: Annotated[Activation, Field(description="their activation")] = "tanh"
    normalize: Annotated[bool, Field(description="train under running normalisation (VecNormalize)")] = False
    n_envs: Annotated[Count, Field(description="parallel environments")] = 16
    n_steps: Annotated[Count, Field(description="steps of each environment per update")] = 1024
    batch_size: Annotated[Count, Field(description="minibatch")] = 256
    n_epochs: Annotated[Count, Field(description="passes over the data per update")] = 4
    gamma: Annotated[Fraction, Field(description="discount")] = 0.99
    gae_lambda: Annotated[Fraction, Field(description="lambda of generalised advantage estimation")] = 0.95
    ent_coef: Annotated[NonNegative, Field(description="entropy bonus")] = 0.0
    clip_range: Annotated[Positive, Field(description="PPO's clip")] = 0.2
    use_sde: Annotated[bool, Field(description="state-dependent exploration (gSDE)")] = False
    log_std_init: Annotated[Finite, Field(description="initial log standard deviation (Box)")] = 0.0
    learning_rate: Annotated[Positive, Field(description="Adam's rate")] = 3e-4
    linear_decay: Annotated[bool, Field(description="let the rate fall linearly to 0")] = False
    eval_every: Annotated[Count, Field(description="environment steps between evaluations")] = 50_000
    eval_episodes: Annotated[Count, Field(description="episodes of an evaluation")] = 32


@dataclass(frozen=True, config=_STRICT)
class RunConfig:
    """What every command shares."""

    env: Annotated[str, Field(min_length=1, description="Gymnasium id, module:ID too")]
    env_kwargs: Annotated[Keywords, Field(description="the environment's keyword arguments, NAME=VALUE")] = Field(
        default_factory=dict
    )
    seed: Annotated[Seed, Field(description="everything follows from it")] = 0
    device: Annotated[str, Field(description="torch device")] = "cpu"
    progress: Annotated[bool, Field(description="show progress")] = True
    quiet: Annotated[bool, Field(description="print nothing but errors")] = False
    training: Annotated[TrainingConfig, Field(description="the teacher's training")] = TrainingConfig()


@dataclass(frozen=True, config=_STRICT)
class DistillConfig(RunConfig):
    """A whole distillation run: teacher, student, data, fit, evaluation."""

    teacher: Annotated[
        Sources, Field(description="an SB3 zip, an RL Zoo folder or a saved student; none: train or reuse one")
    ] = ()
    statistics: Annotated[
        str | None, Field(description="the teacher's VecNormalize statistics, where they are not found beside it")
    ] = None
    allow_missing_statistics: Annotated[
        bool, Field(description="accept a teacher whose VecNormalize statistics are lost")
    ] = False
    trust_teacher: Annotated[
        bool, Field(description="let Stable-Baselines3 load a zip that is not understood, which runs the code in it")
    ] = False

    teacher_keys: Annotated[Sources, Field(description="keys of a Dict observation that the teacher sees")] = ()
    student_keys: Annotated[Sources, Field(description="keys of a Dict observation that the student sees")] = ()

    student: Annotated[
        str | None, Field(description="the student's kind: mlp, cnn (default for images), gru (for recurrent teachers)")
    ] = None
    hidden: Annotated[
        Hidden | None,
        Field(description="its hidden layers (0: linear); default: what a small share of the teacher buys"),
    ] = None
    activation: Annotated[Activation, Field(description="its activation")] = "silu"
    dropout: Annotated[Fraction, Field(lt=1, description="dropout while fitting")] = 0.0
    l2: Annotated[NonNegative, Field(description="decoupled weight decay while fitting")] = 0.0

    loss: Annotated[
        Weights | None, Field(description="loss, or weighted sum: NAME or NAME=WEIGHT; default: what suits the head")
    ] = None
    temperature: Annotated[Positive, Field(description="softens the distributions")] = 1.0
    convention: Annotated[
        Literal["hinton", "rusu"], Field(description="soften both sides and scale by T^2, or the teacher only")
    ] = "hinton"

    env_steps: Annotated[
        Count | None, Field(description="distillation budget in environment steps; default 100,000, for images 40,000")
    ] = None
    rounds: Annotated[Count, Field(description="rounds of collecting and fitting")] = 8
    n_envs: Annotated[Count | None, Field(description="parallel environments; default 16, for images 4")] = None
    beta_fraction: Annotated[
        Fraction, Field(description="share of the rounds over which beta falls from 1 (teacher acts) to 0")
    ] = 1 / 3
    exploration: Annotated[Fraction, Field(description="share of random actions while collecting")] = 0.02
    round_steps: Annotated[
        Steps | None, Field(description="gradient steps after each round; default 500, for images 200")
    ] = None
    final_steps: Annotated[
        Steps | None, Field(description="gradient steps of a last fit; default 6,000, for images 3,000")
    ] = None
    attempts: Annotated[
        Count | None,
        Field(
            description="last fits at most, one more round before each, until one holds the teacher's return; "
            "default 8, for images 3"
        ),
    ] = None
    exam_episodes: Annotated[
        Count | None, Field(description="episodes on which an attempt is examined; default 100, for images 20")
    ] = None
    batch_size: Annotated[
        Count | None, Field(description="minibatch of a gradient step; default 512, for images 64")
    ] = None
    learning_rate: Annotated[
        Positive | None, Field(description="Adam's first rate, a cosine takes it to 0; default 5e-3, for images 1e-3")
    ] = None

    episodes: Annotated[Count, Field(description="evaluation episodes")] = 100
    max_episodes: Annotated[Count, Field(description="evaluation episodes while the verdict is open")] = 400
    margin: Annotated[Positive, Field(description="loss that counts as none, as a share of |teacher - random|")] = 0.05

    out: Annotated[str | None, Field(description="the run folder (default runs/<env>/<n>)")] = None
    render: Annotated[bool, Field(description="watch the student: a window, or replay.gif without a display")] = False
    resume: Annotated[bool, Field(description="go on from the last checkpoint in --out")] = False


@dataclass(frozen=True, config=_STRICT)
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


@dataclass(frozen=True, config=_STRICT)
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


@dataclass(frozen=True, config=_STRICT)
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
