"""What a distillation can be told: frozen, validated dataclasses; fields are YAML keys, flags and keyword arguments."""

from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from kd_agent.errors import KDError
from kd_agent.settings.types import (
    STRICT,
    Activation,
    Count,
    EpisodeLimit,
    Finite,
    Fraction,
    Hidden,
    Keywords,
    NonNegative,
    Positive,
    Seed,
    Sources,
    Steps,
    StepTimeout,
    TeacherActivation,
    TeacherSquash,
    Weights,
    names_recording,
)


@dataclass(frozen=True, config=STRICT)
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


@dataclass(frozen=True, config=STRICT)
class RunConfig:
    """What every command shares."""

    env: Annotated[str, Field(min_length=1, description="Gymnasium id, module:ID too")]
    env_kwargs: Annotated[Keywords, Field(description="the environment's keyword arguments, NAME=VALUE")] = Field(
        default_factory=dict
    )
    max_episode_steps: EpisodeLimit = None
    step_timeout: StepTimeout = None
    wrapper: Annotated[
        Sources,
        Field(description="wrappers around it, the innermost first: module:Class, or module:Class,NAME=VALUE"),
    ] = ()
    seed: Annotated[Seed, Field(description="everything follows from it")] = 0
    device: Annotated[str, Field(description="torch device")] = "cpu"
    progress: Annotated[bool, Field(description="show progress")] = True
    quiet: Annotated[bool, Field(description="print nothing but errors")] = False
    training: Annotated[TrainingConfig, Field(description="the teacher's training")] = TrainingConfig()


@dataclass(frozen=True, config=STRICT)
class TaughtConfig(RunConfig):
    """What every command shares that learns from a teacher."""

    teacher: Annotated[
        Sources,
        Field(
            description="an SB3 zip, an RL Zoo folder, a saved student, another library's checkpoint, or recorded data "
            "(an .npz or minari:ID); none: train or reuse one"
        ),
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
    onnx_output: Annotated[
        str | None, Field(description="output of an ONNX or LEAPP teacher that answers; default: the one that fits")
    ] = None
    teacher_activation: TeacherActivation = None
    teacher_squash: TeacherSquash = None


@dataclass(frozen=True, config=STRICT)
class DistillConfig(TaughtConfig):
    """A whole distillation run: teacher, student, data, fit, evaluation."""

    env: Annotated[str, Field(description="Gymnasium id, module:ID too; a recording can be fitted without")] = ""
    combine: Annotated[
        str, Field(description="how several teachers become one: mixture, product, confidence or routed")
    ] = "mixture"
    teacher_gate: Annotated[
        bool, Field(description="let several teachers play first, and select none that is inferior to the best")
    ] = True
    teacher_env: Annotated[
        str | None, Field(description="environment in which the teacher is trained, where that is another one")
    ] = None
    teacher_wrapper: Annotated[
        Sources, Field(description="wrapper that only the teacher sees through, as --wrapper and around it")
    ] = ()
    teacher_keys: Annotated[Sources, Field(description="keys of a Dict observation that the teacher sees")] = ()
    student_keys: Annotated[Sources, Field(description="keys of a Dict observation that the student sees")] = ()

    student: Annotated[
        str | None,
        Field(description="the student's kind: mlp, cnn (default for images), gru (for recurrent teachers), tree"),
    ] = None
    hidden: Annotated[
        Hidden | None,
        Field(description="its hidden layers (0: linear); default: what a small share of the teacher buys"),
    ] = None
    compression: Annotated[
        Annotated[float, Field(ge=1, allow_inf_nan=False)] | None,
        Field(description="its size in another way: so many times fewer parameters than the teacher"),
    ] = None
    grow: Annotated[
        bool | None,
        Field(
            description="let it grow, twice the parameters at a time and a tenth of the teacher's at most, where no "
            "final fit holds; default: where neither --hidden nor --compression says its size"
        ),
    ] = None
    activation: Annotated[
        Activation | None, Field(description="its activation; default silu, or that of a teacher whose size it has")
    ] = None
    # scikit-learn grows no tree of fewer than two leaves.
    leaves: Annotated[int, Field(ge=2, description="leaves of a tree at most")] = 256
    dropout: Annotated[Fraction, Field(lt=1, description="dropout while fitting")] = 0.0
    l2: Annotated[NonNegative, Field(description="decoupled weight decay while fitting")] = 0.0

    loss: Annotated[
        Weights | None, Field(description="loss, or weighted sum: NAME or NAME=WEIGHT; default: what suits the head")
    ] = None
    temperature: Annotated[
        Positive | Literal["auto"], Field(description="softens the distributions; auto: chosen by measurement")
    ] = 1.0
    choose_by: Annotated[
        Literal["kl", "agreement"], Field(description="what an automatic temperature is chosen by, on held-out states")
    ] = "kl"
    convention: Annotated[
        Literal["hinton", "rusu"], Field(description="soften both sides and scale by T^2, or the teacher only")
    ] = "hinton"

    teacher_layer: Annotated[
        str | None, Field(description="layer of the teacher for hint, relation and intuition (default: its last)")
    ] = None
    student_layer: Annotated[str | None, Field(description="layer of the student for them (default: its last)")] = None

    # None stands for what suits the student: numbers, images and memories differ in what a step costs.
    env_steps: Annotated[
        Count | None, Field(description="distillation budget in environment steps; default 100,000, for images 40,000")
    ] = None
    label_budget: Annotated[
        Count | None,
        Field(description="questions to the teacher at most, where its answers are dear and environment steps are not"),
    ] = None
    rounds: Annotated[
        Count | None,
        Field(description="rounds of collecting, with a fit in between; default one for each 10,000 steps, 8 at most"),
    ] = None
    n_envs: Annotated[
        Count | None,
        Field(
            description="parallel environments; default as many as can play a whole episode within the budget, "
            "16 at most, for images 4"
        ),
    ] = None
    # DAgger leaves the schedule open, only the mean of beta has to fall to 0 (Ross et al. 2011).
    beta_fraction: Annotated[
        Fraction, Field(description="share of the rounds over which beta falls from 1 (teacher acts) to 0")
    ] = 1 / 3
    exploration: Annotated[Fraction, Field(description="share of random actions while collecting")] = 0.02
    round_steps: Annotated[
        Steps | None, Field(description="gradient steps between rounds; default 500, for images 200")
    ] = None
    final_steps: Annotated[
        Steps | None, Field(description="gradient steps of a final fit; default 6,000, for images 3,000")
    ] = None
    attempts: Annotated[
        Count | None,
        Field(
            description="final fits at most, one more round before each, until one holds the teacher's return; "
            "default 8, for images 3"
        ),
    ] = None
    exam_episodes: Annotated[
        Count | None, Field(description="episodes on which a final fit is validated at most: 100, for images 60")
    ] = None
    batch_size: Annotated[
        Count | None, Field(description="minibatch of a gradient step; default 512, for images 64")
    ] = None
    learning_rate: Annotated[
        Positive | None, Field(description="Adam's first rate, a cosine takes it to 0; default 5e-3, for images 1e-3")
    ] = None

    episodes: Annotated[
        Count, Field(description="evaluation episodes after which most verdicts fall; a bad student's falls earlier")
    ] = 90
    max_episodes: Annotated[Count, Field(description="evaluation episodes while the verdict is open")] = 1_000
    sampled: Annotated[
        bool | None, Field(description="play, judge and export by sampled actions instead of the greedy ones")
    ] = None
    margin: Annotated[Positive, Field(description="loss that counts as none, as a share of |teacher - random|")] = 0.05

    seeds: Annotated[
        Count, Field(description="students, each from a seed of its own, from --seed on; one verdict over all of them")
    ] = 1
    realtime: Annotated[bool, Field(description="distil while the teacher is still being trained")] = False
    search_size: Annotated[bool, Field(description="find the smallest student that is still non-inferior")] = False
    then_ppo: Annotated[
        Count | None,
        Field(
            description="environment steps in which PPO then goes on from the student; what becomes of it is returned "
            "only where it is shown to be no worse"
        ),
    ] = None
    control: Annotated[bool, Field(description="train the same network directly by PPO beside it, as many steps")] = (
        False
    )

    strict: Annotated[
        bool, Field(description="exit with 1 unless the student is non-inferior to a teacher that beats chance")
    ] = False

    out: Annotated[str | None, Field(description="the run folder (default runs/<env>/<n>)")] = None
    render: Annotated[bool, Field(description="watch the student: a window, or replay.gif without a display")] = False
    resume: Annotated[bool, Field(description="go on from the last checkpoint in --out")] = False

    def __post_init__(self) -> None:
        if not self.env and not names_recording(self.teacher):
            raise KDError("env is missing (--env)")


@dataclass(frozen=True, config=STRICT)
class SearchConfig(DistillConfig):
    """A search over temperature, loss and size; everything else is as in a distillation."""

    trials: Annotated[Count, Field(description="how many settings to try, those tried before included")] = 20
