"""ONNX: a checked model that says what it is for; its operators, inputs and outputs."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from exported import by_numpy, metadata
from sample_graphs import GRAPHS, observations_for
from samples import make_graph

from kd_agent import KDError, export
from kd_agent.export.onnx import build


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
