"""Students: each file has `build(observations, head, normalizers, *, hidden, activation, dropout, seed)`.

Here is which kind of student, and of what size, a distillation gets where nobody says.
"""

from collections.abc import Mapping
from itertools import pairwise

from kd_agent.networks import Teacher
from kd_agent.policies import ObservationSpec
from kd_agent.students._tied import tie, to_graph
from kd_agent.students._trunk import Trunk

__all__ = [
    "Trunk",
    "budget",
    "count",
    "default_hidden",
    "default_kind",
    "features",
    "has_bias",
    "sees_images",
    "tie",
    "to_graph",
]

MAX_UNITS = 16
_WIDE = 200
_FEW = 500


def budget(teacher: Teacher) -> int:
    """Acting parameters that a default student may have.

    A hundredth of a teacher whose layers are 200 units wide or more, a tenth of a smaller one, and as
    many as the teacher where that has fewer than 500.
    """
    size = teacher.origin.num_parameters
    if size < _FEW:
        return size
    return size // (100 if teacher.widest_layer >= _WIDE else 10)


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


def count(inputs: int, hidden: tuple[int, ...], outputs: int) -> int:
    """Parameters of an MLP."""
    sizes = [inputs, *hidden, outputs]
    return sum((fan_in + 1) * fan_out for fan_in, fan_out in pairwise(sizes))
