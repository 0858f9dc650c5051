"""A file of several tasks: the same guards as every student's file, and shared operations stored once."""

import hashlib
import json
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load, save
from task_graphs import SIZES, make_tasks

from kd_agent import KDError, load_policy
from kd_agent.policies import file as graph_file
from kd_agent.policies.multitask_graph import MAX_TASKS

GOLDEN = Path(__file__).parents[1] / "golden"
BLANK = "0" * 64


def test_a_round_trip_gives_the_same_bytes_and_order_says_nothing() -> None:
    raw = graph_file.to_bytes(make_tasks())
    again = graph_file.tasks_from_bytes(raw)
    assert graph_file.to_bytes(again) == raw
    assert graph_file.to_bytes(replace(again, tasks=dict(reversed(again.tasks.items())))) == raw
    assert again.provenance == {"tasks": list(SIZES)}


def test_a_file_of_format_2_is_read_for_ever() -> None:
    expected = json.loads((GOLDEN / "student-format-2.json").read_text())
    file = GOLDEN / "student-format-2.safetensors"
    graph = graph_file.read_tasks(file)
    assert sorted(graph.tasks) == sorted(expected["tasks"])
    assert graph.num_parameters == expected["parameters"]
    for task, known in expected["tasks"].items():
        policy = load_policy(file, task=task)
        observations = np.array(known["observations"], np.float32)
        np.testing.assert_allclose(policy.params(observations), known["params"], atol=2e-6)
        np.testing.assert_allclose(policy.predict(observations, deterministic=True)[0], known["actions"], atol=2e-6)
        assert policy.num_parameters == known["parameters"]
        assert policy.env_id == task


def test_format_1_is_written_as_ever() -> None:
    file = GOLDEN / "student-format-1.safetensors"
    assert graph_file.to_bytes(graph_file.read(file)) == file.read_bytes()


def refused(raw: bytes) -> str:
    """The one line that refuses these bytes, whatever is asked of them."""
    with pytest.raises(KDError) as caught:
        graph_file.tasks_from_bytes(raw, "hostile")
    with pytest.raises(KDError) as also:
        graph_file.from_bytes(raw, "hostile", "a/Cart-v1")
    message = str(caught.value)
    assert message == str(also.value)
    assert message.startswith("hostile: ")
    assert "\n" not in message
    return message


def forged(change: Callable[[dict[str, Any]], Any], tensors: dict[str, np.ndarray] | None = None) -> bytes:
    """A file whose document was changed by somebody who knows how to hash it again."""
    raw = graph_file.to_bytes(make_tasks())
    size = int.from_bytes(raw[:8], "little")
    document = json.loads(json.loads(raw[8 : 8 + size])["__metadata__"]["kd_agent"])
    document["sha256"] = BLANK
    change(document)
    raw = save({**load(raw), **(tensors or {})}, {"kd_agent": json.dumps(document)})
    return raw.replace(BLANK.encode(), hashlib.sha256(raw).hexdigest().encode(), 1)


def box(document: dict[str, Any]) -> dict[str, Any]:
    own: dict[str, Any] = document["tasks"]["Box-v0"]
    return own


CHANGES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "no tasks": lambda d: d.update(tasks={}),
    "tasks that are a list": lambda d: d.update(tasks=[1]),
    "a task that is text": lambda d: d["tasks"].update({"Box-v0": "task"}),
    "a task too many": lambda d: d["tasks"].update(other=dict(box(d))),
    "too many tasks": lambda d: d["tasks"].update(
        {str(i): {**box(d), "before": [], "after": []} for i in range(MAX_TASKS)}
    ),
    "a task without its head": lambda d: box(d).pop("head"),
    "a task of another head": lambda d: box(d).update(head=d["tasks"]["Bits-v0"]["head"]),
    "a task of other observations": lambda d: box(d)["observations"]["obs"].update(shape=[4]),
    "observations that fill the memory": lambda d: box(d)["observations"]["obs"].update(shape=[10**6, 10**6]),
    "a task without its entry": lambda d: box(d).update(before=[]),
    "a task that ends nowhere": lambda d: box(d).update(after=[]),
    "an entry of another name": lambda d: box(d)["before"][-1].update(output="elsewhere"),
    "a register of a task written by the shared part": lambda d: d["shared"][0].update(output="obs"),
    "a shared part that is text": lambda d: d.update(shared="ops"),
    "a shared part that is missing": lambda d: d.pop("shared"),
    "a shared part that is empty": lambda d: d.update(shared=[]),
    "a tensor of two operations": lambda d: d["shared"][2].update(tensors=dict(d["shared"][0]["tensors"])),
    "an operation that is unknown": lambda d: box(d)["after"][0].update(kind="exec"),
    "provenance that is a list": lambda d: box(d).update(provenance=[1]),
    "provenance of the whole that is missing": lambda d: d.pop("provenance"),
    "operations as in format 1": lambda d: d.update(format=1),
    "another format": lambda d: d.update(format=3),
}


@pytest.mark.parametrize("what", CHANGES)
def test_a_forged_description_is_refused(what: str) -> None:
    refused(forged(CHANGES[what]))


def test_forging_without_a_change_gives_a_readable_file() -> None:
    assert list(graph_file.tasks_from_bytes(forged(lambda d: None)).tasks) == sorted(SIZES)


def test_spare_tensors_strange_types_and_weights_that_are_no_numbers_are_refused() -> None:
    assert "no operation uses" in refused(forged(lambda d: None, {"spare": np.zeros(1, np.float32)}))
    assert "strange type" in refused(forged(lambda d: None, {"shared.0.weight": np.zeros((5, 5))}))
    bad = np.full((5, 5), np.nan, np.float32)
    assert "task 'Bits-v0': a weight of operation 'linear'" in refused(forged(lambda d: None, {"shared.0.weight": bad}))


def test_flipped_bytes_truncations_and_additions_are_noticed() -> None:
    raw, rng = graph_file.to_bytes(make_tasks()), random.Random(0)
    for _ in range(500):
        mutant = bytearray(raw)
        mutant[rng.randrange(len(raw))] ^= rng.randrange(1, 256)
        refused(bytes(mutant))
    for length in [*range(0, len(raw), 97), len(raw) - 1]:
        refused(raw[:length])
    refused(raw + b"\0")


def test_a_tasks_provenance_full_of_zeros_is_not_taken_for_the_digests_place() -> None:
    graph = make_tasks()
    first = min(graph.tasks)
    provenance = {"env": first, "sha256": BLANK}
    tasks = {**graph.tasks, first: replace(graph.tasks[first], provenance=provenance)}
    again = graph_file.tasks_from_bytes(graph_file.to_bytes(replace(graph, tasks=tasks)))
    assert again.tasks[first].provenance == provenance


def test_a_task_that_plays_with_masks_makes_the_file_one_of_format_3() -> None:
    graph = make_tasks()
    own = graph.tasks["a/Cart-v1"]
    masked = replace(own, head=replace(own.head, expects_masks=True))
    raw = graph_file.to_bytes(replace(graph, tasks={**graph.tasks, "a/Cart-v1": masked}))
    again = graph_file.tasks_from_bytes(raw)
    assert graph_file.to_bytes(again) == raw
    assert [again.tasks[name].head.expects_masks for name in sorted(SIZES)] == [False, False, True]
    assert graph_file.from_bytes(raw, task="a/Cart-v1").head.expects_masks
