"""What an environment's documentation calls numbers and actions, at the head of what is exported."""

import re
from pathlib import Path

import gymnasium as gym
import pytest
from exported import COMMENT, EVIL
from samples import make_student

from kd_agent import export
from kd_agent.networks.distributions import head_for
from kd_agent.policies.graph import ObservationSpec, PolicyGraph

FILES = {
    "arduino": ("policy.arduino", "policy.arduino/src/policy.h"),
    "c": ("policy.c", "policy.h"),
    "csharp": ("policy.cs", "policy.cs"),
    "gdscript": ("policy.gd", "policy.gd"),
    "javascript": ("policy.mjs", "policy.mjs"),
    "python": ("policy.py", "policy.py"),
    "script": ("policy.js", "policy.js"),
}
"""Of each format that is text: the file to write, and the one that a caller reads."""
CART = [
    "obs[0..3]: obs, 4",
    "obs[0]: cart position",
    "obs[1]: cart velocity",
    "obs[2]: pole angle",
    "obs[3]: pole angular velocity",
    "action 0: left",
    "action 1: right",
]
every_text = pytest.mark.parametrize("name", FILES)


def graph_for(env: str, actions: gym.Space, shapes: dict[str, tuple[int, ...]]) -> PolicyGraph:
    observations = {key: ObservationSpec(shape, "float32") for key, shape in shapes.items()}
    return make_student(head_for(actions), "mlp", observations, hidden=(5,)).graph({"env": env})


def named(graph: PolicyGraph, name: str, folder: Path) -> list[str]:
    """What a file says of numbers and actions before its first function: comments alone, so that no code holds it."""
    target, read = FILES[name]
    export(graph, folder / target, name)
    text = (folder / read).read_text()
    head = text[: text.lower().index("act(")]
    comments = "\n".join(re.findall(COMMENT[Path(read).suffix], head, re.DOTALL))
    lines = [line.strip("/# ") for line in comments.splitlines()]
    return [line for line in lines if line.startswith(("obs[", "action"))]


@every_text
def test_numbers_and_actions_are_told_by_their_names(name: str, tmp_path: Path) -> None:
    assert named(graph_for("CartPole-v1", gym.spaces.Discrete(2), {"obs": (4,)}), name, tmp_path) == CART


@every_text
def test_numbers_of_an_action_are_told_too(name: str, tmp_path: Path) -> None:
    box = gym.spaces.Box(-2, 2, (1,))
    found = named(graph_for("Pendulum-v1", box, {"obs": (3,)}), name, tmp_path)
    assert found[-2:] == ["obs[2]: angular velocity", "action[0]: torque"]


def test_an_action_is_told_by_the_number_that_the_environment_gives_it(tmp_path: Path) -> None:
    actions = gym.spaces.Discrete(2, start=-1)
    found = named(graph_for("CartPole-v1", actions, {"obs": (4,)}), "c", tmp_path)
    assert found[-2:] == ["action -1: left", "action 0: right"]


def test_a_number_is_told_by_where_it_lies_in_the_array(tmp_path: Path) -> None:
    shapes = {"first": (2,), "second": (4,)}
    found = named(graph_for("CartPole-v1", gym.spaces.Discrete(2), shapes), "c", tmp_path)
    assert found[:3] == ["obs[0..1]: first, 2", "obs[2..5]: second, 4", "obs[2]: cart position"]


@every_text
@pytest.mark.parametrize("env", ["nowhere-v0", f"CartPole-v1{EVIL}", f"{EVIL}CartPole-v1"])
def test_where_nothing_is_documented_nothing_is_named(env: str, name: str, tmp_path: Path) -> None:
    graph = graph_for(env, gym.spaces.Discrete(2), {"obs": (4,)})
    assert named(graph, name, tmp_path) == ["obs[0..3]: obs, 4"]
