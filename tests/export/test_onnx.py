"""ONNX: a checked model that says what it is for; its operators, inputs and outputs."""

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from exported import assert_same, by_numpy, by_onnx, metadata
from sample_graphs import GRAPHS, linear, observations_for
from samples import HEADS, make_graph

import kd_agent
from kd_agent import KDError, export
from kd_agent.commands.cli import run
from kd_agent.export.onnx import OPSET, build
from kd_agent.policies import file as graph_file
from kd_agent.policies.graph import ObservationSpec, Op, PolicyGraph

OLD_PYTHON = "KD_AGENT_OLD_ONNXRUNTIME"
"""Names a Python with an old onnxruntime: `python -m venv old; old/bin/pip install onnxruntime==1.19.2`."""
OLD_RUN = """
import sys
import numpy as np
import onnxruntime
print(onnxruntime.__version__)
for path in sys.argv[1:]:
    given = np.load(path + ".npz")
    session = onnxruntime.InferenceSession(path + ".onnx")
    params = session.run(["params"], {one.name: given["in:" + one.name] for one in session.get_inputs()})[0]
    np.testing.assert_allclose(params, given["params"], atol=1e-5, rtol=1e-5)
"""


def test_onnx_states_environment_spaces_and_head(tmp_path: Path) -> None:
    [path] = export(make_graph("multi_categorical"), tmp_path / "policy.onnx")
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    found = metadata(path)
    assert found["env"] == "CartPole-v1"
    assert found["observations"]["obs"].items() >= {"shape": [4], "dtype": "float32"}.items()
    assert found["head"]["nvec"] == [3, 4]
    assert [value.name for value in model.graph.output] == ["params", "action"]
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"


def test_the_operator_set_can_be_an_older_one(tmp_path: Path) -> None:
    graph = make_graph()
    [path] = export(graph, tmp_path / "policy.onnx", opset=17)
    model = onnx.load(path)
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 17)]
    assert model.ir_version == onnx.helper.find_min_ir_version_for(model.opset_import)
    observations = observations_for(graph, 20)
    params = onnxruntime.InferenceSession(str(path)).run(["params"], observations)[0]
    np.testing.assert_allclose(params, by_numpy(graph, observations).params, atol=1e-5)


@pytest.mark.parametrize("name", GRAPHS)
def test_by_default_it_is_of_a_version_that_runtimes_of_years_ago_know(name: str, tmp_path: Path) -> None:
    model = onnx.load(export(GRAPHS[name](), tmp_path / "policy.onnx")[0])
    versions = {entry.domain: entry.version for entry in model.opset_import}
    assert versions.pop("") == OPSET == 15
    assert set(versions.items()) <= {("ai.onnx.ml", 1)}
    assert model.ir_version == 8
    nodes = [node.name for node in model.graph.node]
    assert all(nodes)
    assert len(set(nodes)) == len(nodes)  # without, onnxruntime 1.19 loads no policy with a memory


def test_an_onnxruntime_of_two_years_ago_answers_as_numpy_does(tmp_path: Path) -> None:
    python = os.environ.get(OLD_PYTHON)
    if not python:
        pytest.skip(f"{OLD_PYTHON} names no Python that has an old onnxruntime")
    paths = []
    for number, make in enumerate(GRAPHS.values()):
        graph = make()
        observations = observations_for(graph, 1 if graph.states else 20)
        path = tmp_path / str(number)
        export(graph, path.with_suffix(".onnx"))
        alone = list(observations) == ["obs"]
        inputs = {f"in:obs.{key}": array for key, array in observations.items()}
        if alone:
            inputs = {"in:obs": observations["obs"]}
        inputs |= {f"in:state.{state}": np.zeros((1, *shape), np.float32) for state, shape in graph.states.items()}
        np.savez(path.with_suffix(".npz"), params=by_numpy(graph, observations).params, **inputs)
        paths.append(str(path))
    done = subprocess.run([python, "-c", OLD_RUN, *paths], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert tuple(map(int, done.stdout.split(".")[:2])) <= (1, 19)


@pytest.mark.parametrize("opset", [11, 15, 21])
@pytest.mark.parametrize("name", ["activations", "diag_gaussian", "several keys", "state-dependent noise", "lstm"])
def test_every_operator_set_from_11_on_answers_as_numpy_does(name: str, opset: int, tmp_path: Path) -> None:
    graph = GRAPHS[name]()
    observations = observations_for(graph, 20)
    assert_same(graph, by_onnx(graph, observations, tmp_path, opset=opset), by_numpy(graph, observations))


def test_an_operator_set_that_cannot_express_a_policy_is_refused_with_the_first_that_can(tmp_path: Path) -> None:
    with pytest.raises(KDError, match="opset 10 cannot express this policy; the first that can is 11"):
        export(make_graph(), tmp_path / "policy.onnx", opset=10)
    for unknown in (0, -3, 1000):
        with pytest.raises(KDError, match=rf"^opset {unknown} is unknown to the onnx package .* knows 1 to \d+$"):
            export(make_graph(), tmp_path / "policy.onnx", opset=unknown)
    assert list(tmp_path.iterdir()) == []


def test_the_command_takes_the_operator_set(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    student = str(graph_file.write(make_graph(), tmp_path / "s.safetensors"))
    out = str(tmp_path / "p.onnx")
    assert run("export", [student, "--out", out, "--opset", "12"]) == 0
    assert onnx.load(out).opset_import[0].version == 12
    assert run("export", [student, "--out", out, "--opset", "7"]) == 2
    assert "opset 7 cannot express this policy" in capsys.readouterr().err
    assert run("export", [student, "--out", str(tmp_path / "p.c"), "--opset", "12"]) == 2
    assert "unknown c option 'opset'" in capsys.readouterr().err


def test_the_file_says_who_wrote_it_and_what_its_numbers_are_called(tmp_path: Path) -> None:
    [path] = export(GRAPHS["gru"](), tmp_path / "policy.onnx")
    model = onnx.load(path)
    assert (model.producer_name, model.producer_version) == ("kd_agent", kd_agent.__version__)
    assert model.doc_string.startswith("A policy for an unnamed environment, written by kd_agent")
    assert "It has a memory" in model.doc_string
    assert metadata(path)["features"] == {"obs": []}
    assert metadata(path)["actions"] == []
    [known] = export(make_graph("categorical", {"env": "CartPole-v1"}), tmp_path / "known.onnx")
    assert "for CartPole-v1" in onnx.load(known).doc_string
    assert metadata(known)["features"]["obs"][2] == "pole angle"
    assert metadata(known)["actions"] == []  # four, where the environment has two
    lander = make_graph("categorical", {"env": "LunarLander-v3"})
    assert metadata(export(lander, known)[0])["actions"][2] == "main engine"


@pytest.mark.parametrize("axes", [[2, 0, 1], [-2, 0, 1], [-2, -4, 1], [2, -4, -3]])
def test_axes_below_zero_are_counted_as_numpy_does(axes: list[int], tmp_path: Path) -> None:
    # Without the batch, the axis 2 is the last: with it the last but none, so that -2 names it too.
    ops = (
        Op("transpose", ("obs",), "turned", {"axes": axes}),
        Op("flatten", ("turned",), "flat"),
        linear("flat", "params", 4, 24),
    )
    graph = PolicyGraph({"obs": ObservationSpec((2, 3, 4), "float32")}, ops, HEADS["categorical"].spec)
    observations = observations_for(graph, 20)
    assert_same(graph, by_onnx(graph, observations, tmp_path), by_numpy(graph, observations))


def test_trees_bring_an_operator_set_of_their_own() -> None:
    assert {entry.domain for entry in build(GRAPHS["trees"]()).opset_import} == {"", "ai.onnx.ml"}
    assert {entry.domain for entry in build(make_graph()).opset_import} == {""}


def names(values: Any) -> list[str]:
    return [value.name for value in values]


def test_a_memory_comes_in_and_goes_out_by_name() -> None:
    model = build(GRAPHS["lstm"]())
    assert names(model.graph.input) == ["obs", "state.memory"]
    assert names(model.graph.output) == ["params", "action", "state.memory.next"]


def test_each_observation_has_a_name_and_its_own_type() -> None:
    graph = build(GRAPHS["several keys"]()).graph
    assert names(graph.input) == ["obs.floor", "obs.joints"]
    types = [value.type.tensor_type.elem_type for value in graph.input]
    assert types == [onnx.TensorProto.INT64, onnx.TensorProto.FLOAT]  # float64 comes in as what policies compute in


@pytest.mark.parametrize("name", ["categorical", "diag_gaussian"])
def test_any_batch_is_answered(name: str, tmp_path: Path) -> None:
    graph = make_graph(name)
    session = onnxruntime.InferenceSession(str(export(graph, tmp_path / "policy.onnx")[0]))
    for batch in (1, 3):
        params, action = session.run(["params", "action"], observations_for(graph, batch))
        assert params.shape == (batch, graph.head.num_params)
        assert action.shape == (batch, *graph.head.shape)


def test_no_register_of_the_file_names_anything_inside() -> None:
    graph = GRAPHS["trees"]()
    model = build(graph)
    inside = {name for node in model.graph.node for name in node.output} - set(names(model.graph.output))
    assert all(re.fullmatch(r"v\d+", name) for name in inside)
    assert not inside & {op.output for op in graph.ops}


def test_onnx_knows_its_own_option_alone(tmp_path: Path) -> None:
    with pytest.raises(KDError, match="did you mean 'opset'"):
        export(make_graph(), tmp_path / "policy.onnx", opsett=17)
