"""The GRU: its memory in windows, in use, and at the beginning of an episode."""

import numpy as np
import torch
from samples import HEADS, make_student

from kd_agent.policies.graph import following


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


def test_its_memory_is_as_large_as_its_last_hidden_layer_and_there_is_one() -> None:
    student = make_student(HEADS["categorical"], "gru", hidden=(7, 5))
    assert student.states() == {"memory": (5,)}
    [cell] = [op for op in student.ops() if op.kind == "gru"]
    assert cell.inputs[1] == "memory"
    assert cell.output == following("memory")


def test_a_gradient_does_not_flow_over_the_end_of_an_episode() -> None:
    student = make_student(HEADS["categorical"], "gru", hidden=(5,))
    window = torch.randn(4, 1, 4, generator=torch.Generator().manual_seed(0)).requires_grad_()
    starts = torch.tensor([[True], [False], [True], [False]])
    student.read({"obs": window}, starts).params[3].sum().backward()
    sizes = window.grad.abs().sum((1, 2))
    assert (sizes[:2] == 0).all()
    assert (sizes[2:] > 0).all()
