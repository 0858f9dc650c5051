"""A policy as a torch module: the same answers, gradients where something is fitted, and back to a graph."""

from typing import Any

import numpy as np
import pytest
import torch
from exported import by_numpy
from masked_agents import masked_graph
from sample_graphs import GRAPHS, observations_for
from samples import HEADS, make_graph
from trees import random_tree

from kd_agent.policies.activations import ACTIVATIONS
from kd_agent.policies.graph import ObservationSpec, Op, PolicyGraph
from kd_agent.policies.ops import KERNELS, LEARNT
from kd_agent.policies.policy import Policy
from kd_agent.policies.torch_head import masked
from kd_agent.policies.torch_policy import _FUNCTIONS, OPERATIONS, TorchOp, TorchPolicy, WithAction


def test_the_rows_of_leaves_can_be_fine_tuned() -> None:
    module = Policy(random_tree()).to_torch()
    assert [name for name, _ in module.named_parameters()] == ["ops.0.t_value"]
    module(torch.zeros(5, 3)).square().sum().backward()
    touched = module.ops[0].t_value.grad.abs().sum(dim=1) > 0
    assert touched.sum() == 1


def tensors_of(graph: PolicyGraph, count: int) -> Any:
    tensors = {key: torch.from_numpy(array) for key, array in observations_for(graph, count).items()}
    return tensors["obs"] if list(tensors) == ["obs"] else tensors


def test_torch_knows_every_operation_and_activation() -> None:
    assert set(OPERATIONS) == set(KERNELS)
    assert set(_FUNCTIONS) == set(ACTIVATIONS)


@pytest.mark.parametrize("name", GRAPHS)
def test_the_program_that_comes_back_is_the_one_that_went_in(name: str) -> None:
    graph = GRAPHS[name]()
    again = TorchPolicy(graph).program()
    assert (again.observations, again.head, again.states) == (graph.observations, graph.head, graph.states)
    for op, other in zip(graph.ops, again.ops, strict=True):
        assert (op.kind, op.inputs, op.output, op.attributes) == (other.kind, other.inputs, other.output, op.attributes)
        for role, tensor in op.tensors.items():
            assert other.tensors[role].dtype == tensor.dtype
            np.testing.assert_array_equal(other.tensors[role], tensor)


@pytest.mark.parametrize("name", GRAPHS)
def test_what_is_fitted_has_gradients_and_statistics_have_none(name: str) -> None:
    graph = GRAPHS[name]()
    module = TorchPolicy(graph)
    module(tensors_of(graph, 20)).square().sum().backward()
    for step in module.ops:
        assert isinstance(step, TorchOp)
        learns = {role for role, _ in step.named_parameters(recurse=False)}
        if step.op.kind == "tree":
            assert learns == {"t_value"}
        elif step.op.kind in (*LEARNT, "append"):
            assert learns == {f"t_{role}" for role in step.op.tensors}
        else:
            assert not learns
    found = [parameter.grad for parameter in module.parameters() if parameter.grad is not None]
    # Whatever lies before a tree is not reached: which leaf it is has no gradient.
    assert len(found) == len(list(module.parameters())) or name == "trees"
    assert found
    assert all(torch.isfinite(gradient).all() for gradient in found)


def test_a_step_of_training_is_in_the_program_afterwards() -> None:
    graph = make_graph()
    module = TorchPolicy(graph)
    optimiser = torch.optim.SGD(module.parameters(), lr=0.1)
    x = torch.randn(8, 4, generator=torch.Generator().manual_seed(0))
    module(x).square().sum().backward()
    optimiser.step()
    trained = Policy(module.program())
    assert not np.allclose(trained.params(x.numpy()), Policy(graph).params(x.numpy()))
    np.testing.assert_allclose(trained.params(x.numpy()), module(x).detach().numpy(), atol=1e-5)


@pytest.mark.parametrize("kind", HEADS)
def test_greedy_actions_are_numpys(kind: str) -> None:
    graph = make_graph(kind)
    observations = observations_for(graph, 50)
    params, actions = WithAction(graph)(torch.from_numpy(observations["obs"]))
    expected = by_numpy(graph, observations)
    np.testing.assert_allclose(params.detach().numpy(), expected.params, atol=1e-5)
    np.testing.assert_allclose(actions.detach().numpy().reshape(50, -1), expected.actions, atol=1e-5)
    assert actions.shape[1:] == graph.head.shape
    assert str(actions.dtype) == f"torch.{graph.head.dtype}"


def test_a_number_out_of_range_names_no_category() -> None:
    ops = (Op("one_hot", ("word",), "hot", {"sizes": [3, 2]}), Op("slice", ("hot",), "params", {"start": 0, "stop": 4}))
    graph = PolicyGraph({"word": ObservationSpec((2,), "int64")}, ops, HEADS["categorical"].spec)
    words = np.array([[0, 0], [2, 1], [3, 0], [-1, 2]])
    found = TorchPolicy(graph)({"word": torch.from_numpy(words)}).numpy()
    assert found.tolist() == [[1, 0, 0, 1], [0, 0, 1, 0], [0, 0, 0, 1], [0, 0, 0, 0]]
    np.testing.assert_array_equal(found, Policy(graph).params({"word": words}))


def test_one_bias_for_all_outputs_is_right_as_in_numpy() -> None:
    tensors = {"weight": np.eye(4, dtype=np.float32), "bias": np.float32([0.5])}
    ops = (Op("linear", ("obs",), "params", {}, tensors),)
    graph = PolicyGraph({"obs": ObservationSpec((4,), "float32")}, ops, HEADS["categorical"].spec)
    x = np.float32([[1, 2, 3, 4]])
    np.testing.assert_array_equal(TorchPolicy(graph)(torch.from_numpy(x)).detach().numpy(), x + 0.5)


@pytest.mark.parametrize("name", ["gru", "lstm"])
def test_a_state_is_passed_on_and_a_first_step_begins_at_zero(name: str) -> None:
    graph = GRAPHS[name]()
    module = TorchPolicy(graph)
    x = tensors_of(graph, 6)
    first, state = module.step(x)
    again, _ = module.step(x, tuple(torch.zeros_like(part) for part in state))
    torch.testing.assert_close(first, again)
    torch.testing.assert_close(first, module(x))
    assert not torch.allclose(module.step(x, state)[0], first)


@pytest.mark.parametrize("kind", ["categorical", "multi_categorical", "bernoulli"])
def test_a_mask_does_in_torch_what_it_does_in_numpy_and_forbids_a_gradient(kind: str) -> None:
    spec = masked_graph(kind).head
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(40, spec.num_params)).astype(np.float32)
    masks = rng.random((40, spec.num_masks)) < 0.5
    leaf = torch.from_numpy(rows).requires_grad_()
    found = masked(spec, leaf, torch.from_numpy(masks))
    np.testing.assert_array_equal(found.detach(), spec.masked(rows, masks))
    found.sum().backward()
    assert leaf.grad is not None
    np.testing.assert_array_equal(leaf.grad != 0, spec.open_columns(masks))
