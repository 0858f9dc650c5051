"""Students: each file has `build(observations, head, normalizers, *, hidden, activation, dropout, seed)`.

Here is which kind of student, and of what size, a distillation gets where nobody says.
"""

import sys
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from itertools import pairwise

from kd_agent.environments import is_image
from kd_agent.errors import KDError
from kd_agent.networks import Layers, Teacher
from kd_agent.policies import Array, Normalizer, ObservationSpec
from kd_agent.policies.normalizer import UNBOUNDED
from kd_agent.students._tied import tie, to_graph
from kd_agent.students._trunk import Trunk

__all__ = [
    "Trunk",
    "budget",
    "count",
    "default_hidden",
    "default_kind",
    "features",
    "growing_sizes",
    "has_bias",
    "hidden_for",
    "normalizers_for",
    "same_layers",
    "sees_images",
    "tie",
    "to_graph",
]

MAX_UNITS = 16
"""Units of a default hidden layer at most: rules of thumb, as the two below."""
_WIDE = 200
"""Units from which a teacher's layers count as wide."""
_FEW = 500
"""Parameters below which a teacher is as small as a student need be."""


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
    teacher: Teacher, observed: Mapping[str, ObservationSpec], hidden: tuple[int, ...]
) -> list[tuple[int, ...]]:
    """Hidden layers that a student may grow to, each of twice the parameters, up to a tenth of its teacher's.

    Args:
        teacher: The student's teacher.
        observed: What the student sees, by key.
        hidden: Its layers at first; they are the first of the list.
    """
    sizes = [hidden]
    outputs = teacher.head.spec.num_acting
    most = (teacher.origin.num_parameters or 0) // 10
    limit = 2 * count(features(observed), hidden, outputs)
    while limit <= most:
        sizes.append(_hidden_within(limit, teacher, observed, limit))
        limit *= 2
    # The last one too has what it may have.
    largest = _hidden_within(most, teacher, observed, most)
    if count(features(observed), largest, outputs) > 1.2 * count(features(observed), sizes[-1], outputs):
        sizes.append(largest)
    return sizes


def hidden_for(teacher: Teacher, observed: Mapping[str, ObservationSpec], compression: float) -> tuple[int, ...]:
    """Hidden layers of a student of so many times fewer parameters than its teacher.

    Args:
        teacher: The student's teacher.
        observed: What the student sees, by key.
        compression: How many times fewer.

    Raises:
        KDError: Nobody can count the teacher's, or even a linear student has more.
    """
    size = teacher.origin.num_parameters
    if size is None:
        raise KDError(f"{teacher.origin.source}: its parameters cannot be counted; name --hidden, not --compression")
    limit = int(size / compression)
    hidden = _hidden_within(limit, teacher, observed, limit)
    if count(features(observed), hidden, teacher.head.spec.num_acting) > limit:
        raise KDError(f"--compression {compression:g}: a linear student has more than {limit:,} parameters")
    return hidden


def _hidden_within(
    limit: int, teacher: Teacher, observed: Mapping[str, ObservationSpec], most_units: int
) -> tuple[int, ...]:
    """The widest two equal layers within a number of parameters, else one layer, else none.

    Args:
        limit: The number.
        teacher: The student's teacher.
        observed: What the student sees, by key.
        most_units: Units of a layer at most.
    """
    inputs = features(observed)
    outputs = teacher.head.spec.num_acting
    for depth, fewest in ((2, 4), (1, 1)):
        size = partial(_count_alike, inputs=inputs, depth=depth, outputs=outputs)
        widest = bisect_right(range(most_units + 1), limit, key=size) - 1
        if widest >= fewest:
            return (widest,) * depth
    return ()


def _count_alike(units: int, *, inputs: int, depth: int, outputs: int) -> int:
    """`count` of equal layers."""
    return count(inputs, (units,) * depth, outputs)


def has_bias(
    teacher: Teacher, observed: Mapping[str, ObservationSpec], hidden: tuple[int, ...], activation: str | None = None
) -> bool:
    """Whether the layers have biases: as in a teacher whose layers the student has.

    Else not where that makes a linear student larger than its teacher.

    Args:
        teacher: The student's teacher.
        observed: What the student sees, by key.
        hidden: Units of each hidden layer.
        activation: What lies between them; None: whatever the teacher has there.
    """
    same = same_layers(teacher, observed)
    if same is not None and _is_of(same, hidden, activation):
        return same.bias
    size = teacher.origin.num_parameters
    if hidden or size is None:
        return True
    return count(features(observed), (), teacher.head.spec.num_acting) <= size


def normalizers_for(
    teacher: Teacher,
    observed: Mapping[str, ObservationSpec],
    states: Mapping[str, Array],
    *,
    hidden: tuple[int, ...],
    activation: str | None = None,
) -> dict[str, Normalizer]:
    """What a student normalises its observations by, by key; categories need none.

    Args:
        teacher: The student's teacher.
        observed: What the student sees, by key.
        states: States `[S, *O]` by key.
        hidden: Units of each hidden layer.
        activation: What lies between them; None: whatever the teacher has there.
    """
    same = same_layers(teacher, observed)
    if same is not None and not _is_of(same, hidden, activation):
        same = None
    normalizers = {}
    for key, spec in observed.items():
        # Categories become indicators, which are 0 and 1 already.
        if spec.categories:
            continue
        if same is not None and key in same.normalizers:
            normalizers[key] = same.normalizers[key]
        elif same is not None:
            # Its teacher clips nothing, and without biases nothing could undo a shift: then only the scale is taken.
            own = Normalizer.of(states[key], centred=same.bias)
            normalizers[key] = replace(own, clip=UNBOUNDED)
        else:
            normalizers[key] = Normalizer.of(states[key])
    return normalizers


def _is_of(layers: Layers, hidden: tuple[int, ...], activation: str | None) -> bool:
    """Whether a student of these hidden layers has a teacher's layers."""
    same_functions = not hidden or activation in (None, layers.activation)
    return layers.hidden == hidden and same_functions


def features(observed: Mapping[str, ObservationSpec]) -> int:
    """How many numbers a student reads."""
    return sum(spec.features for spec in observed.values())


def count(inputs: int, hidden: tuple[int, ...], outputs: int) -> int:
    """Parameters of an MLP, each layer's biases among them.

    Args:
        inputs: Numbers that it reads.
        hidden: Units of each hidden layer.
        outputs: Numbers that it gives.
    """
    parameters = 0
    for fan_in, fan_out in pairwise([inputs, *hidden, outputs]):
        parameters += (fan_in + 1) * fan_out
    return parameters
