"""The public agents, in every format: where they have been, the file acts as the agent does."""

import functools
import warnings
from pathlib import Path

import numpy as np
import pytest
from exported import needs
from samples import ROOT

from kd_agent import KDError, plugins
from kd_agent.deployment.agents import Agent, Reading, read_agent
from kd_agent.deployment.parity import compare
from kd_agent.deployment.walk import Walk, walk
from kd_agent.export import export

pytestmark = pytest.mark.usefixtures("godot")
FOLDER = ROOT.parent / "shared" / "teachers"
AGENTS = sorted(path.name for path in FOLDER.glob("*-v*")) or ["none"]
RUNTIMES = {
    "arduino": ["gcc"],
    "c": ["gcc"],
    "csharp": ["mcs", "mono"],
    "gdscript": ["node", "godot"],
    "javascript": ["node"],
    "script": ["node"],
    "wasm": ["clang", "wasm-ld", "node"],
}
"""What plays a format, where Python alone does not."""
NO_ZIP = {"sde_log_std", "clip"}
"""Operations of agents that PPO has not; one through tanh is none of PPO's either."""


@functools.cache
def been(name: str, steps: int) -> tuple[Agent, Walk]:
    with warnings.catch_warnings():
        # An environment of theirs is not to be had any more; its next version is played.
        warnings.simplefilter("ignore")
        agent = read_agent(str(FOLDER / name), Reading())
    return agent, walk(agent, steps)


def check(name: str, to: str, folder: Path, steps: int) -> None:
    for tool in RUNTIMES.get(to, []):
        needs(tool)
    agent, where = been(name, steps)
    squashed = agent.graph.head.kind == "squashed_gaussian"
    if to in ("sb3", "zoo") and (squashed or NO_ZIP & {op.kind for op in agent.graph.ops}):
        with pytest.raises(KDError, match="formats that can: "):
            export(agent.graph, folder / "policy", to)
        return
    # Folded into the first layer, a normaliser no longer clips, and BipedalWalker's does so at 39 of 10,240 steps.
    options = {"vecnormalize": True} if to == "sb3" else {}
    files = export(agent.graph, folder / f"policy{plugins.load('export', to).SUFFIX}", **options)
    found = compare(agent, files[0], to, where)
    assert where.kind == "visited"
    assert len(found.off) == steps
    assert found.holds, str(found)
    # Nothing but a choice between two as good as each other counts as the same without being it.
    assert found.tied.sum() <= steps / 1000
    assert np.isfinite(found.off).all()


@pytest.mark.parametrize("name", AGENTS)
@pytest.mark.parametrize("to", plugins.names("export"))
def test_a_file_of_a_public_agent_acts_as_it_does(public_teachers: Path, name: str, to: str, tmp_path: Path) -> None:
    check(name, to, tmp_path, 512)


@pytest.mark.slow
@pytest.mark.parametrize("name", AGENTS)
@pytest.mark.parametrize("to", plugins.names("export"))
def test_it_does_so_for_long(public_teachers: Path, name: str, to: str, tmp_path: Path) -> None:
    check(name, to, tmp_path, 10_240)
