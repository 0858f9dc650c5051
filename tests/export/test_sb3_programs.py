"""Programs that are no plain MLP in a Stable-Baselines3 zip, what cannot be one, and forged zips of them."""

import json
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from sample_graphs import GRAPHS, linear, observations_for
from samples import HEADS, make_student
from sb3_worlds import IDS, PICTURE, student_of, zip_of
from stable_baselines3 import PPO

from kd_agent import KDError, export, load_teacher
from kd_agent.deployment.agents import Agent, Reading, read_agent
from kd_agent.deployment.parity import compare
from kd_agent.deployment.walk import walk
from kd_agent.networks.sb3_features import ProgramFeatures
from kd_agent.policies.graph import ObservationSpec, Op, PolicyGraph
from kd_agent.policies.normalizer import Normalizer
from kd_agent.policies.policy import Policy

FOUR = {"obs": ObservationSpec((4,), "float32")}


def wide_range(source: str = "obs", output: str = "unit") -> Op:
    return replace(Normalizer(np.zeros(4), np.ones(4), clip=3.0).op(source, output))


def doubled_layers() -> tuple[Op, ...]:
    return wide_range(), linear("unit", "h", 5, 4), linear("h", "params", 4, 5)


def twice_normalised() -> tuple[Op, ...]:
    return wide_range(), wide_range("unit", "again"), linear("again", "params", 4, 4)


def two_activations() -> tuple[Op, ...]:
    return (
        linear("obs", "h", 5, 4),
        Op("activation", ("h",), "a", {"function": "tanh"}),
        linear("a", "g", 5, 5),
        Op("activation", ("g",), "b", {"function": "relu"}),
        linear("b", "params", 4, 5),
    )


def a_slope_of_its_own() -> tuple[Op, ...]:
    sloped = Op("activation", ("h",), "a", {"function": "prelu", "slope": 0.3})
    return linear("obs", "h", 5, 4), sloped, linear("a", "params", 4, 5)


def an_operation_beside() -> tuple[Op, ...]:
    return linear("obs", "unused", 5, 4), twice_normalised()[0], linear("unit", "params", 4, 4)


@pytest.mark.parametrize(
    ("ops", "hidden", "is_program"),
    [
        (doubled_layers, [], True),
        (twice_normalised, [], True),
        (two_activations, [5], True),
        (a_slope_of_its_own, [], True),
        (an_operation_beside, [], False),
    ],
)
def test_a_program_that_is_no_mlp_begins_with_features(
    ops: Callable[[], tuple[Op, ...]], hidden: list[int], is_program: bool, tmp_path: Path
) -> None:
    graph = PolicyGraph(FOUR, ops(), HEADS["categorical"].spec)
    path = zip_of(graph, tmp_path)
    model = PPO.load(path, device="cpu")
    assert model.policy.net_arch["pi"] == hidden
    assert isinstance(model.policy.features_extractor, ProgramFeatures) == is_program
    observations = observations_for(graph, 200)["obs"]
    if not is_program:
        observations = observations.clip(-2, 2)
    expected = Policy(graph).predict(observations, deterministic=True)[0]
    np.testing.assert_array_equal(model.predict(observations, deterministic=True)[0], expected)
    np.testing.assert_array_equal(load_teacher(str(path)).predict(observations, deterministic=True)[0], expected)


@pytest.mark.parametrize("name", ["activations", "pixels"])
def test_what_feeds_forward_can_be_a_zip(name: str, tmp_path: Path) -> None:
    graph = GRAPHS[name]()
    agent = Agent(graph, Policy(graph))
    assert compare(agent, zip_of(graph, tmp_path), "sb3", walk(agent, 50)).holds


def test_a_linear_student_of_a_part_has_no_operations(tmp_path: Path) -> None:
    spec = {"vector": ObservationSpec((3,), "float32")}
    ops = (linear("vector", "params", 4, 3),)
    graph = PolicyGraph(spec, ops, HEADS["categorical"].spec, {"env": IDS["image and all"]})
    agent = read_agent(graph, Reading())
    found = compare(agent, zip_of(graph, tmp_path), "sb3", walk(agent, 64))
    assert found.holds, str(found)


def test_images_of_both_layouts_are_refused(tmp_path: Path) -> None:
    """Stable-Baselines3 turns all images of a Dict, or none."""
    specs = {"first": ObservationSpec((3, 36, 40), "uint8"), "last": ObservationSpec((36, 40, 3), "uint8")}
    graph = make_student(HEADS["categorical"], "cnn", specs).graph({"env": "nowhere-v0"})
    with pytest.raises(KDError, match=r"of its images \['first', 'last'\], only \['last'\] have the channels last"):
        export(graph, tmp_path / "p.zip")


def test_categories_that_are_read_as_numbers_are_refused(tmp_path: Path) -> None:
    spec = {"obs": ObservationSpec((2,), "int64")}
    ops = (linear("obs", "params", 4, 2),)
    graph = PolicyGraph(spec, ops, HEADS["categorical"].spec, {"env": IDS["several categories"]})
    with pytest.raises(KDError, match=r"it reads 'obs' by 'linear', PPO shows MultiDiscrete\(\[3 4\]\)"):
        export(graph, tmp_path / "p.zip")
    hot = Op("one_hot", ("obs",), "hot", {"sizes": [4, 3]})
    graph = replace(graph, ops=(hot, linear("hot", "params", 4, 7)))
    with pytest.raises(KDError, match=r"its categories of 'obs' are not MultiDiscrete\(\[3 4\]\)'s"):
        export(graph, tmp_path / "p.zip")
    assert list(tmp_path.iterdir()) == []


def rewritten(path: Path, change: Callable[[dict[str, Any]], Any]) -> str:
    """A zip whose features extractor says something else."""
    with zipfile.ZipFile(path) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    data = json.loads(content["data"])
    change(data["policy_kwargs"]["features_extractor_kwargs"])
    content["data"] = json.dumps(data).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, raw in content.items():
            archive.writestr(name, raw)
    return str(path)


def joined(kwargs: dict[str, Any]) -> None:
    kwargs["operations"][2] = {
        "kind": "concatenate",
        "inputs": ["obs", "obs"],
        "output": "x",
        "attributes": {},
        "shapes": {},
    }


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda kwargs: kwargs.pop("operations"), "is not what kd_agent writes"),
        (lambda kwargs: kwargs.update(operations=kwargs["operations"] * 20), "120|140|160 operations"),
        (lambda kwargs: kwargs.update(operations=5), "is not what kd_agent writes"),
        (lambda kwargs: kwargs.update(output="nowhere"), "is not what kd_agent writes: 'nowhere'"),
        (lambda kwargs: kwargs["operations"][0].update(kind="one_hot"), "one_hot of"),
        (lambda kwargs: kwargs["operations"][0].update(inputs=["gone"]), "'gone'"),
        (lambda kwargs: kwargs["operations"][0].update(attributes=[1]), "is not what kd_agent writes"),
        (lambda kwargs: kwargs["operations"][0].update(attributes={"axes": [0, 0, 0]}), "do not fit together"),
        (lambda kwargs: kwargs["operations"][1].update(shapes={"mean": 5}), "is not what kd_agent writes"),
        (lambda kwargs: kwargs["operations"][1].update(shapes={}), "is not understood|do not fit together"),
        (joined, "concatenate of"),
    ],
)
def test_a_forged_extractor_is_refused_in_one_line(change: Any, words: str, tmp_path: Path) -> None:
    source = rewritten(zip_of(student_of("image"), tmp_path), change)
    with pytest.raises(KDError, match=words) as caught:
        load_teacher(source, env=(PICTURE, gym.spaces.Discrete(4)))
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(source)
