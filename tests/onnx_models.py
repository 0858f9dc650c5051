"""ONNX files of a few nodes, as somebody else's tool may write them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

WEIGHT = np.random.default_rng(0).normal(size=(4, 4)).astype(np.float32)
"""The constant "w" of every file."""
FLOAT, INT64, DOUBLE, STRING = 1, 7, 11, 8
"""How ONNX numbers the types of its tensors."""


def save(
    path: Path,
    nodes: list[tuple[str, list[str], str, dict[str, Any]]],
    inputs: dict[str, tuple[int, list[Any]]],
    outputs: dict[str, tuple[int, list[Any]]],
    constants: dict[str, Any] | None = None,
) -> Path:
    """Write a model.

    Args:
        path: The file.
        nodes: Operator, names of the inputs, name of the output, attributes.
        inputs: Type and shape by name.
        outputs: Likewise.
        constants: Arrays beside "w".
    """
    pytest.importorskip("onnxruntime")
    helper = pytest.importorskip("onnx").helper
    numpy_helper = pytest.importorskip("onnx").numpy_helper
    added = [numpy_helper.from_array(array, name) for name, array in (constants or {}).items()]
    graph = helper.make_graph(
        [helper.make_node(kind, sources, [target], **attributes) for kind, sources, target, attributes in nodes],
        "policy",
        [helper.make_tensor_value_info(name, *described) for name, described in inputs.items()],
        [helper.make_tensor_value_info(name, *described) for name, described in outputs.items()],
        [helper.make_tensor("w", FLOAT, WEIGHT.shape, WEIGHT.ravel()), *added],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path.write_bytes(model.SerializeToString())
    return path


def save_linear(path: Path) -> Path:
    """Write `x [n, 4] -> x w [n, 4]`."""
    return save(path, [("MatMul", ["x", "w"], "logits", {})], {"x": (FLOAT, ["n", 4])}, {"logits": (FLOAT, ["n", 4])})
