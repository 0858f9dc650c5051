"""What a distillation gets where nobody says: the student's kind and size, and what it may cost."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from itertools import pairwise
from typing import Any

from kd_agent.config import DistillConfig
from kd_agent.graph import ObservationSpec
from kd_agent.objective import needs
from kd_agent.policy import Teacher

MAX_UNITS = 16
_WIDE = 200
_FEW = 500
_ROUND, _MOST_ROUNDS = 10_000, 8


def budget(teacher: Teacher) -> int:
    """Acting parameters that a default student may have.

    A hundredth of a teacher whose layers are 200 units wide or more, a tenth of a smaller one, and as
    many as the teacher where that has fewer than 500.
    """
    size = teacher.origin.num_parameters
    if size < _FEW:
        return size
    return size // (100 if teacher.widest_layer >= _WIDE else 10)


@dataclass(frozen=True)
class Effort:
    """What a distillation may cost; the names and units are those of the settings."""

    env_steps: int
    rounds: int
    n_envs: int
    round_steps: int
    final_steps: int
    attempts: int
    exam_episodes: int
    batch_size: int
    learning_rate: float


NUMBERS = {"env_steps": 100_000, "n_envs": 16, "round_steps": 500, "final_steps": 6_000, "attempts": 8,
           "exam_episodes": 100, "batch_size": 512, "learning_rate": 5e-3}  # fmt: skip
"""For students that see numbers."""
IMAGES = {"env_steps": 40_000, "n_envs": 4, "round_steps": 200, "final_steps": 3_000, "attempts": 3,
          "exam_episodes": 20, "batch_size": 64, "learning_rate": 1e-3}  # fmt: skip
"""For students that see images: a gradient step costs a hundred times more, and a state 28 kB."""

MEMORY = {**NUMBERS, "round_steps": 150, "final_steps": 2_000, "attempts": 4, "batch_size": 1_024}
"""For students with a memory: a gradient step goes through a window, one state after the other."""


def effort(config: DistillConfig, teacher: Teacher, seen: Mapping[str, ObservationSpec]) -> Effort:
    """What the settings ask for, with the defaults where they are silent."""
    memory = (config.student or default_kind(teacher, seen)) == "gru"
    default = IMAGES if sees_images(seen) else MEMORY if memory else NUMBERS
    given = {f.name: getattr(config, f.name) for f in fields(Effort)}
    given |= dict.fromkeys(("round_steps", "final_steps"), 0) if config.student == "tree" else {}
    decided: dict[str, Any] = {**default, **{name: value for name, value in given.items() if value is not None}}
    return Effort(**{"rounds": default_rounds(decided["env_steps"]), **decided})


def default_rounds(env_steps: int) -> int:
    """Rounds for a budget of environment steps: 8 at most, none of fewer than 10,000 steps unless it is the only one.

    A student fitted to less drives badly, and what it visits crowds out the states that matter (docs/family.md).
    """
    return min(max(env_steps // _ROUND, 1), _MOST_ROUNDS)


def sees_images(seen: Mapping[str, ObservationSpec]) -> bool:
    """Whether an observation is `uint8` with three axes."""
    return any(spec.dtype == "uint8" and len(spec.shape) == 3 for spec in seen.values())


def default_kind(teacher: Teacher, seen: Mapping[str, ObservationSpec]) -> str:
    """`gru` for a teacher with a memory, `cnn` for a student that sees images, else `mlp`."""
    if teacher.recurrent:
        return "gru"
    return "cnn" if sees_images(seen) else "mlp"


def default_hidden(teacher: Teacher, seen: Mapping[str, ObservationSpec]) -> tuple[int, ...]:
    """Hidden layers within a teacher's `budget`.

    The widest two equal layers of at most 16 units; one layer where two would have fewer than 4 units
    each, none where even that does not fit. Behind convolutions: one layer of 32 units.
    """
    inputs, outputs, limit = features(seen), teacher.head.spec.num_acting, budget(teacher)
    if default_kind(teacher, seen) == "cnn":
        return (2 * MAX_UNITS,)
    for depth, fewest in ((2, 4), (1, 1)):
        for units in range(MAX_UNITS, fewest - 1, -1):
            if count(inputs, (units,) * depth, outputs) <= limit:
                return (units,) * depth
    return ()


def has_bias(teacher: Teacher, seen: Mapping[str, ObservationSpec], hidden: tuple[int, ...]) -> bool:
    """Whether the last layer has a bias: not where that makes a linear student larger than its teacher."""
    return bool(hidden) or count(features(seen), (), teacher.head.spec.num_acting) <= teacher.origin.num_parameters


def features(seen: Mapping[str, ObservationSpec]) -> int:
    """How many numbers a student reads."""
    return sum(spec.features for spec in seen.values())


def default_loss(teacher: Teacher) -> dict[str, float]:
    """Squared error of means for Gaussian heads, else KL."""
    return {"mse" if teacher.head.spec.is_gaussian else "kl": 1.0}


def settled(config: DistillConfig, teacher: Teacher, seen: Mapping[str, ObservationSpec]) -> DistillConfig:
    """The settings with every default decided."""
    loss = config.loss or default_loss(teacher)
    return replace(
        config,
        **asdict(effort(config, teacher, seen)),
        student=config.student or default_kind(teacher, seen),
        hidden=default_hidden(teacher, seen) if config.hidden is None else config.hidden,
        loss=loss,
        teacher_layer=(config.teacher_layer or teacher.last_layer) if "layer" in needs(loss) else None,
    )


def count(inputs: int, hidden: tuple[int, ...], outputs: int) -> int:
    """Parameters of an MLP."""
    sizes = [inputs, *hidden, outputs]
    return sum((fan_in + 1) * fan_out for fan_in, fan_out in pairwise(sizes))
