"""A policy's own network as a student: the same program, fitted on, also on the grid of int8."""

import numpy as np
import pytest
import torch
from samples import HEADS, make_graph, make_student

from kd_agent import KDError
from kd_agent.networks.graph_student import GRIDS, GraphStudent, OnGrid

every_grid = pytest.mark.parametrize("grid", GRIDS)
every_head = pytest.mark.parametrize("kind", HEADS)


def batch(size: int = 9) -> dict[str, torch.Tensor]:
    return {"obs": torch.randn(size, 4, generator=torch.Generator().manual_seed(0))}


@every_head
def test_it_begins_as_the_policy_that_it_is_made_of(kind: str) -> None:
    graph = make_graph(kind)
    student = GraphStudent(graph)
    expected = graph.compile()({"obs": batch()["obs"].numpy()})["params"]
    np.testing.assert_allclose(student(batch()).params.detach().numpy(), expected, atol=1e-5)
    assert [op.kind for op in student.ops()] == [op.kind for op in graph.ops]
    assert student.head.spec == graph.head


@every_head
def test_a_step_of_its_fit_changes_its_program_and_not_the_policy(kind: str) -> None:
    graph = make_graph(kind)
    before = [array.copy() for op in graph.ops for array in op.tensors.values()]
    student = GraphStudent(graph)
    optimiser = torch.optim.SGD(student.parameters(), lr=0.1)
    student(batch()).params.square().sum().backward()
    optimiser.step()
    after = student.graph().compile()({"obs": batch()["obs"].numpy()})["params"]
    np.testing.assert_allclose(after, student(batch()).params.detach().numpy(), atol=1e-5)
    assert np.abs(after - graph.compile()({"obs": batch()["obs"].numpy()})["params"]).max() > 1e-3
    for array, old in zip((a for op in graph.ops for a in op.tensors.values()), before, strict=True):
        np.testing.assert_array_equal(array, old)


@every_grid
def test_on_a_grid_its_weights_are_what_that_says_and_its_biases_are_free(grid: str) -> None:
    graph = make_graph()
    for op, own in zip(graph.ops, GraphStudent(graph, grid=grid).ops(), strict=True):
        if op.kind == "linear":
            whole, scale = GRIDS[grid](op.tensors["weight"])
            np.testing.assert_array_equal(own.tensors["weight"], whole * scale[:, None])
            assert np.abs(own.tensors["weight"] - op.tensors["weight"]).max() > 1e-5
            np.testing.assert_array_equal(own.tensors["bias"], op.tensors["bias"])


@every_grid
def test_the_gradient_reaches_the_weights_straight_through_a_grid(grid: str) -> None:
    graph = make_graph(hidden=(16, 14))
    student = GraphStudent(graph, grid=grid)
    before = {name: weight.detach().clone() for name, weight in student.named_parameters()}
    layers = [name for name in before if "parametrizations" in name]
    assert len(layers) == sum(op.kind == "linear" for op in graph.ops) == 3

    def loss() -> torch.Tensor:
        return (student(batch()).params - 1).square().mean()

    first = float(loss())
    optimiser = torch.optim.SGD(student.parameters(), lr=0.05)
    for _ in range(30):
        optimiser.zero_grad()
        loss().backward()
        optimiser.step()
    after = dict(student.named_parameters())
    assert all((after[name] != before[name]).float().mean() > 0.9 for name in layers)
    assert float(loss()) < 0.5 * first


def test_an_unknown_grid_is_one_line() -> None:
    with pytest.raises(KDError, match="unknown grid of weights 'int5'; did you mean 'int8'"):
        GraphStudent(make_graph(), grid="int5")


def test_a_row_of_zeros_stays_one_and_has_a_finite_gradient() -> None:
    weight = torch.tensor([[0.0, 0.0], [0.3, -1.0]], requires_grad=True)
    on_grid = OnGrid("int8")(weight)
    assert (on_grid[0] == 0).all()
    on_grid.sum().backward()
    assert torch.isfinite(weight.grad).all()


def test_the_gradient_passes_the_rounding_and_draws_a_weight_to_its_nearest_step() -> None:
    step = 1.0 / 127
    mean_gradient = 3.0
    weight = torch.tensor([[1.0, 0.25 * step, -0.25 * step]], requires_grad=True)
    (mean_gradient * OnGrid("int8")(weight)).sum().backward()
    expected = mean_gradient * (1 + torch.tensor([[0.0, 0.25, -0.25]]))
    torch.testing.assert_close(weight.grad, expected, atol=1e-3, rtol=0)


def test_a_policy_with_a_memory_is_refused() -> None:
    with pytest.raises(KDError, match="memory"):
        GraphStudent(make_student(HEADS["categorical"], "gru").graph())
