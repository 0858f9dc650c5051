"""ONNX files as programs: what is read acts as onnxruntime does, and what cannot be is named."""

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import onnx_models
import pytest
import torch
from onnx_models import FLOAT, WEIGHT
from sample_graphs import GRAPHS
from samples import HEADS, SPACES, make_graph
from small_agents import VECTOR

from kd_agent import KDError, export, load_teacher
from kd_agent.policies.policy import Policy
from kd_agent.teachers._onnx_readers import READERS

CHOICE = SPACES["Discrete"]
IMAGE = gym.spaces.Box(0, 255, (3, 12, 10), np.uint8)
VALUES = np.float32([0.5, -2.0, 3.0, 1.5])
FUNCTIONS = ("Tanh", "Relu", "Elu", "Selu", "Softplus", "Softsign")
NODES: dict[str, tuple[list[tuple[str, list[str], str, dict[str, Any]]], list[str]]] = {
    "Gemm": ([("Gemm", ["x", "w", "v"], "y", {"alpha": 0.5, "beta": 2.0})], ["linear"]),
    "Gemm, transposed": ([("Gemm", ["x", "w"], "y", {"transB": 1})], ["linear"]),
    "MatMul and Add": ([("MatMul", ["x", "w"], "m", {}), ("Add", ["m", "v"], "y", {})], ["linear"]),
    "Add": ([("Add", ["v", "x"], "y", {})], ["scale"]),
    "Sub": ([("Sub", ["x", "v"], "y", {})], ["scale"]),
    "Sub, turned round": ([("Sub", ["v", "x"], "y", {})], ["scale"]),
    "Mul": ([("Mul", ["v", "x"], "y", {})], ["scale"]),
    "Div": ([("Div", ["x", "v"], "y", {})], ["scale"]),
    "SiLU": ([("Sigmoid", ["x"], "s", {}), ("Mul", ["x", "s"], "y", {})], ["activation"]),
    "SiLU, turned round": ([("Sigmoid", ["x"], "s", {}), ("Mul", ["s", "x"], "y", {})], ["activation"]),
    "LeakyRelu": ([("LeakyRelu", ["x"], "y", {"alpha": 0.3})], ["activation"]),
    "Clip": ([("Clip", ["x", "low", "high"], "y", {})], ["clip"]),
    "Max and Min": ([("Max", ["low", "x"], "m", {}), ("Min", ["m", "high"], "y", {})], ["clip", "clip"]),
    "Identity and Dropout": (
        [("Identity", ["x"], "i", {}), ("Dropout", ["i"], "d", {}), ("Relu", ["d"], "y", {})],
        ["activation"],
    ),
    "Flatten": ([("Flatten", ["x"], "y", {"axis": 1})], ["flatten"]),
    "Reshape": ([("Reshape", ["x", "rows"], "y", {})], ["flatten"]),
    "Slice and Concat": (
        [
            ("Slice", ["x", "one", "three", "axis"], "s", {}),
            ("Slice", ["x", "zero", "two", "axis"], "t", {}),
            ("Concat", ["s", "t"], "y", {"axis": -1}),
        ],
        ["slice", "slice", "concatenate"],
    ),
    "Cast": ([("Cast", ["x"], "c", {"to": FLOAT}), ("Tanh", ["c"], "y", {})], ["activation"]),
    **{
        name: ([(name, ["x"], "y", {})], ["activation"])
        for name in ("Tanh", "Relu", "Elu", "Selu", "Softplus", "Softsign")
    },
}
CONSTANTS = {
    "v": VALUES,
    "low": np.float32(-0.4),
    "high": np.float32(0.3),
    "rows": np.int64([-1, 4]),
    **{name: np.int64([number]) for name, number in (("zero", 0), ("one", 1), ("two", 2), ("three", 3), ("axis", 1))},
}


def saved(path: Path, nodes: Any, outputs: Any = None, **more: Any) -> Path:
    outputs = outputs or {"y": (FLOAT, ["n", 4])}
    return onnx_models.save(path, nodes, {"x": (FLOAT, ["n", 4])}, outputs, {**CONSTANTS, **more})


@pytest.mark.parametrize("name", NODES)
def test_each_node_does_what_onnxruntime_does(name: str, tmp_path: Path) -> None:
    nodes, kinds = NODES[name]
    teacher = load_teacher(str(saved(tmp_path / "p.onnx", nodes)), env=(VECTOR, CHOICE))
    graph = teacher.to_graph()
    assert [op.kind for op in graph.ops] == kinds
    observations = {"obs": np.random.default_rng(1).normal(0, 2, (200, 4)).astype(np.float32)}
    expected = teacher(observations).params.numpy()
    np.testing.assert_allclose(Policy(graph).params_batch(observations), expected, rtol=1e-5, atol=1e-5)


def test_every_node_that_is_read_is_read_by_a_test() -> None:
    used = {node[0] for nodes, _ in NODES.values() for node in nodes}
    elsewhere = {"Conv", "Transpose", "Constant", "Expand", "Shape", "Sigmoid"}
    assert used | elsewhere == set(READERS)


@pytest.mark.parametrize("name", [*(kind for kind in HEADS if kind != "squashed_gaussian"), "pixels"])
def test_what_was_exported_is_read_back(name: str, tmp_path: Path) -> None:
    graph = make_graph(name) if name in HEADS else GRAPHS[name]()
    [path] = export(graph, tmp_path / "p.onnx")
    boxes = {key: space_of(spec) for key, spec in graph.observations.items()}
    observed: Any = boxes["obs"] if list(boxes) == ["obs"] else gym.spaces.Dict(list(boxes.items()))
    actions = {
        "categorical": lambda: gym.spaces.Discrete(graph.head.nvec[0], start=graph.head.start[0]),
        "multi_categorical": lambda: gym.spaces.MultiDiscrete(graph.head.nvec, start=graph.head.start),
        "bernoulli": lambda: gym.spaces.MultiBinary(len(graph.head.nvec)),
        "diag_gaussian": lambda: gym.spaces.Box(np.float32(graph.head.low), np.float32(graph.head.high)),
    }[graph.head.kind]()
    teacher = load_teacher(str(path), env=(observed, actions))
    read = teacher.to_graph()
    rng = np.random.default_rng(0)
    given = {key: rng.uniform(0, 3, (50, *spec.shape)).astype(spec.dtype) for key, spec in graph.observations.items()}
    expected = Policy(graph).params_batch(given)
    np.testing.assert_allclose(Policy(read).params_batch(given), expected, rtol=1e-4, atol=1e-5)


def space_of(spec: Any) -> gym.Space[Any]:
    if spec.dtype == "uint8":
        return gym.spaces.Box(0, 255, spec.shape, np.uint8)
    return gym.spaces.Box(-np.inf, np.inf, spec.shape, np.dtype(spec.dtype).type)


def test_actions_of_a_box_get_the_stated_density(tmp_path: Path) -> None:
    box = gym.spaces.Box(np.float32([-1, -2]), np.float32([1, 3]))
    nodes = [("MatMul", ["x", "u"], "m", {}), ("Tanh", ["m"], "actions", {})]
    path = saved(tmp_path / "p.onnx", nodes, {"actions": (FLOAT, ["n", 2])}, u=WEIGHT[:, :2].copy())
    teacher = load_teacher(str(path), env=(VECTOR, box))
    graph = teacher.to_graph()
    observations = {"obs": np.random.default_rng(1).normal(0, 2, (50, 4)).astype(np.float32)}
    np.testing.assert_allclose(Policy(graph).params_batch(observations), teacher(observations).params, atol=1e-6)


def test_a_network_of_torch_is_read(tmp_path: Path) -> None:
    """As people write agents of Stable-Baselines3 for elsewhere."""
    torch.manual_seed(0)
    network = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3, stride=2, padding=1), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(120, 4)
    )
    path = tmp_path / "p.onnx"
    names: dict[str, Any] = {"input_names": ["obs"], "output_names": ["logits"], "dynamic_axes": {"obs": {0: "n"}}}
    torch.onnx.export(network, (torch.zeros(1, 3, 12, 10),), str(path), dynamo=False, **names)
    teacher = load_teacher(str(path), env=(gym.spaces.Box(-1, 1, (3, 12, 10), np.float32), CHOICE))
    graph = teacher.to_graph()
    assert [op.kind for op in graph.ops] == ["conv2d", "activation", "flatten", "linear"]
    observations = {"obs": np.random.default_rng(1).normal(0, 1, (8, 3, 12, 10)).astype(np.float32)}
    np.testing.assert_allclose(
        Policy(graph).params_batch(observations), teacher(observations).params.numpy(), rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize(
    ("nodes", "words"),
    [
        ([("Sin", ["x"], "y", {})], "its node 'Sin' has no operation here that does the same"),
        ([("Mul", ["x", "x"], "y", {})], "its node 'Mul' has no operation"),
        ([("Sin", ["x"], "s", {}), ("Relu", ["s"], "y", {})], "its node 'Sin' has no operation"),
        ([("Elu", ["x"], "y", {"alpha": 0.5})], "its node 'Elu' has no operation"),
        ([("Add", ["v", "v"], "c", {}), ("Mul", ["x", "c"], "y", {})], "its node 'Mul' has no operation"),
        ([("Identity", ["x"], "y", {})], "answers with what it observes"),
    ],
)
def test_a_node_that_cannot_be_expressed_is_named(nodes: Any, words: str, tmp_path: Path) -> None:
    path = saved(tmp_path / "p.onnx", nodes)
    teacher = load_teacher(str(path), env=(VECTOR, CHOICE))
    with pytest.raises(KDError, match=words) as caught:
        teacher.to_graph()
    assert str(caught.value).startswith(f"{path}: cannot be written as a program: ")


def test_a_memory_is_refused(tmp_path: Path) -> None:
    [path] = export(GRAPHS["gru"](), tmp_path / "p.onnx")
    head = GRAPHS["gru"]().head
    space = (
        gym.spaces.Discrete(head.nvec[0]) if head.nvec else gym.spaces.Box(np.float32(head.low), np.float32(head.high))
    )
    teacher = load_teacher(str(path), env=(VECTOR, space))
    with pytest.raises(KDError, match="a model with a memory is run, and not read as a program"):
        teacher.to_graph()


def test_a_program_that_answers_otherwise_is_not_believed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(tmp_path / "p.onnx", NODES["Tanh"][0])
    teacher = load_teacher(str(path), env=(VECTOR, CHOICE))
    monkeypatch.setitem(READERS, "Tanh", READERS["Relu"])
    with pytest.raises(KDError, match="answer otherwise than it does"):
        teacher.to_graph()


def test_weights_in_another_file_are_not_read(tmp_path: Path) -> None:
    from kd_agent.teachers._onnx_program import Model, read_program

    onnx = pytest.importorskip("onnx")
    path = saved(tmp_path / "p.onnx", NODES["MatMul and Add"][0])
    model = onnx.load(str(path))
    model.graph.initializer[0].data_location = onnx.TensorProto.EXTERNAL
    with pytest.raises(KDError, match="its weights lie in another file, which is not read"):
        read_program(Model(model.SerializeToString(), {"x": "obs"}, "y"))


def test_masks_stay_the_head_s(tmp_path: Path) -> None:
    from dataclasses import replace

    plain = make_graph("categorical")
    graph = replace(plain, head=replace(plain.head, expects_masks=True))
    [path] = export(graph, tmp_path / "p.onnx")
    teacher = load_teacher(str(path), env=(VECTOR, gym.spaces.Discrete(4)))
    read = teacher.to_graph()
    assert read.head.expects_masks
    observations = {"obs": np.random.default_rng(1).normal(0, 2, (50, 4)).astype(np.float32)}
    masks = np.random.default_rng(2).random((50, 4)) < 0.6
    expected = Policy(graph).greedy_batch(observations, masks)
    np.testing.assert_array_equal(Policy(read).greedy_batch(observations, masks), expected)


def test_without_the_package_that_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    teacher = load_teacher(str(saved(tmp_path / "p.onnx", NODES["Tanh"][0])), env=(VECTOR, CHOICE))
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(KDError, match="pip install onnx"):
        teacher.to_graph()
