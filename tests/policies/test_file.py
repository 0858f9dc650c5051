"""A student's file: exact, deterministic, and refused in one KDError whenever anything is wrong with it."""

import json
import random
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from forged_files import forge, header_of, with_header
from masked_agents import masked_graph
from samples import HEADS, make_graph

from kd_agent import load_policy
from kd_agent.errors import KDError
from kd_agent.policies import file as graph_file
from kd_agent.policies.graph import ObservationSpec, Op, PolicyGraph

GOLDEN = Path(__file__).parents[1] / "golden"


def refused(raw: bytes) -> str:
    """The one line that refuses these bytes."""
    with pytest.raises(KDError) as caught:
        graph_file.from_bytes(raw, "hostile")
    message = str(caught.value)
    assert message.startswith("hostile: ")
    assert "\n" not in message
    return message


def forged(change: Callable[[dict[str, Any]], Any], tensors: dict[str, np.ndarray] | None = None) -> bytes:
    """As `forge`, of a policy like any other."""
    return forge(make_graph(), change, tensors)


def test_forging_without_a_change_gives_a_readable_file() -> None:
    assert graph_file.from_bytes(forged(lambda document: None)).head == HEADS["categorical"].spec


@pytest.mark.parametrize("kind", HEADS)
def test_a_round_trip_loses_nothing(kind: str, tmp_path: Path) -> None:
    graph = make_graph(kind, {"env": "CartPole-v1", "note": "größer"})
    again = graph_file.read(graph_file.write(graph, tmp_path / "s.safetensors"))
    assert (again.head, again.observations, again.provenance) == (graph.head, graph.observations, graph.provenance)
    assert [(o.kind, o.inputs, o.output, dict(o.attributes)) for o in again.ops] == [
        (o.kind, o.inputs, o.output, dict(o.attributes)) for o in graph.ops
    ]
    for one, other in zip(graph.ops, again.ops, strict=True):
        assert {k: v.tobytes() for k, v in one.tensors.items()} == {k: v.tobytes() for k, v in other.tensors.items()}


def test_a_provenance_full_of_zeros_is_not_taken_for_the_digests_place() -> None:
    provenance = {"teacher_sha256": "0" * 64, "more": {"sha256": "0" * 64}}
    assert graph_file.from_bytes(graph_file.to_bytes(make_graph(provenance=provenance))).provenance == provenance


def test_the_same_graph_gives_the_same_bytes() -> None:
    assert graph_file.to_bytes(make_graph()) == graph_file.to_bytes(make_graph())
    assert graph_file.to_bytes(make_graph()) != graph_file.to_bytes(make_graph(seed=1))


def test_a_file_of_format_1_is_read_for_ever() -> None:
    expected = json.loads((GOLDEN / "student-format-1.json").read_text())
    policy = load_policy(GOLDEN / "student-format-1.safetensors")
    observations = np.array(expected["observations"], np.float32)
    np.testing.assert_allclose(policy.params(observations), expected["params"], atol=2e-6)
    assert policy.predict(observations, deterministic=True)[0].tolist() == expected["actions"]
    assert policy.num_parameters == expected["parameters"]
    assert policy.env_id == "CartPole-v1"


def test_every_flipped_byte_is_noticed() -> None:
    raw, rng = graph_file.to_bytes(make_graph()), random.Random(0)
    for _ in range(3000):
        position, value = rng.randrange(len(raw)), rng.randrange(1, 256)
        mutant = bytearray(raw)
        mutant[position] ^= value
        refused(bytes(mutant))


def test_every_truncation_and_every_addition_is_noticed() -> None:
    raw = graph_file.to_bytes(make_graph())
    for length in [*range(0, len(raw), 17), len(raw) - 1]:
        refused(raw[:length])
    refused(raw + b"\0")
    refused(raw + raw)


def test_random_bytes_are_refused() -> None:
    rng = random.Random(1)
    for _ in range(300):
        refused(rng.randbytes(rng.randrange(200)))


@pytest.mark.parametrize("size", [2**63, 2**64 - 1, 2**31, graph_file.MAX_HEADER + 1])
def test_a_header_that_claims_to_be_huge_is_refused(size: int) -> None:
    body = graph_file.to_bytes(make_graph())[8:]
    assert "cut short" in refused(struct.pack("<Q", size) + body + b"\0" * (graph_file.MAX_HEADER + 2))


@pytest.mark.parametrize("text", ["[" * 100_000, "[]", "3", "nonsense", "{}", '{"__metadata__": {"kd_agent": 3}}'])
def test_a_header_that_is_no_description_is_refused(text: str) -> None:
    refused(with_header(text, b""))


def test_duplicate_keys_are_refused() -> None:
    header, body = header_of(graph_file.to_bytes(make_graph()))
    name = next(key for key in header if key != "__metadata__")
    text = json.dumps(header)
    doubled = text[:-1] + f', "{name}": {json.dumps(header[name])}}}'
    assert "twice" in refused(with_header(doubled, body))


def test_too_many_tensors_are_refused() -> None:
    more = {f"extra.{i}": np.zeros(1, np.float32) for i in range(graph_file.MAX_TENSORS + 1)}
    assert "tensors" in refused(forged(lambda d: None, more))


def test_tensors_that_nothing_uses_or_of_a_strange_type_are_refused() -> None:
    assert "no operation uses" in refused(forged(lambda d: None, {"spare": np.zeros(1, np.float32)}))
    weight = np.zeros((5, 4), np.float64)
    assert "strange type" in refused(forged(lambda d: None, {"1.weight": weight}))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_weights_that_are_no_numbers_are_refused(bad: float) -> None:
    weight = np.zeros((5, 4), np.float32)
    weight[1, 2] = bad
    assert "NaN or infinite" in refused(forged(lambda d: None, {"1.weight": weight}))


@pytest.mark.parametrize("shape", [(5, 3), (4, 5), (6, 4), (20,), (0, 4), (5, 4, 1)])
def test_weights_of_a_wrong_shape_are_refused(shape: tuple[int, ...]) -> None:
    refused(forged(lambda d: None, {"1.weight": np.ones(shape, np.float32)}))


@pytest.mark.parametrize("version", [6, 0, "1", None])
def test_another_format_is_refused_with_a_hint(version: Any) -> None:
    assert "update kd_agent" in refused(forged(lambda d: d.update(format=version)))


CHANGES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "an unknown operation": lambda d: d["ops"][1].update(kind="exec"),
    "an unknown activation": lambda d: d["ops"][2].update(attributes={"function": "eval"}),
    "an activation that is a list": lambda d: d["ops"][2].update(attributes={"function": ["tanh"]}),
    "an unknown register": lambda d: d["ops"][1].update(inputs=["nowhere"]),
    "no inputs": lambda d: d["ops"][1].update(inputs=[]),
    "too many inputs": lambda d: d["ops"][1].update(inputs=["obs", "obs"]),
    "a register written twice": lambda d: d["ops"][1].update(output="obs"),
    "no params": lambda d: d["ops"][-1].update(output="elsewhere"),
    "no operations": lambda d: d.update(ops=[]),
    "operations that are text": lambda d: d.update(ops="ops"),
    "a missing tensor": lambda d: d["ops"][1]["tensors"].update(weight="9.weight"),
    "a clip that is text": lambda d: d["ops"][0].update(attributes={"clip": "far"}),
    "a clip that is NaN": lambda d: d["ops"][0].update(attributes={"clip": float("nan")}),
    "no clip": lambda d: d["ops"][0].update(attributes={}),
    "observations of another shape": lambda d: d["observations"]["obs"].update(shape=[5]),
    "observations that fill the memory": lambda d: d["observations"]["obs"].update(shape=[10**6, 10**6, 4]),
    "observations of negative size": lambda d: d["observations"]["obs"].update(shape=[-4]),
    "observations beyond 64 bits": lambda d: d["observations"]["obs"].update(shape=[2**70]),
    "observations of infinite size": lambda d: d["observations"]["obs"].update(shape=[float("inf")]),
    "observations of objects": lambda d: d["observations"]["obs"].update(dtype="object"),
    "observations of text": lambda d: d["observations"]["obs"].update(dtype="U8"),
    "observations of an unknown type": lambda d: d["observations"]["obs"].update(dtype="nonsense"),
    "no observations": lambda d: d.update(observations={}),
    "another head": lambda d: d["head"].update(kind="diag_gaussian"),
    "an unknown head": lambda d: d["head"].update(kind="oracle"),
    "a head of another size": lambda d: d["head"].update(nvec=[7]),
    "a head of negative size": lambda d: d["head"].update(nvec=[-4]),
    "a head beyond 64 bits": lambda d: d["head"].update(shape=[2**70]),
    "a head of infinite size": lambda d: d["head"].update(nvec=[float("inf")]),
    "a head that is text": lambda d: d.update(head="head"),
    "a head of objects": lambda d: d["head"].update(dtype="object"),
    "a digest that is no text": lambda d: d.update(sha256=None),
    "a digest of half a character": lambda d: d.update(sha256="\ud800" * 64),
    "provenance that is a list": lambda d: d.update(provenance=[1]),
    "nothing": lambda d: d.clear(),
}


@pytest.mark.parametrize("what", CHANGES)
def test_a_forged_description_is_refused(what: str) -> None:
    refused(forged(CHANGES[what]))


def test_a_missing_file_a_folder_and_a_huge_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(KDError, match="no such file"):
        graph_file.read(tmp_path / "absent.safetensors")
    with pytest.raises(KDError, match="no such file"):
        graph_file.read(tmp_path)
    huge = tmp_path / "huge.safetensors"
    with huge.open("wb") as file:
        file.truncate(graph_file.MAX_FILE + 1)
    with pytest.raises(KDError, match="larger than the 64 MiB"):
        graph_file.read(huge)


def test_a_graph_with_nan_in_its_provenance_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        graph_file.write(make_graph(provenance={"x": float("nan")}), tmp_path / "s.safetensors")
    assert list(tmp_path.iterdir()) == []


def test_categories_states_and_whole_tensors_are_kept() -> None:
    spec = ObservationSpec((), "int64", (4,))
    tensors = {"weight": np.ones((4, 4), np.float32), "bias": np.zeros(4, np.float32)}
    ops = (
        Op("one_hot", ("word",), "hot", {"sizes": [4]}),
        Op("concatenate", ("hot", "memory"), "both"),
        Op("slice", ("both",), "memory.next", {"start": 0, "stop": 2}),
        Op("slice", ("both",), "some", {"start": 2, "stop": 6}),
        Op("linear", ("some",), "params", {}, tensors),
    )
    graph = PolicyGraph({"word": spec}, ops, HEADS["categorical"].spec, {}, {"memory": (2,)})
    again = graph_file.from_bytes(graph_file.to_bytes(graph))
    assert again.observations == {"word": spec}
    assert again.states == {"memory": (2,)}
    assert again.num_parameters == graph.num_parameters == 16


def test_a_file_without_memory_or_categories_does_not_mention_them() -> None:
    document = json.loads(header_of(graph_file.to_bytes(make_graph()))[0]["__metadata__"]["kd_agent"])
    assert "states" not in document
    assert "categories" not in document["observations"]["obs"]


def test_a_task_of_a_file_of_one_policy_is_its_environments_or_none() -> None:
    raw = graph_file.to_bytes(make_graph(provenance={"env": "CartPole-v1"}))
    assert graph_file.from_bytes(raw, task="CartPole-v1").provenance == {"env": "CartPole-v1"}
    with pytest.raises(KDError, match="mine: holds one policy, of CartPole-v1, and no task 'Pendulum-v1'"):
        graph_file.from_bytes(raw, "mine", "Pendulum-v1")


def test_a_policy_that_plays_with_masks_has_a_format_of_its_own() -> None:
    graph = masked_graph()
    raw = graph_file.to_bytes(graph)
    header, _ = header_of(raw)
    assert json.loads(header["__metadata__"]["kd_agent"])["format"] == graph_file.MASKS_FORMAT
    assert graph_file.from_bytes(raw).head == graph.head
    assert graph_file.to_bytes(graph_file.from_bytes(raw)) == raw


@pytest.mark.parametrize(
    "change",
    [{"format": 3}, {"format": 4}, {"format": 5}, {"head": {**make_graph().head.to_json(), "expects_masks": True}}],
)
def test_a_format_that_contradicts_its_policy_about_masks_is_refused(change: dict[str, Any]) -> None:
    assert "differ about action masks" in refused(forged(lambda d: d.update(change)))


def test_a_file_of_format_3_is_read_for_ever() -> None:
    expected = json.loads((GOLDEN / "student-format-3.json").read_text())
    policy = load_policy(GOLDEN / "student-format-3.safetensors")
    assert policy.expects_masks
    observations = np.array(expected["observations"], np.float32)
    np.testing.assert_allclose(policy.params(observations, expected["masks"]), expected["params"], atol=2e-6)
    actions, _ = policy.predict(observations, deterministic=True, action_masks=expected["masks"])
    assert actions.tolist() == expected["actions"]
    assert policy.num_parameters == expected["parameters"]
