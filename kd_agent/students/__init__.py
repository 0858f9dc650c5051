"""Students: each file has `build(observations, head, normalizers, *, hidden, activation, dropout, seed)`.

Here is what is decided for every kind: biases and normalisers. Which kind and size a student has where nobody says is
in `_defaults`.
"""

from collections.abc import Mapping
from dataclasses import replace

from kd_agent.networks import Layers, Teacher
from kd_agent.policies import Array, Normalizer, ObservationSpec
from kd_agent.policies.normalizer import UNBOUNDED
from kd_agent.students._defaults import (
    COUNTED,
    budget,
    count,
    default_hidden,
    default_kind,
    features,
    growing_sizes,
    hidden_for,
    same_layers,
    sees_images,
)
from kd_agent.students._tied import tie, to_graph
from kd_agent.students._trunk import Trunk

__all__ = [
    "COUNTED",
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
