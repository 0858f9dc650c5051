"""How large a student is where nobody says."""

from itertools import pairwise

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


def default_hidden(inputs: int, outputs: int, limit: int) -> tuple[int, ...]:
    """The widest two equal hidden layers, of at most 16 units, within `limit` parameters.

    One layer where two would have fewer than 4 units each, none where even that does not fit.

    Args:
        inputs: Numbers in an observation.
        outputs: Acting columns of the head.
        limit: Acting parameters at most.
    """
    for depth, fewest in ((2, 4), (1, 1)):
        for units in range(MAX_UNITS, fewest - 1, -1):
            if count(inputs, (units,) * depth, outputs) <= limit:
                return (units,) * depth
    return ()


def count(inputs: int, hidden: tuple[int, ...], outputs: int) -> int:
    """Parameters of an MLP."""
    sizes = [inputs, *hidden, outputs]
    return sum((fan_in + 1) * fan_out for fan_in, fan_out in pairwise(sizes))
