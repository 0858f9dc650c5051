"""Students: each file has `build(observations, head, normalizers, *, hidden, activation, dropout, seed)`.

Here is which kind of student, and of what size, a distillation gets where nobody says.
"""

import sys
from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise

from kd_agent.environments import is_image
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
    "has_bias",
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
    inputs = features(observed)
    outputs = teacher.head.spec.num_acting
    limit = budget(teacher)
    for depth, fewest in ((2, 4), (1, 1)):
        for units in range(MAX_UNITS, fewest - 1, -1):
            hidden = (units,) * depth
            if count(inputs, hidden, outputs) <= limit:
                return hidden
    return ()


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
