"""What student a teacher gets where nobody says: its kind and its size."""

from collections.abc import Mapping
from itertools import pairwise

from kd_agent.graph import ObservationSpec
from kd_agent.policy import Teacher

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


def default_kind(teacher: Teacher, seen: Mapping[str, ObservationSpec]) -> str:
    """`gru` for a teacher with a memory, `cnn` for a student that sees images, else `mlp`."""
    if teacher.recurrent:
        return "gru"
    images = any(spec.dtype == "uint8" and len(spec.shape) == 3 for spec in seen.values())
    return "cnn" if images else "mlp"


def default_layers(teacher: Teacher, seen: Mapping[str, ObservationSpec]) -> tuple[tuple[int, ...], bool]:
    """Hidden layers within a teacher's `budget`, and whether the last layer has a bias.

    The widest two equal layers of at most 16 units; one layer where two would have fewer than 4 units
    each, none where even that does not fit, and then without a bias where that is too much.
    """
    inputs = sum(spec.features for spec in seen.values())
    outputs, limit = teacher.head.spec.num_acting, budget(teacher)
    if default_kind(teacher, seen) == "cnn":
        return (2 * MAX_UNITS,), True
    for depth, fewest in ((2, 4), (1, 1)):
        for units in range(MAX_UNITS, fewest - 1, -1):
            if count(inputs, (units,) * depth, outputs) <= limit:
                return (units,) * depth, True
    return (), count(inputs, (), outputs) <= limit


def count(inputs: int, hidden: tuple[int, ...], outputs: int) -> int:
    """Parameters of an MLP."""
    sizes = [inputs, *hidden, outputs]
    return sum((fan_in + 1) * fan_out for fan_in, fan_out in pairwise(sizes))
