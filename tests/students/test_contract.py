"""Contract of every student: its program in NumPy equals torch, and nothing is lost in a file."""

from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from samples import HEADS, make_student
from student_answers import batch_for, both

from kd_agent import load_policy, plugins
from kd_agent.networks.distributions import ActionHead
from kd_agent.policies import file as graph_file
from kd_agent.policies.graph import ObservationSpec
from kd_agent.settings import Activation

STUDENTS = plugins.names("students")
SEVERAL = {"image": ObservationSpec((2, 3), "uint8"), "joints": ObservationSpec((3,), "float32")}

every_student = pytest.mark.parametrize("name", STUDENTS)
every_head = pytest.mark.parametrize("head", HEADS.values(), ids=HEADS)


@every_student
@every_head
def test_the_program_in_numpy_equals_torch(name: str, head: ActionHead) -> None:
    student = make_student(head, name)
    torchs, numpys = both(student, batch_for(student.observations))
    assert torchs.shape == (9, head.num_params)
    np.testing.assert_allclose(numpys, torchs, atol=1e-5)
    assert np.ptp(torchs[:, 0]) > 0.01


@every_student
@pytest.mark.parametrize("activation", get_args(Activation))
def test_every_activation_is_the_same_in_numpy(name: str, activation: str) -> None:
    student = make_student(HEADS["categorical"], name, activation=activation)
    torchs, numpys = both(student, batch_for(student.observations))
    np.testing.assert_allclose(numpys, torchs, atol=1e-5)


@every_student
def test_several_observations_side_by_side_are_the_same_in_numpy(name: str) -> None:
    student = make_student(HEADS["categorical"], name, observations=SEVERAL)
    torchs, numpys = both(student, batch_for(SEVERAL))
    np.testing.assert_allclose(numpys, torchs, atol=1e-5)


def test_one_number_without_an_axis_is_the_same_in_numpy() -> None:
    student = make_student(HEADS["categorical"], "mlp", observations={"obs": ObservationSpec((), "float32")})
    torchs, numpys = both(student, batch_for(student.observations))
    np.testing.assert_allclose(numpys, torchs, atol=1e-5)


@every_student
@every_head
def test_a_saved_student_is_the_same_student(name: str, head: ActionHead, tmp_path: Path) -> None:
    student = make_student(head, name)
    policy = load_policy(student.save(tmp_path / "s.safetensors", {"env": "CartPole-v1"}))
    batch = batch_for(student.observations)
    np.testing.assert_array_equal(policy.params_batch(batch), student.policy().params_batch(batch))
    assert policy.graph.head == head.spec
    assert policy.env_id == "CartPole-v1"
    np.testing.assert_array_equal(
        policy.predict(batch["obs"], deterministic=True)[0], student.predict(batch["obs"], deterministic=True)[0]
    )


@every_student
@every_head
def test_the_state_of_a_student_survives_a_checkpoint(name: str, head: ActionHead) -> None:
    student, other = make_student(head, name, seed=0), make_student(head, name, seed=1)
    assert graph_file.to_bytes(student.graph()) != graph_file.to_bytes(other.graph())
    other.load_state_dict({key: torch.from_numpy(array) for key, array in student.arrays().items()})
    assert graph_file.to_bytes(student.graph()) == graph_file.to_bytes(other.graph())


@every_student
def test_the_same_seed_gives_the_same_weights_and_leaves_torchs_alone(name: str) -> None:
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    first, second, other = (make_student(HEADS["bernoulli"], name, seed=s) for s in (1, 1, 2))
    assert torch.equal(torch.rand(1), expected)
    assert graph_file.to_bytes(first.graph()) == graph_file.to_bytes(second.graph())
    assert graph_file.to_bytes(first.graph()) != graph_file.to_bytes(other.graph())
