"""torch: a program that runs without kd_agent, and a module that learns on."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from exported import by_numpy
from sample_graphs import GRAPHS, observations_for
from samples import make_graph

from kd_agent import KDError, export
from kd_agent.policies.policy import Policy


@pytest.mark.parametrize("name", ["categorical", "several keys"])
def test_a_torch_program_runs_without_kd_agent(name: str, tmp_path: Path) -> None:
    graph = GRAPHS[name]()
    [path] = export(graph, tmp_path / "policy.pt2")
    observations = observations_for(graph, 7)
    tensors = {key: torch.from_numpy(array) for key, array in observations.items()}
    params, actions = torch.export.load(path).module()(tensors["obs"] if list(tensors) == ["obs"] else tensors)
    expected = by_numpy(graph, observations)
    np.testing.assert_allclose(params.detach().numpy(), expected.params, atol=1e-5)
    assert actions.shape == (7, *graph.head.shape)


def test_a_torch_module_can_be_fine_tuned() -> None:
    module = Policy(make_graph("diag_gaussian")).to_torch()
    obs = torch.randn(8, 4)
    before = module(obs).detach()
    optimiser = torch.optim.SGD(module.parameters(), lr=0.1)
    module(obs).square().sum().backward()
    assert all(parameter.grad is not None for parameter in module.parameters())
    optimiser.step()
    assert (module(obs) != before).all(dim=1).any()
    assert module.act(obs).shape == (8, 2)


def test_the_program_needs_torch_alone(tmp_path: Path) -> None:
    [path] = export(make_graph(), tmp_path / "policy.pt2")
    code = f"""
import sys, torch
params, action = torch.export.load({str(path)!r}).module()(torch.zeros(3, 4))
assert params.shape == (3, 4) and action.shape == (3,)
assert not [name for name in sys.modules if name.startswith("kd_")]
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_memory_is_no_torch_program(tmp_path: Path) -> None:
    with pytest.raises(KDError, match="use to_torch"):
        export(GRAPHS["gru"](), tmp_path / "policy.pt2")
    assert list(tmp_path.iterdir()) == []
