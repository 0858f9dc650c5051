"""Which kind of student, and of what size, a distillation gets where nobody says."""

import sys
from bisect import bisect_right
from collections.abc import Mapping
from functools import partial
from itertools import pairwise

from kd_agent.environments import is_image
from kd_agent.errors import KDError
from kd_agent.networks import Layers, Teacher
from kd_agent.policies import ObservationSpec

MAX_UNITS = 16
"""Units of a default hidden layer at most: rules of thumb, as the two below."""
_WIDE = 200
"""Units from which a teacher's layers count as wide."""
_FEW = 500
"""Parameters below which a teacher is as small as a student need be."""
COUNTED = ("mlp", "gru")
"""Kinds of students whose parameters follow from their hidden layers."""


def budget(teacher: Teacher) -> int:
    """Acting parameters that a default student may have.

    A hundredth of a teacher whose layers are 200 units wide or more, a tenth of a smaller one, and as
    many as the teacher where that has fewer than 500. Where nobody can count them, no bound.
    """
    size = teacher.origin.num_parameters
    if size is None:
        return sys.maxsize
    if size < _FEW:
        return size
    if teacher.widest_layer >= _WIDE:
        return size // 100
    return size // 10


def sees_images(observed: Mapping[str, ObservationSpec]) -> bool:
    """Whether one of the observations is an image."""
    return any(map(is_image, observed.values()))


def default_kind(teacher: Teacher, observed: Mapping[str, ObservationSpec]) -> str:
    """`gru` for a teacher with a memory, `cnn` for a student that sees images, else `mlp`.

    Args:
        teacher: The student's teacher.
        observed: What the student sees, by key.
    """
    if teacher.recurrent:
        return "gru"
    if sees_images(observed):
        return "cnn"
    return "mlp"


def same_layers(teacher: Teacher, observed: Mapping[str, ObservationSpec]) -> Layers | None:
    """The layers of a teacher that is as small as a student need be, which its student then has too.

    None where it is larger, or no plain multilayer perceptron of what the student sees.

    Args:
        teacher: The student's teacher.
        observed: What the student sees, by key.
    """
    layers = teacher.layers
    size = teacher.origin.num_parameters
    if layers is None or size is None or size >= _FEW:
        return None
    if default_kind(teacher, observed) != "mlp" or dict(teacher.observations) != dict(observed):
        return None
    return layers


def default_hidden(teacher: Teacher, observed: Mapping[str, ObservationSpec]) -> tuple[int, ...]:
    """Those of a teacher that is as small as a student need be, else hidden layers within its `budget`.

    The widest two equal layers of at most 16 units; one layer where two would have fewer than 4 units
    each, none where even that does not fit. Behind convolutions: one layer of 32 units.

    Args:
        teacher: The student's teacher.
        observed: What the student sees, by key.
    """
    if default_kind(teacher, observed) == "cnn":
        # A budget is one of an MLP's parameters; `count` knows nothing of convolutions.
        return (2 * MAX_UNITS,)
    same = same_layers(teacher, observed)
    if same is not None:
        return same.hidden
    return _hidden_within(budget(teacher), teacher, observed, MAX_UNITS)


def growing_sizes(
    teacher: Teacher, observed: Mapping[str, ObservationSpec], hidden: tuple[int, ...], kind: str = "mlp"
) -> list[tuple[int, ...]]:
    """Hidden layers that a student may grow to, each of twice the parameters, up to a tenth of its teacher's.

    Args:
        teacher: The student's teacher.
        observed: What the student sees, by key.
        hidden: Its layers at first; they are the first of the list.
        kind: Its kind.

    Raises:
        KDError: The parameters of such students are not counted.
    """
    sizes = [hidden]
    size = partial(count, features(observed), outputs=teacher.head.spec.num_acting, kind=kind)
    most = (teacher.origin.num_parameters or 0) // 10
    limit = 2 * size(hidden)
    while limit <= most:
        sizes.append(_hidden_within(limit, teacher, observed, limit, kind))
        limit *= 2
    # The last one too has what it may have.
    largest = _hidden_within(most, teacher, observed, most, kind)
    if size(largest) > 1.2 * size(sizes[-1]):
        sizes.append(largest)
    return sizes


def hidden_for(
    teacher: Teacher, observed: Mapping[str, ObservationSpec], compression: float, kind: str = "mlp"
) -> tuple[int, ...]:
    """Hidden layers of a student of so many times fewer parameters than its teacher.

    Args:
        teacher: The student's teacher.
        observed: What the student sees, by key.
        compression: How many times fewer.
        kind: The student's kind.

    Raises:
        KDError: Nobody can count the teacher's parameters or the student's, or even the smallest student has more.
    """
    size = teacher.origin.num_parameters
    if size is None:
        raise KDError(f"{teacher.origin.source}: its parameters cannot be counted; name --hidden, not --compression")
    limit = int(size / compression)
    hidden = _hidden_within(limit, teacher, observed, limit, kind)
    if count(features(observed), hidden, teacher.head.spec.num_acting, kind) > limit:
        smallest = "a memory of one unit" if kind == "gru" else "a linear student"
        raise KDError(f"--compression {compression:g}: {smallest} has more than {limit:,} parameters")
    return hidden


def _hidden_within(
    limit: int, teacher: Teacher, observed: Mapping[str, ObservationSpec], most_units: int, kind: str = "mlp"
) -> tuple[int, ...]:
    """The widest two equal layers within a number of parameters, else one layer, else as few as the kind can have.

    Args:
        limit: The number.
        teacher: The student's teacher.
        observed: What the student sees, by key.
        most_units: Units of a layer at most.
        kind: The student's kind.
    """
    for depth, fewest in ((2, 4), (1, 1)):

        def size(units: int, depth: int = depth) -> int:
            layers = (units,) * depth
            return count(features(observed), layers, teacher.head.spec.num_acting, kind)

        widest = bisect_right(range(most_units + 1), limit, key=size) - 1
        if widest >= fewest:
            return (widest,) * depth
    return (1,) if kind == "gru" else ()


def features(observed: Mapping[str, ObservationSpec]) -> int:
    """How many numbers a student reads."""
    return sum(spec.features for spec in observed.values())


def count(inputs: int, hidden: tuple[int, ...], outputs: int, kind: str = "mlp") -> int:
    """Parameters of a student, each layer's biases among them.

    Args:
        inputs: Numbers that it reads.
        hidden: Units of each hidden layer; the last is the memory of a `gru`.
        outputs: Numbers that it gives.
        kind: Its kind, one of `COUNTED`.

    Raises:
        KDError: It is another kind.
    """
    if kind not in COUNTED:
        raise KDError(f"the parameters of a {kind} are not counted: name --hidden, without --compression or --grow")
    layers = list(pairwise([inputs, *hidden, outputs]))
    parameters = 0
    for number, (fan_in, fan_out) in enumerate(layers):
        if kind == "gru" and number == len(layers) - 2:
            # Three gates, each of the layer's input and of the memory, with a bias for either (Cho et al. 2014).
            parameters += 3 * (fan_in + fan_out + 2) * fan_out
        else:
            parameters += (fan_in + 1) * fan_out
    return parameters
