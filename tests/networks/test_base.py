"""What teachers and students share: outputs, predictions, files, and whether a policy fits an environment."""

from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import gymnasium as gym
import numpy as np
import pytest
import torch
from samples import HEADS, SPACES, make_graph, make_student, rows

from kd_agent import KDError, load_policy
from kd_agent.networks.base import ACTIVATION_LAYERS, Origin, PolicyOutput, Teacher, check_fits
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


@pytest.mark.parametrize("kind", HEADS)
def test_a_policy_fits_the_environment_that_it_is_for(kind: str) -> None:
    names = {"categorical": "Discrete", "multi_categorical": "MultiDiscrete", "bernoulli": "MultiBinary"}
    check_fits(make_graph(kind), (BOX, SPACES[names.get(kind, "Box")]), "it")


def test_a_policy_may_see_less_than_there_is() -> None:
    both = gym.spaces.Dict({"obs": BOX, "more": BOX})
    check_fits(make_graph(), (both, SPACES["Discrete"]), "it")


@pytest.mark.parametrize(
    ("kind", "observation", "action", "message"),
    [
        ("categorical", gym.spaces.Box(-1, 1, (5,)), SPACES["Discrete"], r"'obs' of shape \(4,\).* has \(5,\)"),
        ("categorical", gym.spaces.Dict({"all": BOX}), SPACES["Discrete"], "has no such key"),
        ("categorical", BOX, gym.spaces.Discrete(5), r"acts by categorical \(4,\), the environment has Discrete\(5\)"),
        ("categorical", BOX, SPACES["Box"], "acts by categorical"),
        ("diag_gaussian", BOX, SPACES["Discrete"], r"acts by diag_gaussian \(2,\)"),
        ("diag_gaussian", BOX, gym.spaces.Box(-9, 9, (2,)), "its action bounds are not those"),
    ],
)
def test_a_policy_that_does_not_fit_says_why(
    kind: str, observation: gym.Space[Any], action: gym.Space[Any], message: str
) -> None:
    with pytest.raises(KDError, match=f"^it: .*{message}"):
        check_fits(make_graph(kind), (observation, action), "it")


def test_a_policy_acts_from_0_as_agents_of_sb3_do_or_from_the_environments_start() -> None:
    graph = make_graph("categorical")
    from_one = gym.spaces.Discrete(4, start=1)
    for start, space in ((0, from_one), (1, from_one), (0, gym.spaces.Discrete(4))):
        shifted = replace(graph, head=replace(graph.head, start=(start,)))
        check_fits(shifted, (BOX, space), "it")
    shifted = replace(graph, head=replace(graph.head, start=(2,)))
    with pytest.raises(KDError, match=r"^it: its actions start at \(2,\)"):
        check_fits(shifted, (BOX, from_one), "it")
