"""The MLP: what counts as a parameter, what its layers say, and how it reads observations."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from samples import HEADS, make_student
from student_answers import both

from kd_agent.networks.distributions import head_for
from kd_agent.policies import file as graph_file
from kd_agent.policies.graph import PARAMS, ObservationSpec
from kd_agent.students.mlp import MLP


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


def test_whole_numbers_that_name_something_are_one_hot_in_numpy_too() -> None:
    observations = {"obs": ObservationSpec((), "int64", (5,)), "pair": ObservationSpec((2,), "int64", (3, 4))}
    student = MLP(observations, HEADS["categorical"], {}, hidden=(6,))
    batch = {"obs": np.array([0, 4, 2]), "pair": np.array([[0, 3], [2, 0], [1, 1]])}
    torchs, numpys = both(student, batch)
    np.testing.assert_allclose(numpys, torchs, atol=1e-6)
    assert student.graph().num_parameters == (5 + 3 + 4 + 1) * 6 + 7 * 4
    assert graph_file.from_bytes(graph_file.to_bytes(student.graph())).observations == observations


def test_layers_without_biases_are_the_same_in_numpy_and_smaller() -> None:
    student = make_student(HEADS["categorical"], hidden=(6,), bias=False)
    batch = {"obs": np.random.default_rng(0).normal(size=(9, 4)).astype(np.float32)}
    torchs, numpys = both(student, batch)
    np.testing.assert_allclose(numpys, torchs, atol=1e-6)
    assert student.graph().num_parameters == 4 * 6 + 6 * 4


def test_noise_of_a_gaussian_does_not_depend_on_the_observation_and_does_not_act() -> None:
    student = make_student(HEADS["diag_gaussian"], hidden=(6,))
    params = student({"obs": torch.randn(5, 4, generator=torch.Generator().manual_seed(0))}).params
    assert torch.equal(params[:, 2:], student.log_std.expand(5, -1))
    assert params[:, :2].std(0).min() > 0
    assert student.graph().num_parameters == (4 + 1) * 6 + (6 + 1) * 2
