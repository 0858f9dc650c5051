"""What teachers and students share: outputs, predictions, files."""

import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import gymnasium as gym
import numpy as np
import pytest
import torch
from samples import HEADS, make_student, rows

from kd_agent import KDError, load_policy
from kd_agent.networks.base import ACTIVATION_LAYERS, Origin, PolicyOutput, Teacher
from kd_agent.networks.distributions import ActionHead
from kd_agent.policies.graph import ACTIVATIONS, ObservationSpec
from kd_agent.settings import Activation

BOX = gym.spaces.Box(-1, 1, (4,), np.float32)


class Constant(Teacher):
    """A teacher that answers the same row to everything, and counts its steps in its memory."""

    def __init__(self, kind: str) -> None:
        self.head = HEADS[kind]
        self.origin = Origin("constant", "", "none", 0)
        self.observations = {"obs": ObservationSpec((4,), "float32")}
        self.row = rows(self.head, 1, scale=0.5)

    def __call__(self, observations: Any, state: Any = None, episode_start: Any = None) -> PolicyOutput:
        """The row for each state, and one step more."""
        assert observations["obs"].dtype == np.float32
        steps = 0 if state is None else state[0]
        return PolicyOutput(self.row.expand(len(observations["obs"]), -1), state=(steps + 1,))


@pytest.mark.parametrize("name", sorted(ACTIVATION_LAYERS))
def test_an_activation_is_the_same_layer_in_torch_and_in_numpy(name: str) -> None:
    x = np.linspace(-6, 6, 101, dtype=np.float32)
    found = ACTIVATION_LAYERS[name]()(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(ACTIVATIONS[name](x), found, atol=1e-6)


def test_every_activation_that_can_be_asked_for_has_a_layer() -> None:
    assert set(ACTIVATION_LAYERS) == set(get_args(Activation)) <= set(ACTIVATIONS)


def test_an_unknown_layer_is_answered_with_the_nearest() -> None:
    output = PolicyOutput(torch.zeros(1, 4), features={"hidden.0": torch.ones(1, 3)})
    assert output.layer("hidden.0", "the student").shape == (1, 3)
    with pytest.raises(KDError, match=r"layer of the teacher 'hiden.0'; did you mean 'hidden.0'"):
        output.layer("hiden.0", "the teacher")


@pytest.mark.parametrize("kind", HEADS)
def test_a_teacher_predicts_greedily_or_by_chance_and_hands_on_its_memory(kind: str) -> None:
    teacher = Constant(kind)
    observations = np.zeros((200, 4))
    greedy, state = teacher.predict(observations, deterministic=True)
    assert state == (1,)
    assert len(np.unique(greedy, axis=0)) == 1
    np.testing.assert_array_equal(greedy[:1], teacher.head.spec.greedy(teacher.row.numpy()))
    drawn, state = teacher.predict(observations, state)
    assert state == (2,)
    assert drawn.shape == greedy.shape
    assert len(np.unique(drawn, axis=0)) > 1


def test_a_student_without_memory_reads_states_and_no_windows() -> None:
    student = make_student(HEADS["categorical"], "tree")
    batch = {"obs": torch.zeros(3, 4)}
    assert torch.equal(student.read(batch).params, student(batch).params)
    with pytest.raises(AssertionError, match="windows"):
        student.read(batch, torch.ones(3, 1, dtype=torch.bool))


def test_a_students_file_tells_how_it_came_about(tmp_path: Path) -> None:
    path = make_student(HEADS["categorical"]).save(tmp_path / "s.safetensors", {"env": "CartPole-v1", "note": [1, 2]})
    assert load_policy(path).graph.provenance["note"] == [1, 2]


def test_the_arrays_of_a_checkpoint_are_copies() -> None:
    student = make_student(HEADS["categorical"])
    before = student.arrays()
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.add_(1)
    after = student.arrays()
    assert set(before) == set(student.state_dict())
    for name in before:
        np.testing.assert_allclose(after[name] - before[name], 1, atol=1e-6)


def test_a_teacher_that_is_asked_without_the_masks_it_plays_with_says_so() -> None:
    teacher = Constant("categorical")
    teacher.head = ActionHead(replace(teacher.head.spec, expects_masks=True))
    with pytest.warns(UserWarning, match="constant plays with action masks, and is asked without"):
        teacher.predict(np.zeros((2, 4), np.float32))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        actions, _ = teacher.predict(np.zeros((2, 4), np.float32), action_masks=[[0, 1, 0, 0], [0, 0, 0, 1]])
        assert actions.tolist() == [1, 3]
        one, _ = teacher.predict(np.zeros(4, np.float32), action_masks=[0, 0, 1, 0])
    assert one == 2
