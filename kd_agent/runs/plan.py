"""The plan of a distillation: its settings with every default decided by teacher and observations."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from kd_agent.losses import default_loss, needs
from kd_agent.networks import Teacher
from kd_agent.policies import ObservationSpec
from kd_agent.settings import Activation, DistillConfig
from kd_agent.students import COUNTED, default_hidden, default_kind, hidden_for, same_layers, sees_images

# Shorter rounds are no better, and each costs a fit: on LunarLander 10,000 steps come to a KL of 1.6e-5 in 8 rounds and
# of 1.7e-5 in one (means of three seeds).
_STEPS_OF_A_ROUND = 10_000
_MOST_ROUNDS = 8
_USUAL_LIMIT = 1_000
"""Steps after which an episode is cut where nobody says: most of Gymnasium's environments have this limit."""
_ACTIVATION = "silu"
"""Smooth as tanh, but without its costly function; students of 16 units lose nothing by it."""

NUMBERS = {
    "env_steps": 100_000,
    "n_envs": 16,  # at most: `default_envs`
    "round_steps": 500,
    "final_steps": 6_000,
    "attempts": 8,
    "exam_episodes": 100,
    "batch_size": 512,
    "learning_rate": 5e-3,
}
"""For students that see numbers."""
IMAGES = {
    "env_steps": 40_000,
    "n_envs": 4,  # at most
    "round_steps": 200,
    "final_steps": 3_000,
    "attempts": 3,
    "exam_episodes": 60,
    "batch_size": 64,
    "learning_rate": 1e-3,
}
"""For students that see images: a gradient step costs a hundred times more, and a state 28 kB."""
MEMORY = {**NUMBERS, "round_steps": 150, "final_steps": 2_000, "attempts": 4, "batch_size": 1_024}
"""For students with a memory: a gradient step goes through a window, one state after the other."""
TREE = {**NUMBERS, "round_steps": 0, "final_steps": 0}
"""For trees, which are grown and not fitted in steps."""


@dataclass(frozen=True)
class Plan:
    """What a distillation does, nothing left open; names, meanings and units are those of `DistillConfig`.

    Attributes:
        temperature: The one that is in force; 1 until an automatic one has been chosen.
        teacher_layer: Name of the teacher's layer that is kept; None where no loss compares layers.
        student_layer: Name of the student's layer that is compared; None: its last.
        grow: Whether the student may become larger than `hidden`.
    """

    student: str
    hidden: tuple[int, ...]
    grow: bool
    activation: Activation
    leaves: int
    dropout: float
    l2: float
    loss: Mapping[str, float]
    temperature: float
    convention: str
    teacher_layer: str | None
    student_layer: str | None
    env_steps: int
    rounds: int
    n_envs: int
    beta_fraction: float
    exploration: float
    round_steps: int
    final_steps: int
    attempts: int
    exam_episodes: int
    batch_size: int
    learning_rate: float

    @staticmethod
    def of(
        config: DistillConfig,
        teacher: Teacher,
        observed: Mapping[str, ObservationSpec],
        limit: int | None = None,
    ) -> "Plan":
        """Decide what the settings leave open.

        Args:
            config: The settings.
            teacher: Who labels.
            observed: What the student sees of an observation, by key.
            limit: Steps after which an episode is cut; None: nobody knows.
        """
        asked = {}
        for field in fields(Plan):
            asked[field.name] = getattr(config, field.name)
        kind = config.student or default_kind(teacher, observed)
        decided: dict[str, Any] = {**asked, **_numbers(config, kind, observed, limit), "student": kind}
        if config.activation is None:
            decided["activation"] = _ACTIVATION
        if config.compression is not None:
            decided["hidden"] = hidden_for(teacher, observed, config.compression, kind)
        elif config.hidden is None:
            decided["hidden"] = default_hidden(teacher, observed)
            same = same_layers(teacher, observed)
            # Whoever is as small as its teacher is to be able to be that.
            if same is not None and same.activation and config.activation is None:
                decided["activation"] = same.activation
        if config.grow is None:
            sized = config.hidden is not None or config.compression is not None
            # That a student does not hold is known by its teacher's play, which would be questions.
            decided["grow"] = kind in COUNTED and not sized and config.label_budget is None
        if config.temperature == "auto":
            # Only until the first round is there to measure on.
            decided["temperature"] = 1.0
        loss = config.loss or default_loss(teacher)
        decided["loss"] = loss
        decided["teacher_layer"] = None
        if "layer" in needs(loss):
            # A layer is many times wider than a row of labels: it is kept only where a loss compares it.
            decided["teacher_layer"] = config.teacher_layer or teacher.last_layer
        return Plan(**decided)


def default_rounds(env_steps: int) -> int:
    """Rounds for a budget of environment steps: 8 at most, and none of fewer than 10,000 steps but an only one."""
    return min(max(env_steps // _STEPS_OF_A_ROUND, 1), _MOST_ROUNDS)


def default_envs(env_steps: int, limit: int | None, least: int, most: int) -> int:
    """Environments for a budget of steps: as many as can play a whole episode each.

    More of them would see the beginnings of episodes alone, and a student would not know how they go on: on LunarLander
    500 steps of one environment teach what 500 steps of 16 do not.

    Args:
        env_steps: The budget, over all environments.
        limit: Steps after which an episode is cut; None: nobody knows.
        least: No fewer than these.
        most: No more than these.
    """
    return min(max(env_steps // (limit or _USUAL_LIMIT), least), most)


def _numbers(
    config: DistillConfig, kind: str, observed: Mapping[str, ObservationSpec], limit: int | None
) -> dict[str, Any]:
    """Budgets and rates: what the settings ask for, else what suits such a student."""
    numbers: dict[str, Any] = dict(_defaults(kind, observed))
    for name in numbers:
        asked = getattr(config, name)
        tree_has_no_steps = kind == "tree" and name in ("round_steps", "final_steps")
        if asked is not None and not tree_has_no_steps:
            numbers[name] = asked
    numbers["rounds"] = config.rounds or default_rounds(numbers["env_steps"])
    if config.n_envs is None:
        # A temperature is measured on environments that are held out.
        least = 1 + (config.temperature == "auto")
        # Where labels are dear, it is the teacher's first round that is to see an episode whole.
        labels = config.label_budget or numbers["env_steps"]
        numbers["n_envs"] = default_envs(labels, limit, least, numbers["n_envs"])
    return numbers


def _defaults(kind: str, observed: Mapping[str, ObservationSpec]) -> Mapping[str, float]:
    # What a state costs counts more than who learns from it: a student with a memory that sees images has these too.
    if sees_images(observed):
        return IMAGES
    if kind == "tree":
        return TREE
    return MEMORY if kind == "gru" else NUMBERS
