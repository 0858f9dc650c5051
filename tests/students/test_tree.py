"""The tree as a student: how it begins, what it splits by, and what it becomes."""

from pathlib import Path

import numpy as np
import pytest
import torch
from samples import HEADS, Agent, settings
from tree_samples import TWO, small_graph

from kd_agent import KDError, plugins
from kd_agent.policies.graph import ObservationSpec
from kd_agent.policies.ops import MAX_LEAVES, tree_depth
from kd_agent.settings import DistillConfig, resolve
from kd_agent.students.tree import Tree
from kd_agent.studies.compression import compress

FOUR = {"obs": ObservationSpec((4,), "float32")}
STUMP = {
    "feature": np.int32([2]),
    "threshold": np.float32([0.5]),
    "left": np.int32([1]),
    "right": np.int32([2]),
    "value": np.float32([[1, 0], [0, 1]]),
}


@pytest.mark.parametrize("leaves", [0, 1, MAX_LEAVES + 1])
def test_too_few_or_too_many_leaves_are_refused(leaves: int) -> None:
    with pytest.raises(KDError, match=f"a tree has 2 to {MAX_LEAVES} leaves, not {leaves}"):
        Tree(FOUR, TWO, {}, leaves=leaves)


@pytest.mark.parametrize("leaves", [2, 3, 8, 13])
def test_a_new_one_is_full_and_every_leaf_can_be_reached(leaves: int) -> None:
    [tree] = Tree(FOUR, TWO, {}, leaves=leaves).ops()
    assert tree_depth(tree) == int(np.ceil(np.log2(leaves)))
    children = np.concatenate([tree.tensors["left"], tree.tensors["right"]])
    assert sorted(children) == list(range(1, 2 * leaves - 1))


@pytest.mark.parametrize("kind", HEADS)
def test_it_has_no_gradient(kind: str) -> None:
    output = Tree(FOUR, HEADS[kind], {}, leaves=5)({"obs": torch.zeros(3, 4, requires_grad=True)})
    assert output.params.shape == (3, HEADS[kind].num_params)
    assert not output.params.requires_grad


def test_what_it_becomes_is_what_it_says_and_a_smaller_tree_leaves_nothing_of_a_larger_one() -> None:
    student = Tree(FOUR, TWO, {}, leaves=9)
    size = student.graph().num_parameters
    student.become(STUMP, np.zeros(0, np.float32))
    [tree] = student.ops()
    for name, array in STUMP.items():
        np.testing.assert_array_equal(tree.tensors[name], array)
    assert student.graph().num_parameters < size
    for name in STUMP:
        assert not student.get_buffer(name)[len(STUMP[name]) :].any()
    assert [student.policy().act([0, 0, x, 0]) for x in (0.4, 0.5, 0.6)] == [0, 0, 1]


def test_a_checkpoint_of_a_small_tree_fits_into_a_new_student() -> None:
    student, other = Tree(FOUR, TWO, {}, leaves=9), Tree(FOUR, TWO, {}, leaves=9, seed=5)
    student.become(STUMP, np.zeros(0, np.float32))
    other.load_state_dict({key: torch.from_numpy(array) for key, array in student.arrays().items()})
    np.testing.assert_array_equal(other.ops()[0].tensors["value"], STUMP["value"])


def test_the_noise_of_a_gaussian_is_handed_on() -> None:
    student = Tree(FOUR, HEADS["diag_gaussian"], {}, leaves=9)
    student.become(STUMP, np.float32([-1, -2]))
    np.testing.assert_array_equal(student.policy().params([0, 0, 1, 0]), [[0, 1, -1, -2]])


def test_it_splits_by_all_observations_side_by_side_and_by_categories_one_by_one() -> None:
    observations = {"floor": ObservationSpec((), "int64", (3,)), "grid": ObservationSpec((2, 2), "float32"), **FOUR}
    student = Tree(observations, TWO, {}, leaves=9)
    batch = {
        "floor": np.array([2, 0]),
        "grid": np.arange(8, dtype=np.float32).reshape(2, 2, 2),
        "obs": np.full((2, 4), 9, np.float32),
    }
    expected = [[0, 0, 1, 0, 1, 2, 3, 9, 9, 9, 9], [1, 0, 0, 4, 5, 6, 7, 9, 9, 9, 9]]
    np.testing.assert_array_equal(student.encoded(batch), expected)
    assert student.encoded(batch).dtype == np.float32
    assert [op.kind for op in student.ops()] == ["one_hot", "flatten", "concatenate", "tree"]


def test_a_single_row_of_numbers_is_read_as_it_is() -> None:
    observations = np.float32([[1, 2, 3, 4]])
    np.testing.assert_array_equal(Tree(FOUR, TWO, {}).encoded({"obs": observations}), observations)


def test_a_tree_is_neither_pruned_nor_quantised(agents: dict[str, Agent], tmp_path: Path) -> None:
    config = resolve(DistillConfig, settings(agents["Discrete"], tmp_path / "run", student="tree"))
    with pytest.raises(KDError, match="neither layers to prune"):
        compress(config)
    assert not (tmp_path / "run").exists()
    with pytest.raises(KDError, match="linear layers, and this policy has none"):
        plugins.load("compress", "quantize").compress(small_graph(), {"obs": np.zeros((5, 2), np.float32)})
