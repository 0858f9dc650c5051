"""LEAPP graphs as teachers: those that leapp itself writes, our own, and damaged ones."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import yaml
from safetensors.numpy import save_file
from sample_graphs import GRAPHS, observations_for
from samples import HEADS, SPACES, make_graph

from kd_agent import KDError, export, load_teacher
from kd_agent.networks.base import Teacher
from kd_agent.policies.policy import Policy

DATA = Path(__file__).parent / "data" / "leapp"
VECTOR = gym.spaces.Box(-np.inf, np.inf, (4,), np.float32)
BOX = gym.spaces.Box(-1, 1, (2,), np.float32)
TWO = gym.spaces.Dict(
    {
        "position": gym.spaces.Box(-np.inf, np.inf, (3,), np.float32),
        "command": gym.spaces.Box(-np.inf, np.inf, (2,), np.float32),
    }
)
SPACE_OF = dict(zip(HEADS, [*SPACES.values(), SPACES["Box"]], strict=True))
"""The action space of each head."""
OBSERVED = {"mlp": VECTOR, "two_inputs": TWO, "gru": VECTOR, "unbatched": VECTOR}


@pytest.fixture(autouse=True)
def _runtime() -> None:
    pytest.importorskip("onnxruntime")


def graph_of(name: str, folder: Path) -> Path:
    """A copy of a graph that leapp wrote."""
    return Path(shutil.copytree(DATA / name, folder / name)) / f"{name}.yaml"


def changed(path: Path, change: Callable[[dict[str, Any]], Any]) -> str:
    """A graph with something else in it."""
    told = yaml.safe_load(path.read_text())
    change(told)
    path.write_text(yaml.safe_dump(told))
    return str(path)


def played(teacher: Teacher, observations: dict[str, Any], starts: Any) -> Any:
    """Greedy actions `[T, A]` of one episode after the other."""
    memory: Any = None
    rows = []
    for index, is_start in enumerate(starts):
        step = {key: array[index : index + 1] for key, array in observations.items()}
        output = teacher(step, memory, np.array([is_start]))
        memory = output.state
        rows.append(teacher.head.spec.greedy(output.params.numpy()))
    return np.concatenate(rows).reshape(len(rows), -1)


@pytest.mark.parametrize("name", OBSERVED)
def test_a_graph_that_leapp_wrote_acts_as_leapp_runs_it(name: str) -> None:
    space = OBSERVED[name]
    teacher = load_teacher(str(DATA / name / f"{name}.yaml"), env=(space, BOX))
    assert teacher.origin.algo == "LEAPP"
    assert teacher.recurrent == (name == "gru")
    told = np.load(DATA / name / "answers.npz")
    keys = list(space.spaces) if name == "two_inputs" else ["joints" if name == "mlp" else "obs"]
    observations = {key if name == "two_inputs" else "obs": told[f"observed.{key}"] for key in keys}
    np.testing.assert_allclose(played(teacher, observations, told["starts"]), told["actions"], atol=1e-6)


def test_a_memory_starts_as_the_graph_says(tmp_path: Path) -> None:
    told = np.load(DATA / "gru" / "answers.npz")
    path = graph_of("gru", tmp_path)
    first = load_teacher(str(path), env=(VECTOR, BOX))
    save_file({"policy/memory_in": np.zeros((1, 6), np.float32)}, path.parent / "gru_initial_values.safetensors")
    other = load_teacher(str(path), env=(VECTOR, BOX))
    assert other.origin.sha256 != first.origin.sha256
    observations = {"obs": told["observed.obs"]}
    assert np.abs(played(other, observations, told["starts"]) - told["actions"]).max() > 0.01
    nothing = changed(path, lambda told: told["pipeline"].pop("initial_values"))
    zeros = load_teacher(nothing, env=(VECTOR, BOX))
    np.testing.assert_array_equal(
        played(zeros, observations, told["starts"]), played(other, observations, told["starts"])
    )


@pytest.mark.parametrize("kind", HEADS)
def test_our_own_graph_comes_back_as_the_policy(kind: str, tmp_path: Path) -> None:
    graph = make_graph(kind, {"env": "nowhere-v0"})
    [path, _] = export(graph, tmp_path / "policy.yaml")
    space = SPACE_OF[kind]
    teacher = load_teacher(str(path), env=(VECTOR, space))
    observations = observations_for(graph, 500)
    expected = Policy(graph).params_batch(observations)
    np.testing.assert_allclose(teacher(observations).params.numpy(), expected, atol=1e-6)
    read = teacher.to_graph()
    assert read.head == graph.head
    np.testing.assert_allclose(Policy(read).params_batch(observations), expected, atol=1e-5)


def test_our_own_memory_comes_back(tmp_path: Path) -> None:
    graph = GRAPHS["student gru"]()
    path = export(graph, tmp_path / "policy.yaml")[0]
    teacher = load_teacher(str(path), env=(VECTOR, SPACES["Box"]))
    observations = observations_for(graph, 30)
    starts = np.arange(30) % 10 == 0
    policy, memory, rows = Policy(graph), None, []
    for index, is_start in enumerate(starts):
        action, memory = policy.predict(
            observations["obs"][index : index + 1], memory, np.array([is_start]), deterministic=True
        )
        rows.append(action)
    np.testing.assert_allclose(played(teacher, observations, starts), np.concatenate(rows), atol=1e-6)


def test_another_wiring_is_another_teacher(tmp_path: Path) -> None:
    path = graph_of("mlp", tmp_path)
    one = load_teacher(str(path), env=(VECTOR, BOX)).origin.sha256
    assert load_teacher(str(path), env=(VECTOR, BOX)).origin.sha256 == one
    changed(path, lambda told: told["pipeline"]["outputs"]["policy"].append("another"))
    assert load_teacher(str(path), env=(VECTOR, BOX)).origin.sha256 != one


def parameters(told: dict[str, Any]) -> dict[str, Any]:
    """Of the model of a graph."""
    found: dict[str, Any] = told["models"]["policy"]["parameters"]
    return found


def two_of_one(told: dict[str, Any]) -> None:
    told["models"]["again"] = dict(told["models"]["policy"], inputs=[], outputs=[], parameters={})


CHANGES: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "no models": (lambda told: told.pop("models"), "'models' is not a mapping"),
    "models of a list": (lambda told: told.update(models=[1]), "'models' is not a mapping"),
    "an empty graph": (lambda told: told.update(models={}), r"a graph of 0 models \(none\)"),
    "two models": (two_of_one, r"a graph of 2 models \(again, policy\); only one model can be a teacher"),
    "no pipeline": (lambda told: told.pop("pipeline"), "'pipeline' is not a mapping"),
    "TorchScript": (lambda told: parameters(told).update(backend="jit"), "backend 'jit'; only onnx"),
    "no backend": (lambda told: parameters(told).pop("backend"), "backend None; only onnx"),
    "no model file": (lambda told: parameters(told).pop("model_path"), "'model_path' is not the name of a file"),
    "a missing model": (lambda told: parameters(told).update(model_path="gone.onnx"), "gone.onnx: there is no such"),
    "a folder": (lambda told: parameters(told).update(model_path="."), "there is no such file"),
    "a model elsewhere": (
        lambda told: parameters(told).update(model_path="../secret.onnx"),
        r"model_path '\.\./secret\.onnx' is not inside the graph's folder",
    ),
    "an absolute path": (
        lambda told: parameters(told).update(model_path="/etc/passwd"),
        "model_path '/etc/passwd' is not inside",
    ),
    "a name that is none": (lambda told: parameters(told).update(model_path="a\0b"), "is not inside"),
    "another digest": (lambda told: parameters(told).update(sha256sum="0" * 64), "not the file that the graph was"),
    "a digest of a list": (lambda told: parameters(told).update(sha256sum=[]), "not the file that the graph was"),
    "inputs of another model": (
        lambda told: told["pipeline"].update(inputs={"other": ["joints"]}),
        "its inputs name the model 'other', which is not 'policy'",
    ),
    "inputs of numbers": (lambda told: told["pipeline"].update(inputs={"policy": [1]}), "'inputs' is not a list of"),
    "no inputs": (lambda told: told["pipeline"].update(inputs={}), r"its inputs are \[\], the environment's"),
    "an unknown output": (
        lambda told: told["pipeline"].update(outputs={"policy": ["gone"]}),
        r"none of its outputs \(\) could be an action",
    ),
    "feedback of text": (lambda told: told["pipeline"].update(feedback_flow="x"), "'feedback_flow' is not a mapping"),
    "feedback elsewhere": (
        lambda told: told["pipeline"].update(feedback_flow={"other/x": ["policy/joints"]}),
        "'other/x' is not a tensor of its model 'policy'",
    ),
    "feedback of a name": (
        lambda told: told["pipeline"].update(feedback_flow={"policy": ["policy/joints"]}),
        "'policy' is not a tensor of its model 'policy'",
    ),
    "first values elsewhere": (
        lambda told: told["pipeline"].update(initial_values="../secret.onnx"),
        r"initial_values '\.\./secret\.onnx' is not inside",
    ),
    "first values of another kind": (
        lambda told: told["pipeline"].update(initial_values="policy.onnx"),
        r"policy\.onnx: cannot be read as safetensors",
    ),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_damaged_graph_is_refused_in_one_line(name: str, tmp_path: Path) -> None:
    change, words = CHANGES[name]
    path = graph_of("mlp", tmp_path)
    (tmp_path / "secret.onnx").write_bytes((path.parent / "policy.onnx").read_bytes())
    source = changed(path, change)
    with pytest.raises(KDError, match=words) as caught:
        load_teacher(source, env=(VECTOR, BOX))
    message = str(caught.value)
    assert message.startswith(f"{source}: ")
    assert "\n" not in message


MEMORIES: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "nothing fed back": (
        lambda told: told["pipeline"].update(feedback_flow={}),
        r"input 'memory_in' \[1, 6\] is no observation, and no output is fed back to it",
    ),
    "an output that is not there": (
        lambda told: told["pipeline"].update(feedback_flow={"policy/gone": ["policy/memory_in"]}),
        "no output is fed back to it",
    ),
    "no list of targets": (
        lambda told: told["pipeline"].update(feedback_flow={"policy/memory_out": "policy/memory_in"}),
        "'feedback_flow' is not a list of names",
    ),
}


@pytest.mark.parametrize("name", MEMORIES)
def test_a_damaged_memory_is_refused_in_one_line(name: str, tmp_path: Path) -> None:
    change, words = MEMORIES[name]
    with pytest.raises(KDError, match=words):
        load_teacher(changed(graph_of("gru", tmp_path), change), env=(VECTOR, BOX))


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (np.zeros((1, 7), np.float32), r"the initial value of 'memory_in' is \[1, 7\], not \[1, 6\]"),
        (np.full((1, 6), np.nan, np.float32), "'policy/memory_in' has values that are not finite"),
    ],
)
def test_first_values_that_do_not_fit_are_refused(value: Any, words: str, tmp_path: Path) -> None:
    path = graph_of("gru", tmp_path)
    save_file({"policy/memory_in": value}, path.parent / "gru_initial_values.safetensors")
    with pytest.raises(KDError, match=words):
        load_teacher(str(path), env=(VECTOR, BOX))


def test_a_link_out_of_the_folder_is_not_followed(tmp_path: Path) -> None:
    path = graph_of("mlp", tmp_path)
    model = path.parent / "policy.onnx"
    outside = model.rename(tmp_path / "outside.onnx")
    model.symlink_to(outside)
    with pytest.raises(KDError, match=r"'policy\.onnx' is not inside the graph's folder"):
        load_teacher(str(path), env=(VECTOR, BOX))


def test_a_pipeline_of_models_and_torchscript_are_refused() -> None:
    with pytest.raises(KDError, match=r"a graph of 2 models \(prepare, policy\)"):
        load_teacher(str(DATA / "two_models" / "two_models.yaml"), env=(VECTOR, BOX))
    with pytest.raises(KDError, match="backend 'jit'; only onnx can be read without running its code"):
        load_teacher(str(DATA / "torchscript" / "torchscript.yaml"), env=(VECTOR, BOX))


@pytest.mark.parametrize(
    "text",
    ["a: &a [1]\nb: *a\n", "models: !!python/object/apply:os.system ['x']\n", "a: " + "[" * 2000, "- 1\n", "\0"],
)
def test_hostile_yaml_is_refused_in_one_line(text: str, tmp_path: Path) -> None:
    path = tmp_path / "graph.yaml"
    path.write_text(text)
    with pytest.raises(KDError) as caught:
        load_teacher(str(path), env=(VECTOR, BOX))
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_an_environment_is_needed() -> None:
    with pytest.raises(KDError, match=r"a LEAPP graph does not say what it acts on; name the environment \(--env\)"):
        load_teacher(str(DATA / "mlp" / "mlp.yaml"))


def test_a_fed_back_action_can_be_the_answer(tmp_path: Path) -> None:
    """Where the last action is an observation, leapp lists it among no outputs."""
    path = graph_of("gru", tmp_path)
    changed(path, lambda told: told["pipeline"].update(outputs={}))
    teacher = load_teacher(str(path), env=(VECTOR, BOX))
    told = np.load(DATA / "gru" / "answers.npz")
    actions = played(teacher, {"obs": told["observed.obs"]}, told["starts"])
    np.testing.assert_allclose(actions, told["actions"], atol=1e-6)


def test_the_output_may_be_named(tmp_path: Path) -> None:
    graph = make_graph("diag_gaussian", {"env": "nowhere-v0"})
    path = export(graph, tmp_path / "policy.yaml")[0]
    env = (VECTOR, SPACES["Box"])
    named = load_teacher(str(path), env=env, onnx_output="action")
    assert named.origin.sha256 != load_teacher(str(path), env=env).origin.sha256
    observations = observations_for(graph, 50)
    expected = Policy(graph).predict(observations["obs"], deterministic=True)[0]
    np.testing.assert_allclose(named.predict(observations["obs"], deterministic=True)[0], expected, atol=1e-6)
    with pytest.raises(KDError, match="'gone'"):
        load_teacher(str(path), env=env, onnx_output="gone")
