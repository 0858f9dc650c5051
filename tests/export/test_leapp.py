"""LEAPP: a graph that leapp's own inference manager runs, and that says what its numbers mean."""

import hashlib
import importlib
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
import yaml
from masked_agents import masked_graph
from sample_graphs import GRAPHS, observations_for
from samples import HEADS, make_graph, make_student

from kd_agent import KDError, export
from kd_agent.deployment.agents import Agent
from kd_agent.deployment.parity import compare
from kd_agent.deployment.walk import walk
from kd_agent.export import leapp as leapp_export
from kd_agent.policies.graph import ObservationSpec, PolicyGraph
from kd_agent.policies.policy import Policy
from kd_agent.settings.yaml_file import read_mapping


def told_of(graph: PolicyGraph, folder: Path) -> dict[str, Any]:
    """The graph's file, read by our own reader, which bounds what it reads."""
    return read_mapping(export(graph, folder / "policy.yaml")[0])


def tensors(told: dict[str, Any], side: str) -> dict[str, Any]:
    return {tensor["name"]: tensor for tensor in told["models"]["policy"][side]}


def run(graph: PolicyGraph, observations: dict[str, Any], folder: Path, restarts: Any) -> Any:
    """Greedy actions `[T, A]` by leapp's manager, reset where an episode starts."""
    manager = pytest.importorskip("leapp").InferenceManager(str(export(graph, folder / "policy.yaml")[0]))
    rows = []
    for index, restart in enumerate(restarts):
        if restart:
            manager.reset()
        inputs = {f"policy/{key}": torch.tensor(array[index : index + 1]) for key, array in observations.items()}
        rows.append(manager.run_policy(inputs)["policy/action"].numpy().copy())
    return np.concatenate(rows).reshape(len(rows), -1)


@pytest.mark.parametrize("name", [*HEADS, "student gru"])
def test_leapps_manager_acts_as_the_policy_to_a_millionth(name: str, tmp_path: Path) -> None:
    graph = GRAPHS[name]()
    observations = observations_for(graph, 60)
    restarts = np.arange(60) % 20 == 0
    found = run(graph, observations, tmp_path, restarts)
    policy, memory, rows = Policy(graph), None, []
    for index, restart in enumerate(restarts):
        step = observations["obs"][index : index + 1]
        action, memory = policy.predict(step, memory, np.array([restart]), deterministic=True)
        rows.append(action)
    expected = np.concatenate(rows).reshape(60, -1)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert len(np.unique(expected)) > 1
    if graph.states:
        assert np.abs(run(graph, observations, tmp_path, np.arange(60) == 0) - expected).max() > 1e-3


def test_a_graph_names_what_its_numbers_are(tmp_path: Path) -> None:
    spec = {"obs": ObservationSpec((8,), "float32")}
    graph = make_student(HEADS["categorical"], "mlp", spec, hidden=(5,)).graph({"env": "LunarLander-v3"})
    told = told_of(graph, tmp_path)
    obs = tensors(told, "inputs")["obs"]
    assert (obs["dtype"], obs["shape"], obs["type"]) == ("float32", [1, 8], "tensor")
    assert obs["element_names"][0][:2] == ["x", "y"]
    assert obs["high"][:2] == [2.5, 2.5]
    normaliser = graph.ops[0]
    assert obs["normalization"]["clip"] == normaliser.attributes["clip"]
    np.testing.assert_array_equal(np.float32(obs["normalization"]["mean"]), normaliser.tensors["mean"])
    np.testing.assert_array_equal(np.float32(obs["normalization"]["scale"]), normaliser.tensors["scale"])
    outputs = tensors(told, "outputs")
    engines = ["no engine", "left engine", "main engine", "right engine"]
    assert outputs["params"]["element_names"] == [engines]
    assert outputs["params"]["distribution"] == "categorical"
    assert outputs["action"]["shape"] == [1]
    assert outputs["action"]["dtype"] == "int64"
    assert outputs["action"]["category_names"] == engines
    assert outputs["action"]["categories"] == [4]
    assert told["pipeline"]["inputs"] == {"policy": ["obs"]}
    assert told["pipeline"]["outputs"] == {"policy": ["params", "action"]}
    assert told["pipeline"]["configs"]["environment"] == "LunarLander-v3"
    assert "the normaliser is inside" in told["pipeline"]["configs"]["description"]


def test_a_box_has_its_bounds_and_names(tmp_path: Path) -> None:
    graph = make_graph("diag_gaussian", {"env": "LunarLanderContinuous-v3"})
    action = tensors(told_of(graph, tmp_path), "outputs")["action"]
    assert action["element_names"] == [["main engine", "lateral engine"]]
    assert (action["low"], action["high"]) == ([-1, -2], [1, 3])


def test_an_open_range_is_null(tmp_path: Path) -> None:
    spec = {"obs": ObservationSpec((4,), "float32")}
    graph = make_student(HEADS["categorical"], "mlp", spec).graph({"env": "CartPole-v1"})
    obs = tensors(told_of(graph, tmp_path), "inputs")["obs"]
    assert obs["low"][1] is None
    assert obs["high"][0] == pytest.approx(4.8)


def test_an_image_is_described_in_few_lines(tmp_path: Path) -> None:
    graph = GRAPHS["student cnn"]()
    obs = tensors(told_of(graph, tmp_path), "inputs")["obs"]
    assert obs["shape"] == [1, 44, 40, 2]
    assert obs["dtype"] == "uint8"
    assert set(obs["normalization"]) == {"applied", "formula", "clip"}
    assert (tmp_path / "policy.yaml").stat().st_size < 3000


def test_categories_are_told(tmp_path: Path) -> None:
    spec = {"room": ObservationSpec((), "int64", (7,)), "obs2": ObservationSpec((2,), "float32")}
    graph = make_student(HEADS["multi_categorical"], "mlp", spec).graph({"env": "nowhere-v0"})
    told = told_of(graph, tmp_path)
    assert tensors(told, "inputs")["obs.room"]["categories"] == [7]
    assert tensors(told, "outputs")["action"]["categories"] == [3, 4]
    assert told["pipeline"]["inputs"] == {"policy": ["obs.room", "obs.obs2"]}


def test_a_memory_is_fed_back_by_the_host(tmp_path: Path) -> None:
    graph = GRAPHS["gru"]()
    told = told_of(graph, tmp_path)
    assert told["pipeline"]["feedback_flow"] == {"policy/state.memory.next": ["policy/state.memory"]}
    assert told["pipeline"]["inputs"] == {"policy": ["obs"]}
    assert told["pipeline"]["outputs"] == {"policy": ["params", "action"]}
    assert told["pipeline"]["initial_values"] == "policy_initial_values.safetensors"
    assert (tmp_path / "policy_initial_values.safetensors").is_file()


def test_a_folder_gets_files_of_its_own_name(tmp_path: Path) -> None:
    files = export(make_graph(), tmp_path / "walker", "leapp")
    assert files == [tmp_path / "walker" / "walker.yaml", tmp_path / "walker" / "walker.onnx"]
    parameters = read_mapping(files[0])["models"]["policy"]["parameters"]
    assert parameters["model_path"] == "walker.onnx"
    raw = files[1].read_bytes()
    assert parameters["sha256sum"] == hashlib.sha256(raw).hexdigest()
    assert parameters["md5sum"] == hashlib.md5(raw).hexdigest()


def test_a_suffix_that_leapp_does_not_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(KDError, match=r"leapp reads graphs of the suffix \.yaml alone: .*walker\.yaml"):
        export(make_graph(), tmp_path / "walker.yml", "leapp")


def test_a_key_that_leapp_cannot_write_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    spec = {"arm/left": ObservationSpec((3,), "float32"), "b": ObservationSpec((2,), "float32")}
    graph = make_student(HEADS["categorical"], "mlp", spec).graph({"env": "nowhere-v0"})
    with pytest.raises(KDError, match=r"the observation 'obs\.arm/left' cannot have a / in its name"):
        export(graph, tmp_path / "policy", "leapp")
    assert list(tmp_path.iterdir()) == []


def test_the_operator_set_reaches_the_file(tmp_path: Path) -> None:
    path, model = export(make_graph(), tmp_path / "policy.yaml", opset=17)
    assert onnx.load(model).opset_import[0].version == 17
    assert read_mapping(path)["models"]["policy"]["parameters"]["opset_version"] == 17


def test_masks_start_as_all_allowed(tmp_path: Path) -> None:
    graph = masked_graph("categorical")
    told = told_of(graph, tmp_path)
    assert told["pipeline"]["inputs"] == {"policy": ["obs", "action_masks"]}
    manager = pytest.importorskip("leapp").InferenceManager(str(tmp_path / "policy.yaml"))
    observations = observations_for(graph, 50)["obs"]
    found = [
        manager.run_policy({"policy/obs": torch.tensor(row[None])})["policy/action"].item() for row in observations
    ]
    np.testing.assert_array_equal(found, Policy(graph).predict(observations, deterministic=True)[0])


def test_strings_of_a_file_stay_text(tmp_path: Path) -> None:
    """What a student says of itself cannot become YAML of its own."""
    evil = "a\nmodels: {}\n!!python/object/apply:os.system [x] # &a *a"
    graph = make_graph(provenance={"env": evil})
    told = yaml.safe_load(export(graph, tmp_path / "policy.yaml")[0].read_text())
    assert list(told) == ["models", "pipeline", "system information"]
    assert list(told["models"]) == ["policy"]


def test_without_leapp_the_file_is_written_and_not_played(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> Any:
        raise ImportError(name)

    graph = make_graph()
    agent = Agent(graph, Policy(graph))
    where = walk(agent, 20, 0)
    [path, _] = export(graph, tmp_path / "policy.yaml")
    monkeypatch.setattr(leapp_export, "import_module", missing)
    assert str(compare(agent, path, "leapp", where)) == "policy.yaml: not checked: leapp is not there"
    monkeypatch.undo()
    assert importlib.util.find_spec("leapp") is None or compare(agent, path, "leapp", where).holds
