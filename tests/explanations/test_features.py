"""Features: each number and each patch has one name and one place."""

import numpy as np
import pytest
from known_policies import FOUR

from kd_agent import KDError
from kd_agent.explanations.features import Feature, features_of, grid, is_image
from kd_agent.policies.graph import ObservationSpec


@pytest.mark.parametrize("shape", [(20, 17, 3), (1, 84, 84), (5, 9, 3)])
def test_every_pixel_is_in_one_patch(shape: tuple[int, ...]) -> None:
    covered = np.zeros(shape, int)
    for feature in features_of({"image": ObservationSpec(shape, "uint8")}):
        covered[feature.where] += 1
    assert (covered == 1).all()


def test_features_have_the_names_of_the_environment_or_those_given() -> None:
    eight = {"obs": ObservationSpec((8,), "float32")}
    names = [f.name for f in features_of(eight, "LunarLanderContinuous-v3")]
    assert names[:3] == ["x", "y", "x velocity"]
    assert [f.name for f in features_of(FOUR, "CartPole-v1")][2] == "pole angle"
    assert [f.name for f in features_of(FOUR, "LunarLander-v3")] == ["x[0]", "x[1]", "x[2]", "x[3]"]
    assert [f.name for f in features_of(FOUR, "CartPole-v1", ["a", "b", "c", "d"])] == ["a", "b", "c", "d"]
    several = {"joints": ObservationSpec((2, 1), "float32"), "n": ObservationSpec((), "int64", (3,))}
    assert [f.name for f in features_of(several)] == ["joints[0, 0]", "joints[1, 0]", "n"]


@pytest.mark.parametrize("names", [["a"], ["a", "b", "c", "d", "e"]])
def test_names_are_as_many_as_there_are_numbers(names: list[str]) -> None:
    with pytest.raises(KDError, match=rf"^names: {len(names)} given, .* 4 numbers"):
        features_of(FOUR, "CartPole-v1", names)


def test_names_are_for_numbers_and_patches_keep_theirs() -> None:
    mixed = {"image": ObservationSpec((4, 6, 3), "uint8"), "speed": ObservationSpec((2,), "float32")}
    features = features_of(mixed, names=["left", "right"])
    assert [f.name for f in features if f.cell is None] == ["left", "right"]
    assert [f.name for f in features][:2] == ["image patch 0, 0", "image patch 0, 1"]
    assert len(features) == 4 * 6 + 2


def test_of_several_keys_a_known_name_says_whose_it_is() -> None:
    several = {"state": ObservationSpec((4,), "float32"), "goal": ObservationSpec((1,), "float32")}
    assert [f.name for f in features_of(several, "CartPole-v1")][1:] == [
        "state: cart velocity",
        "state: pole angle",
        "state: pole angular velocity",
        "goal[0]",
    ]


def test_a_feature_is_replaced_in_a_copy() -> None:
    observations = {"x": np.arange(6, dtype=np.float32).reshape(2, 3), "y": np.zeros((2, 1))}
    feature = Feature("x[1]", "x", (1,))
    changed = feature.replaced(observations, np.float32([7, 8]))
    np.testing.assert_array_equal(feature.of(observations), [1, 4])
    np.testing.assert_array_equal(changed["x"], [[0, 7, 2], [3, 8, 5]])
    assert changed["y"] is observations["y"]


@pytest.mark.parametrize(
    ("shape", "dtype", "patches"),
    [
        ((84, 84, 4), "uint8", (8, 8)),
        ((3, 5, 60), "uint8", (5, 8)),
        ((84, 84), "uint8", None),
        ((9, 9, 3), "float32", None),
    ],
)
def test_an_image_has_bytes_and_three_axes_and_eight_patches_a_side_at_most(
    shape: tuple[int, ...], dtype: str, patches: tuple[int, int] | None
) -> None:
    spec = ObservationSpec(shape, dtype)
    assert is_image(spec) == (patches is not None)
    if patches:
        assert grid(spec) == patches
