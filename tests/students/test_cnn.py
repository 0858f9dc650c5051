"""The CNN: convolutions for images, in whichever order their axes are; the rest beside them."""

import numpy as np
import pytest
import torch
from samples import HEADS, make_student
from student_answers import batch_for, both

from kd_agent.policies.graph import ObservationSpec


def test_images_with_either_order_of_axes_are_the_same_in_numpy() -> None:
    for shape in ((84, 84, 4), (3, 64, 64), (10, 40, 2), (2, 7, 30)):
        observations = {"image": ObservationSpec(shape, "uint8"), "joints": ObservationSpec((3,), "float32")}
        student = make_student(HEADS["categorical"], "cnn", observations=observations)
        torchs, numpys = both(student, batch_for(student.observations, size=3))
        np.testing.assert_allclose(numpys, torchs, atol=1e-5, rtol=1e-5)
        assert student.graph().num_parameters < 60_000


@pytest.mark.parametrize(
    ("shape", "convolutions"), [((84, 84, 4), 2), ((3, 64, 64), 2), ((10, 40, 2), 1), ((2, 7, 30), 0)]
)
def test_a_picture_goes_through_the_convolutions_that_it_is_large_enough_for(
    shape: tuple[int, ...], convolutions: int
) -> None:
    student = make_student(HEADS["categorical"], "cnn", observations={"image": ObservationSpec(shape, "uint8")})
    assert [op.kind for op in student.ops()].count("conv2d") == convolutions


def test_the_order_of_the_axes_changes_nothing() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (3, 4, 30, 40), np.uint8)
    first = make_student(HEADS["categorical"], "cnn", observations={"image": ObservationSpec((4, 30, 40), "uint8")})
    last = make_student(HEADS["categorical"], "cnn", observations={"image": ObservationSpec((30, 40, 4), "uint8")})
    last.load_state_dict(first.state_dict())
    for student in (first, last):
        student.get_buffer("mean_image").fill_(100)
        student.get_buffer("scale_image").fill_(0.02)
    with torch.no_grad():
        expected = first({"image": torch.from_numpy(picture)}).params
        found = last({"image": torch.from_numpy(np.moveaxis(picture, 1, -1).copy())}).params
    torch.testing.assert_close(found, expected)
    assert expected.std(0).min() > 1e-3


def test_without_images_it_is_an_mlp() -> None:
    student = make_student(HEADS["categorical"], "cnn")
    assert [op.kind for op in student.ops()] == [op.kind for op in make_student(HEADS["categorical"]).ops()]
