"""Contract of every student: its program in NumPy equals torch, and nothing is lost in a file."""

from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from samples import HEADS, make_student

from kd_agent import load_policy, plugins
from kd_agent.networks.distributions import ActionHead, head_for
from kd_agent.policies import file as graph_file
from kd_agent.policies.graph import PARAMS, ObservationSpec
from kd_agent.settings import Activation
from kd_agent.students.mlp import MLP

import gymnasium as gym  # isort: skip

STUDENTS = plugins.names("students")
SEVERAL = {"image": ObservationSpec((2, 3), "uint8"), "joints": ObservationSpec((3,), "float32")}

every_student = pytest.mark.parametrize("name", STUDENTS)
every_head = pytest.mark.parametrize("head", HEADS.values(), ids=HEADS)


def batch_for(observations: dict[str, ObservationSpec], size: int = 9) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        key: rng.integers(0, 255, (size, *spec.shape)).astype(spec.dtype)
        if spec.dtype == "uint8"
        else 3 * rng.normal(size=(size, *spec.shape)).astype(spec.dtype)
        for key, spec in observations.items()
    }


def both(student, batch):
    with torch.no_grad():
        torchs = student({key: torch.from_numpy(x) for key, x in batch.items()}).params.numpy()
    return torchs, student.policy().step_batch(batch, None, np.ones(len(torchs), bool))[0]


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


@pytest.mark.parametrize(
    ("inputs", "space", "hidden", "parameters"),
    [
        (8, gym.spaces.Discrete(4), (16, 16), 484),
        (8, gym.spaces.Discrete(4), (8, 8), 180),
        (8, gym.spaces.Discrete(4), (4,), 56),
        (8, gym.spaces.Discrete(4), (), 36),
        (24, gym.spaces.Box(-1, 1, (4,)), (16, 16), 740),
    ],
)
def test_parameters_count_what_acts(inputs: int, space: gym.Space, hidden: tuple[int, ...], parameters: int) -> None:
    observations = {"obs": ObservationSpec((inputs,), "float32")}
    student = make_student(head_for(space), observations=observations, hidden=hidden, dropout=0.5)
    assert student.graph().num_parameters == parameters


def test_dropout_acts_while_fitting_only() -> None:
    student = make_student(HEADS["categorical"], dropout=0.5)
    batch = {"obs": torch.randn(5, 4, generator=torch.Generator().manual_seed(0))}
    torch.manual_seed(0)
    assert torch.equal(student(batch).params, student(batch).params)
    student.train()
    assert not torch.equal(student(batch).params, student(batch).params)
    numpys = student.graph().compile()({"obs": batch["obs"].numpy()})[PARAMS]
    np.testing.assert_allclose(numpys, student.eval()(batch).params.detach().numpy(), atol=1e-5)


def test_a_student_without_hidden_layers_is_linear() -> None:
    student = make_student(HEADS["categorical"], hidden=())
    assert [op.kind for op in student.ops()] == ["normalise", "linear"]
    a, b = 0.1 * np.ones((1, 4), np.float32), 0.3 * np.arange(4, dtype=np.float32)[None]
    run = student.policy().params
    np.testing.assert_allclose(run((a + b) / 2), (run(a) + run(b)) / 2, atol=1e-5)


def test_the_hidden_layers_are_features() -> None:
    student = make_student(HEADS["categorical"], hidden=(6, 3))
    features = student({"obs": torch.zeros(2, 4)}).features
    assert {name: tuple(x.shape) for name, x in features.items()} == {"hidden.0": (2, 6), "hidden.1": (2, 3)}


def test_normalisation_clips_as_vecnormalize_does() -> None:
    student = make_student(HEADS["categorical"], hidden=())
    run = student.policy().params
    far, farther = np.full((1, 4), 1e3, np.float32), np.full((1, 4), 1e4, np.float32)
    np.testing.assert_array_equal(run(far), run(farther))


def test_images_with_either_order_of_axes_are_the_same_in_numpy() -> None:
    for shape in ((84, 84, 4), (3, 64, 64), (10, 40, 2), (2, 7, 30)):
        observations = {"image": ObservationSpec(shape, "uint8"), "joints": ObservationSpec((3,), "float32")}
        student = make_student(HEADS["categorical"], "cnn", observations=observations)
        torchs, numpys = both(student, batch_for(student.observations, size=3))
        np.testing.assert_allclose(numpys, torchs, atol=1e-5, rtol=1e-5)
        assert student.graph().num_parameters < 60_000


def test_a_memory_steps_through_a_window_as_it_does_in_use_and_begins_anew_with_an_episode() -> None:
    student = make_student(HEADS["diag_gaussian"], "gru")
    rng = np.random.default_rng(1)
    window = {k: rng.normal(size=(12, 2, *s.shape)).astype("f") for k, s in student.observations.items()}
    starts = np.zeros((12, 2), bool)
    starts[0], starts[5, 1] = True, True
    with torch.no_grad():
        read = student.read({k: torch.from_numpy(x) for k, x in window.items()}, torch.from_numpy(starts)).params
    policy, memory, rows = student.policy(), None, []
    for step, begun in enumerate(starts):
        row, memory = policy.step_batch({k: x[step] for k, x in window.items()}, memory, begun)
        rows.append(row)
    np.testing.assert_allclose(np.concatenate(rows), read.numpy(), atol=1e-5)
    first, _ = policy.step_batch({k: x[5] for k, x in window.items()}, None, starts[0])
    np.testing.assert_allclose(rows[5][1], first[1], atol=1e-6)
    assert np.abs(rows[5][0] - first[0]).max() > 1e-4


def test_whole_numbers_that_name_something_are_one_hot_in_numpy_too() -> None:
    observations = {"obs": ObservationSpec((), "int64", (5,)), "pair": ObservationSpec((2,), "int64", (3, 4))}
    student = MLP(observations, HEADS["categorical"], {}, hidden=(6,))
    batch = {"obs": np.array([0, 4, 2]), "pair": np.array([[0, 3], [2, 0], [1, 1]])}
    torchs, numpys = both(student, batch)
    np.testing.assert_allclose(numpys, torchs, atol=1e-6)
    assert student.graph().num_parameters == (5 + 3 + 4 + 1) * 6 + 7 * 4
    assert graph_file.from_bytes(graph_file.to_bytes(student.graph())).observations == observations
