"""A student's file whose weights are packed: nothing is lost, its size is true, and forged packing is refused."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from forged_files import forge, header_of
from packed_graphs import on_grid
from safetensors.numpy import load
from samples import make_graph

from kd_agent import load_policy
from kd_agent.errors import KDError
from kd_agent.policies import file as graph_file
from kd_agent.policies import packed
from kd_agent.policies.graph import PolicyGraph

GOLDEN = Path(__file__).parents[1] / "golden"


@pytest.mark.parametrize("name", packed.GRIDS)
def test_a_packed_file_gives_back_every_bit(name: str) -> None:
    graph = on_grid(name)
    raw = graph_file.to_bytes(graph)
    again = graph_file.from_bytes(raw)
    for one, other in zip(graph.ops, again.ops, strict=True):
        assert {k: v.tobytes() for k, v in one.tensors.items()} == {k: v.tobytes() for k, v in other.tensors.items()}
    assert again.num_parameters == graph.num_parameters
    assert graph_file.to_bytes(again) == raw


@pytest.mark.parametrize(
    ("name", "weights"),
    [
        ("int4", 32 * 2 + 24 * 16 + 4 * 12),
        ("ternary", 32 * 1 + 24 * 7 + 4 * 5),
    ],
)
def test_its_weights_take_the_bytes_that_they_need(name: str, weights: int) -> None:
    stored = load(graph_file.to_bytes(on_grid(name)))
    digits = {key: array for key, array in stored.items() if key.endswith("weight.digits")}
    assert sum(array.nbytes for array in digits.values()) == weights
    assert not any(key.endswith("weight") for key in stored)
    free = load(graph_file.to_bytes(make_graph(hidden=(32, 24))))
    # Of 60 rows each has a scale.
    saved = sum(array.nbytes for array in free.values()) - sum(array.nbytes for array in stored.values())
    assert saved == 4 * (32 * 4 + 24 * 32 + 4 * 24) - weights - 4 * 60


def test_a_packed_file_has_a_format_of_its_own_and_others_keep_theirs() -> None:
    def version(graph: PolicyGraph) -> int:
        return json.loads(header_of(graph_file.to_bytes(graph))[0]["__metadata__"]["kd_agent"])["format"]

    assert version(on_grid("int4")) == graph_file.PACKED_FORMAT == 5
    assert version(make_graph()) == graph_file.FORMAT


FORGED: dict[str, tuple[dict[str, Any], str]] = {
    "a strange number of bits": ({"largest": 3}, "go up to 1 .ternary. or 7 .4 bits., not 3"),
    "another grid": ({"largest": 1}, "packed weights have shape"),
    "more inputs": ({"inputs": 40}, "packed weights have shape"),
    "inputs that are text": ({"inputs": "4"}, "damaged"),
    "a number of bits that is a list": ({"largest": [7]}, "damaged"),
    "digits that are elsewhere": ({"digits": "9.weight.digits"}, "damaged"),
    "scales that are elsewhere": ({"scale": "1.bias"}, "no operation uses|damaged"),
    "digits for a tensor": ("1.weight.digits", "strange type"),
}


@pytest.mark.parametrize("what", FORGED)
def test_forged_packing_is_one_line(what: str) -> None:
    change, message = FORGED[what]

    def forging(document: dict[str, Any]) -> None:
        tensors = document["ops"][1]["tensors"]
        tensors["weight"] = change if isinstance(change, str) else {**tensors["weight"], **change}

    with pytest.raises(KDError, match=message) as caught:
        graph_file.from_bytes(forge(on_grid("int4"), forging))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("version", [1, 4])
def test_packed_weights_in_another_format_are_refused(version: int) -> None:
    with pytest.raises(KDError, match="differ about action masks, samples, tasks or packing"):
        graph_file.from_bytes(forge(on_grid("int4"), lambda document: document.update(format=version)))


def test_a_small_file_cannot_ask_for_much_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = graph_file.to_bytes(on_grid("ternary"))
    monkeypatch.setattr(graph_file, "MAX_FILE", 8 * 219)
    with pytest.raises(KDError, match="MiB of packed weights"):
        graph_file.from_bytes(raw)


def test_a_file_of_format_5_is_read_for_ever() -> None:
    expected = json.loads((GOLDEN / "student-format-5.json").read_text())
    policy = load_policy(GOLDEN / "student-format-5.safetensors")
    observations = np.array(expected["observations"], np.float32)
    np.testing.assert_allclose(policy.params(observations), expected["params"], atol=2e-6)
    assert policy.predict(observations, deterministic=True)[0].tolist() == expected["actions"]
    assert policy.num_parameters == expected["parameters"]
