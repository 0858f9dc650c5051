"""Which student a teacher gets where nobody says, and of what size."""

from types import SimpleNamespace
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from samples import HEADS, make_student

from kd_agent import KDError
from kd_agent.networks import Layers
from kd_agent.networks.distributions import head_for
from kd_agent.policies import Normalizer
from kd_agent.policies.graph import ObservationSpec
from kd_agent.students import (
    budget,
    count,
    default_hidden,
    default_kind,
    features,
    growing_sizes,
    has_bias,
    hidden_for,
    normalizers_for,
    same_layers,
    sees_images,
)

FOUR = {"obs": ObservationSpec((4,), "float32")}
IMAGE = {"image": ObservationSpec((84, 84, 4), "uint8")}


def teacher_of(
    parameters: int | None,
    widest: int = 64,
    *,
    actions: int = 2,
    recurrent: bool = False,
    layers: Layers | None = None,
    observations: Any = FOUR,
) -> Any:
    """What the sizes look at in a teacher."""
    return SimpleNamespace(
        head=head_for(gym.spaces.Discrete(actions)),
        origin=SimpleNamespace(num_parameters=parameters, source="teacher.zip"),
        widest_layer=widest,
        recurrent=recurrent,
        layers=layers,
        observations=observations,
    )


@pytest.mark.parametrize(
    ("parameters", "widest", "expected"),
    [(499, 16, 499), (500, 16, 50), (4_610, 64, 461), (9_999, 199, 999), (70_000, 200, 700), (499, 400, 499)],
)
def test_a_budget_is_a_tenth_a_hundredth_of_a_wide_teacher_and_all_of_a_tiny_one(
    parameters: int, widest: int, expected: int
) -> None:
    assert budget(teacher_of(parameters, widest)) == expected


@pytest.mark.parametrize(
    ("parameters", "hidden"),
    [
        (100_000, (16, 16)),
        (3_860, (16, 16)),  # 386 parameters: (4 + 1) * 16 + 17 * 16 + 17 * 2
        (3_850, (15, 15)),
        (500, (4, 4)),  # 50 is the least that two layers need
        (49, (6,)),
        (10, (1,)),
        (8, ()),
    ],
)
def test_the_widest_layers_within_the_budget_are_taken(parameters: int, hidden: tuple[int, ...]) -> None:
    teacher = teacher_of(parameters)
    assert default_hidden(teacher, FOUR) == hidden
    assert not hidden or count(4, hidden, 2) <= budget(teacher)


def test_one_layer_lies_behind_convolutions_whatever_the_budget() -> None:
    assert default_hidden(teacher_of(500), IMAGE) == (32,)


@pytest.mark.parametrize(
    ("observed", "recurrent", "kind"),
    [(FOUR, False, "mlp"), (IMAGE, False, "cnn"), ({**FOUR, **IMAGE}, False, "cnn"), (IMAGE, True, "gru")],
)
def test_the_kind_follows_memory_first_and_images_second(
    observed: dict[str, ObservationSpec], recurrent: bool, kind: str
) -> None:
    assert default_kind(teacher_of(5_000, recurrent=recurrent), observed) == kind


@pytest.mark.parametrize(
    "spec",
    [ObservationSpec((84, 84), "uint8"), ObservationSpec((84, 84, 4), "float32"), ObservationSpec((4,), "uint8")],
)
def test_not_every_array_is_an_image(spec: ObservationSpec) -> None:
    assert not sees_images({"obs": spec})
    assert sees_images({"obs": spec, **IMAGE})


def test_a_linear_student_has_a_bias_where_that_is_no_larger_than_its_teacher() -> None:
    assert has_bias(teacher_of(10), FOUR, ())
    assert not has_bias(teacher_of(9), FOUR, ())
    assert has_bias(teacher_of(9), FOUR, (16,))


@pytest.mark.parametrize("hidden", [(), (5,), (8, 3)])
def test_what_is_counted_is_what_a_student_has(hidden: tuple[int, ...]) -> None:
    observed = {"obs": ObservationSpec((3,), "float32"), "floor": ObservationSpec((), "int64", (4,))}
    assert features(observed) == 3 + 4
    student = make_student(head_for(gym.spaces.Discrete(2)), observations=FOUR, hidden=hidden)
    assert count(4, hidden, 2) == student.graph().num_parameters


def test_a_teacher_of_unknown_size_gets_the_ordinary_student() -> None:
    teacher = teacher_of(None)
    assert default_hidden(teacher, FOUR) == (16, 16)
    assert has_bias(teacher, FOUR, (16, 16))
    assert has_bias(teacher, FOUR, ())
    assert default_hidden(teacher_of(None), IMAGE) == (32,)


LINEAR = Layers((), None, bias=False)


def test_a_tiny_teacher_is_offered_its_own_shape_and_a_larger_one_is_not() -> None:
    tiny = Layers((5, 3), "tanh", bias=True)
    assert default_hidden(teacher_of(499, layers=tiny), FOUR) == (5, 3)
    assert default_hidden(teacher_of(500, layers=tiny), FOUR) == (4, 4)
    # A linear map of 8 numbers: two hidden units at most would fit, and none of them could be it.
    assert default_hidden(teacher_of(8, layers=LINEAR), FOUR) == ()
    assert not has_bias(teacher_of(8, layers=LINEAR), FOUR, ())
    assert has_bias(teacher_of(8, layers=LINEAR), FOUR, (16,))
    assert not has_bias(teacher_of(44, layers=Layers((5, 3), "tanh", bias=False)), FOUR, (5, 3))


@pytest.mark.parametrize("changed", [{"recurrent": True}, {"observations": {"key": FOUR["obs"]}}, {"parameters": None}])
def test_a_teacher_that_sees_something_else_is_no_model_for_its_students_shape(changed: dict[str, Any]) -> None:
    settings = {"parameters": 8, "layers": LINEAR, **changed}
    assert same_layers(teacher_of(**settings), FOUR) is None


def test_a_student_of_its_teachers_shape_can_be_its_teacher_exactly() -> None:
    states = {"obs": np.random.default_rng(0).normal(3, 2, (500, 4)).astype(np.float32)}
    # Nothing undoes a shift where there is no bias.
    [uncentred] = normalizers_for(teacher_of(8, layers=LINEAR), FOUR, states, hidden=()).values()
    np.testing.assert_array_equal(uncentred.mean, np.zeros(4))
    np.testing.assert_allclose(uncentred.scale, np.sqrt(1 / np.square(states["obs"]).mean(0)), rtol=1e-5)
    # A flag that is seldom up is many of its deviations when it is: the teacher hears of it in full.
    far = np.full((1, 4), 1e6, np.float32)
    np.testing.assert_allclose(uncentred(far), far * uncentred.scale, rtol=1e-6)
    # What the teacher normalises by, the student does too.
    own = Normalizer(np.ones(4), np.full(4, 2.0))
    layers = Layers((), None, bias=False, normalizers={"obs": own})
    assert normalizers_for(teacher_of(8, layers=layers), FOUR, states, hidden=()) == {"obs": own}
    # Another shape has statistics of its own.
    [other] = normalizers_for(teacher_of(8, layers=layers), FOUR, states, hidden=(4,)).values()
    np.testing.assert_allclose(other.mean, states["obs"].mean(0), rtol=1e-5)


def test_layers_of_another_activation_are_not_the_teachers() -> None:
    states = {"obs": np.random.default_rng(0).normal(3, 2, (500, 4)).astype(np.float32)}
    teacher = teacher_of(44, layers=Layers((5, 3), "tanh", bias=False))
    assert has_bias(teacher, FOUR, (5, 3), "silu")
    assert not has_bias(teacher, FOUR, (5, 3), "tanh")
    [own] = normalizers_for(teacher, FOUR, states, hidden=(5, 3), activation="silu").values()
    np.testing.assert_allclose(own.mean, states["obs"].mean(0), rtol=1e-5)


@pytest.mark.parametrize(
    ("parameters", "hidden", "expected"),
    [
        # 22 parameters, 44 of 44, 86 of 88; then the tenth, 100, has no room for seven units, which need 107.
        (1_000, (2, 2), [(2, 2), (6,), (6, 6)]),
        # Here it has, and they are a fifth more.
        (1_080, (2, 2), [(2, 2), (6,), (6, 6), (7, 7)]),
        (1_000, (6, 6), [(6, 6)]),
        (1_000, (), [(), (2,), (5,), (5, 5), (6, 6)]),
        (None, (2, 2), [(2, 2)]),
        (100_000, (2, 2), [(2, 2), (6,), (6, 6), (9, 9), (15, 15), (22, 22), (33, 33), (49, 49), (71, 71), (96, 96)]),
    ],
)
def test_a_student_grows_by_twice_the_parameters_up_to_a_tenth_of_its_teachers(
    parameters: int | None, hidden: tuple[int, ...], expected: list[tuple[int, ...]]
) -> None:
    sizes = growing_sizes(teacher_of(parameters), FOUR, hidden)
    assert sizes == expected
    counts = [count(4, size, 2) for size in sizes]
    assert counts == sorted(set(counts))
    assert all(size <= (parameters or 0) / 10 for size in counts[1:])


@pytest.mark.parametrize(
    ("compression", "hidden"),
    [(1, (27, 27)), (10, (6, 6)), (12, (5, 5)), (20, (4, 4)), (21, (6,)), (55, (2,)), (111, (1,))],
)
def test_a_student_of_so_many_times_fewer_parameters_has_no_more_and_as_many_as_fit(
    compression: float, hidden: tuple[int, ...]
) -> None:
    """The teacher has 1,000; nothing but the number counts, neither its layers nor the widest default."""
    assert hidden_for(teacher_of(1_000, layers=Layers((5, 3), "tanh", bias=True)), FOUR, compression) == hidden
    assert count(4, hidden, 2) * compression <= 1_000
    wider = tuple(units + 1 for units in hidden)
    assert count(4, wider, 2) * compression > 1_000


@pytest.mark.parametrize(
    ("parameters", "compression", "said"),
    [
        (1_000, 112, "--compression 112: a linear student has more than 8 parameters"),
        (1_000, 166.7, "--compression 166.7: a linear student has more than 5 parameters"),
        (None, 10, "teacher.zip: its parameters cannot be counted; name --hidden, not --compression"),
    ],
)
def test_a_compression_that_nobody_can_have_is_refused(parameters: int | None, compression: float, said: str) -> None:
    with pytest.raises(KDError) as caught:
        hidden_for(teacher_of(parameters), FOUR, compression)
    assert str(caught.value) == said


@pytest.mark.parametrize("hidden", [(5,), (7, 5), (3, 3, 4)])
def test_a_memory_is_counted_with_its_gates(hidden: tuple[int, ...]) -> None:
    student = make_student(HEADS["categorical"], "gru", hidden=hidden)
    outputs = HEADS["categorical"].spec.num_acting
    assert count(features(student.observations), hidden, outputs, "gru") == student.policy().num_parameters


def test_a_memory_grows_and_is_compressed_by_its_own_count() -> None:
    teacher = teacher_of(30_000)
    sizes = growing_sizes(teacher, FOUR, (8, 8), "gru")
    counts = [count(4, size, 2, "gru") for size in sizes]
    assert counts == sorted(set(counts))
    assert len(counts) == 4
    assert max(counts) <= 3_000
    hidden = hidden_for(teacher, FOUR, 20, "gru")
    wider = tuple(units + 1 for units in hidden)
    assert count(4, hidden, 2, "gru") <= 1_500 < count(4, wider, 2, "gru")


def test_nobody_counts_convolutions() -> None:
    for grown in (
        lambda: growing_sizes(teacher_of(30_000), IMAGE, (8,), "cnn"),
        lambda: hidden_for(teacher_of(30_000), IMAGE, 20, "cnn"),
    ):
        with pytest.raises(KDError, match="the parameters of a cnn are not counted"):
            grown()
