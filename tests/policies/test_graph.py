"""A policy as a program: what it checks of itself, what acts, and the memory between steps."""

from typing import Any

import numpy as np
import pytest
from sample_graphs import GRAPHS, linear, memory_graph, numbers, observations_for, sde_graph
from samples import HEADS, make_graph

from kd_agent import KDError
from kd_agent.policies.graph import PARAMS, ObservationSpec, Op, PolicyGraph, compile_ops, count_fitted, following
from kd_agent.policies.ops import KERNELS, MAX_SIZE

VECTOR = {"obs": ObservationSpec((4,), "float32")}
HEAD = HEADS["categorical"].spec


def test_a_graph_checks_itself_where_it_is_made() -> None:
    op = Op("linear", ("obs",), PARAMS, {}, {"weight": np.ones((4, 3), np.float32), "bias": np.ones(4, np.float32)})
    head = HEADS["categorical"].spec
    assert PolicyGraph({"obs": ObservationSpec((3,), "float32")}, (op,), head).num_parameters == 16
    with pytest.raises(KDError, match="do not fit together"):
        PolicyGraph({"obs": ObservationSpec((2,), "float32")}, (op,), head)
    with pytest.raises(KDError, match="its head needs"):
        PolicyGraph({"obs": ObservationSpec((3,), "float32")}, (op,), HEADS["bernoulli"].spec)


def program(*ops: Op, observations: dict[str, ObservationSpec] | None = None, **more: Any) -> PolicyGraph:
    return PolicyGraph(observations or VECTOR, ops, HEAD, **more)


def flatten(source: str, output: str) -> Op:
    return Op("flatten", (source,), output)


WRONG: dict[str, tuple[tuple[Op, ...], str]] = {
    "no operations": ((), "do not fit together"),
    "an unknown kind": ((Op("liner", ("obs",), PARAMS),), "unknown operation 'liner'; did you mean 'linear'"),
    "no input": ((Op("flatten", (), PARAMS),), "wrong registers"),
    "a register that is not there": ((flatten("image", PARAMS),), "wrong registers"),
    "a register that is written later": ((flatten("late", PARAMS), flatten("obs", "late")), "wrong registers"),
    "a register written twice": ((flatten("obs", PARAMS), flatten("obs", PARAMS)), "wrong registers"),
    "its own input": ((flatten("obs", "obs"),), "wrong registers"),
    "another end": ((flatten("obs", "end"),), "do not fit together"),
    "a row of another width": ((linear("obs", PARAMS, 3, 4),), r"ends in shape \(3,\), its head needs \(4,\)"),
    "a scale that enlarges": (
        (Op("scale", ("obs",), PARAMS, {}, {"scale": np.ones((4, 1), np.float32), "shift": numbers(1)}),),
        "tensors of another shape than its input",
    ),
    "an answer that is no number": (
        (
            Op("scale", ("obs",), "x", {}, {"scale": np.float32([0]), "shift": np.float32([3e38])}),
            Op("scale", ("x",), PARAMS, {}, {"scale": np.float32([3e38]), "shift": np.float32([0])}),
        ),
        "answers NaN or infinity to an observation of zeros",
    ),
}


@pytest.mark.filterwarnings("ignore:overflow")
@pytest.mark.parametrize("what", WRONG)
def test_a_program_that_is_none_is_refused(what: str) -> None:
    ops, message = WRONG[what]
    with pytest.raises(KDError, match=message) as caught:
        program(*ops)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("shape", [(0,), (-4,), (MAX_SIZE + 1,), (2**40, 2**40, 2**40), (4, 0)])
def test_impossible_shapes_are_refused_before_anything_is_allocated(shape: tuple[int, ...]) -> None:
    with pytest.raises(KDError, match="impossible shapes"):
        program(flatten("obs", PARAMS), observations={"obs": ObservationSpec(shape, "float32")})
    with pytest.raises(KDError, match="impossible shapes"):
        program(flatten("obs", PARAMS), states={"memory": shape})


def test_an_array_that_grows_beyond_all_bounds_is_refused() -> None:
    wide = Op("append", ("obs",), "wide", {}, {"value": np.zeros(MAX_SIZE, np.float32)})
    with pytest.raises(KDError, match=r"operation 'append' \('wide'\) makes an array that is too large"):
        program(wide, Op("slice", ("wide",), PARAMS, {"start": 0, "stop": 4}))


def test_a_state_keeps_its_shape_and_has_a_next_value() -> None:
    recurrent = memory_graph("gru")
    with pytest.raises(KDError, match="the policy's state 'memory' changes its shape"):
        program(flatten("obs", PARAMS), Op("flatten", ("memory",), following("memory")), states={"memory": (2, 3)})
    with pytest.raises(KDError, match="do not fit together"):
        program(*recurrent.ops, states={"memory": (5,), "other": (5,)})


def test_observations_are_numbers_with_as_many_categories() -> None:
    assert ObservationSpec((2, 3), "uint8").features == 6
    assert ObservationSpec((2,), "int64", (3, 4)).features == 7
    assert ObservationSpec((), "float32").features == 1
    with pytest.raises(KDError, match="is not an array of numbers"):
        ObservationSpec((2,), "U3")
    with pytest.raises(KDError, match="1 numbers of categories for an observation of shape"):
        ObservationSpec((2,), "int64", (3,))


def test_only_what_decides_the_greedy_action_acts() -> None:
    graph = sde_graph()
    assert [op.output for op in graph.acting_ops()] == ["wide", "latent", "mean", PARAMS]
    assert graph.num_parameters == 4 * 6 + 6 + 6 * 2 + 2
    spare = program(linear("obs", "critic", 1, 4), linear("obs", PARAMS, 4, 4))
    assert [op.output for op in spare.acting_ops()] == [PARAMS]
    recurrent = memory_graph("lstm")
    assert recurrent.acting_ops() == list(recurrent.ops)


def test_fitted_numbers_are_counted_without_biases_that_are_not_there() -> None:
    op = linear("obs", PARAMS, 4, 4)
    assert count_fitted([op]) == 20
    without = Op(op.kind, op.inputs, op.output, {}, {**op.tensors, "bias": np.zeros(4, np.float32)})
    assert count_fitted([without]) == 16
    normaliser = make_graph().ops[0]
    assert normaliser.kind == "normalise"
    assert count_fitted([normaliser]) == 0
    assert count_fitted([]) == 0


@pytest.mark.parametrize("name", GRAPHS)
def test_the_interpreter_writes_each_register_once_and_leaves_its_input(name: str) -> None:
    graph = GRAPHS[name]()
    registers = {**observations_for(graph, 3), **graph.memory(3)}
    before = dict(registers)
    found = compile_ops(graph.ops)(registers)
    assert registers == before
    assert set(found) == {*registers, *(op.output for op in graph.ops)}
    assert found[PARAMS].shape == (3, graph.head.num_params)
    for step in graph.ops:
        expected = KERNELS[step.kind](step)(*[found[name] for name in step.inputs])
        np.testing.assert_array_equal(found[step.output], expected)


def test_a_memory_is_zero_at_first_and_where_an_episode_starts() -> None:
    graph = memory_graph("gru")
    assert {name: array.tolist() for name, array in graph.memory(2).items()} == {"memory": [[0.0] * 5] * 2}
    last = np.arange(1, 11, dtype=np.float64).reshape(2, 5)
    np.testing.assert_array_equal(graph.memory(2, [last])["memory"], last)
    begun = graph.memory(2, [last], [True, False])["memory"]
    assert begun.dtype == np.float32
    np.testing.assert_array_equal(begun, last * [[0], [1]])
    np.testing.assert_array_equal(graph.memory(2, [last], True)["memory"], np.zeros((2, 5)))


@pytest.mark.parametrize("state", [[], [np.zeros((3, 5))], [np.zeros((2, 4))], [np.zeros((2, 5))] * 2])
def test_a_state_of_another_policy_or_batch_is_refused(state: list[Any]) -> None:
    with pytest.raises(KDError, match=r"the state has shapes .*, expected \[\(2, 5\)\]"):
        memory_graph("gru").memory(2, state)


def test_the_next_states_are_in_the_order_of_their_names() -> None:
    ops = (flatten("b", following("b")), flatten("a", following("a")), flatten("obs", PARAMS))
    graph = program(*ops, states={"b": (2,), "a": (3,)})
    state = (np.ones((1, 3), np.float32), np.full((1, 2), 2, np.float32))
    registers = graph.compile()({"obs": numbers(1, 4), **graph.memory(1, state)})
    found = graph.next_state(registers)
    assert found is not None
    for one, other in zip(found, state, strict=True):
        np.testing.assert_array_equal(one, other)
    assert make_graph().next_state({}) is None
