"""Which programs are plain multilayer perceptrons."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from sample_graphs import GRAPHS
from samples import make_graph, make_student
from small_agents import CASES, trained

from kd_agent import load_teacher
from kd_agent.networks.distributions import head_for
from kd_agent.policies import Op, PolicyGraph
from kd_agent.teachers._perceptron import read_layers


def layers_of(case: str) -> Any:
    return load_teacher(str(trained(case)[2])).layers


@pytest.mark.parametrize(
    ("case", "hidden", "activation", "bias"),
    [
        ("ppo discrete", (8, 8), "tanh", True),
        ("ppo box, silu, unequal nets", (6, 5), "silu", True),
        ("ars linear", (), None, False),
        ("dqn", (8, 8), "relu", True),
        ("td3", (8, 8), "relu", True),
        ("sac", (8, 6), "relu", True),
        ("ppo multi-discrete observations", (64, 64), "tanh", True),
    ],
)
def test_the_layers_of_an_agent_are_told(
    case: str, hidden: tuple[int, ...], activation: str | None, bias: bool
) -> None:
    found = layers_of(case)
    assert (found.hidden, found.activation, found.bias) == (hidden, activation, bias)
    assert found.normalizers == {}


@pytest.mark.parametrize(
    "case", ["ppo image, channels last, gelu", "recurrent ppo", "crossq", "sac gsde", "ppo image through an mlp"]
)
def test_what_is_more_than_layers_is_none(case: str) -> None:
    assert layers_of(case) is None
    assert case in CASES


@pytest.mark.parametrize("name", ["activations", "pixels", "several keys", "lstm", "trees", "student gru"])
def test_other_programs_are_none(name: str) -> None:
    assert read_layers(GRAPHS[name]()) is None


def test_the_statistics_of_a_program_come_back() -> None:
    graph = make_graph(hidden=(5,))
    found = read_layers(graph)
    assert found is not None
    assert found.hidden == (5,)
    op = next(op for op in graph.ops if op.kind == "normalise")
    again = found.normalizers["obs"].op("obs", op.output)
    np.testing.assert_allclose(again.tensors["scale"], op.tensors["scale"], rtol=1e-6)
    np.testing.assert_array_equal(again.tensors["mean"], op.tensors["mean"])
    assert again.attributes == op.attributes


def test_two_linear_layers_with_nothing_between_and_mixed_activations_are_none() -> None:
    graph = make_graph(hidden=(5, 5))
    functions = [op for op in graph.ops if op.kind == "activation"]
    mixed = tuple(replace(op, attributes={"function": "relu"}) if op is functions[0] else op for op in graph.ops)
    assert read_layers(replace(graph, ops=mixed)) is None
    weight, bias = np.ones((4, 4), np.float32), np.ones(4, np.float32)
    ops = (
        Op("linear", ("obs",), "half", {}, {"weight": weight, "bias": bias}),
        Op("linear", ("half",), "params", {}, {"weight": weight, "bias": bias}),
    )
    assert read_layers(PolicyGraph(graph.observations, ops, graph.head)) is None


def test_a_student_is_read_as_what_it_was_built_as() -> None:
    import gymnasium as gym

    student = make_student(head_for(gym.spaces.Discrete(4)), hidden=(7, 3), activation="mish", bias=False)
    found = read_layers(student.graph())
    assert found is not None
    assert (found.hidden, found.activation, found.bias) == ((7, 3), "mish", False)
