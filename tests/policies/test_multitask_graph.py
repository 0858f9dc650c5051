"""A file of several tasks: shared operations once, one policy a task, and the same guards as every student's file."""

import hashlib
import json
import random
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load, save
from samples import HEADS, make_graph, make_student

from kd_agent import KDError, export, load_policy
from kd_agent.networks.base import Student
from kd_agent.policies import file as graph_file
from kd_agent.policies.graph import ObservationSpec
from kd_agent.policies.multitask_graph import MAX_TASKS, TaskGraph
from kd_agent.students import tie, to_graph

GOLDEN = Path(__file__).parents[1] / "golden"
BLANK = "0" * 64
SIZES = {"Box-v0": ("diag_gaussian", 3), "Bits-v0": ("bernoulli", 6), "a/Cart-v1": ("categorical", 4)}


def tied(hidden: tuple[int, ...] = (5, 5, 4)) -> dict[str, Student]:
    """Students of three tasks, of other observations and heads each."""
    students = {
        task: make_student(HEADS[kind], observations={"obs": ObservationSpec((n,), "float32")}, hidden=hidden, seed=n)
        for task, (kind, n) in SIZES.items()
    }
    tie(list(students.values()))
    return students


def make_tasks(students: dict[str, Student] | None = None) -> TaskGraph:
    students = students or tied()
    return to_graph(students, {task: {"env": task} for task in students}, {"tasks": list(students)})


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return graph_file.write(make_tasks(), tmp_path_factory.mktemp("tasks") / "s.safetensors")


def states(size: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(9, size)).astype(np.float32)


@pytest.mark.parametrize("task", SIZES)
def test_each_task_acts_as_its_own_student_does(task: str, path: Path) -> None:
    student, policy = tied()[task], load_policy(path, task=task)
    seen = states(SIZES[task][1])
    np.testing.assert_array_equal(policy.params(seen), student.policy().params(seen))
    np.testing.assert_array_equal(policy.act(seen[0]), student.policy().act(seen[0]))
    assert policy.env_id == task
    assert policy.num_parameters == student.graph().num_parameters


def test_shared_operations_are_stored_once_and_counted_once(path: Path) -> None:
    graph = graph_file.read_tasks(path)
    shared = 5 * 5 + 5 + 5 * 4 + 4
    each = [graph.task(task).num_parameters for task in graph.tasks]
    assert graph.num_parameters == sum(each) - 2 * shared
    names = sorted(name for name in load(path.read_bytes()) if name.startswith("shared."))
    assert names == ["shared.0.bias", "shared.0.weight", "shared.2.bias", "shared.2.weight"]
    for task in graph.tasks:
        assert graph.task(task).ops[3 : 3 + len(graph.shared)] == graph.shared
        assert len(graph.task(task).ops) == len(tied()[task].ops())


def test_a_round_trip_gives_the_same_bytes_and_order_says_nothing(path: Path) -> None:
    raw = path.read_bytes()
    again = graph_file.tasks_from_bytes(raw)
    assert graph_file.to_bytes(again) == raw
    assert graph_file.to_bytes(replace(again, tasks=dict(reversed(again.tasks.items())))) == raw
    assert again.provenance == {"tasks": list(SIZES)}


def test_a_task_must_be_named_and_an_unknown_one_is_answered_with_the_nearest(path: Path, tmp_path: Path) -> None:
    with pytest.raises(KDError, match=r"s\.safetensors: holds the tasks Bits-v0, Box-v0, a/Cart-v1; say which"):
        load_policy(path)
    with pytest.raises(KDError, match=r"unknown task 'Boxx-v0'; did you mean 'Box-v0'\?"):
        load_policy(path, task="Boxx-v0")
    one = graph_file.write(make_graph(), tmp_path / "one.safetensors")
    assert load_policy(one, task="CartPole-v1").env_id == "CartPole-v1"
    with pytest.raises(KDError, match=r"holds one policy, of CartPole-v1, and no task 'Acrobot-v1'"):
        load_policy(one, task="Acrobot-v1")
    with pytest.raises(KDError, match="not several tasks"):
        graph_file.read_tasks(one)
    with pytest.raises(KDError, match="holds the tasks"):
        export(path, tmp_path / "s.c")


def test_a_task_plays_and_is_exported_without_torch(path: Path, tmp_path: Path) -> None:
    code = f"""
import sys, kd_agent
policy = kd_agent.load_policy({str(path)!r}, task="a/Cart-v1")
print(policy.act([0.1, 0.2, 0.3, 0.4]))
assert not {{"torch", "stable_baselines3", "gymnasium"}} & set(sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    policy = load_policy(path, task="a/Cart-v1")
    assert int(done.stdout) == policy.act([0.1, 0.2, 0.3, 0.4])
    export(policy, tmp_path / "cart.mjs")
    assert (tmp_path / "cart.mjs").stat().st_size > 0


def test_a_file_of_format_2_is_read_for_ever() -> None:
    expected = json.loads((GOLDEN / "student-format-2.json").read_text())
    file = GOLDEN / "student-format-2.safetensors"
    graph = graph_file.read_tasks(file)
    assert sorted(graph.tasks) == sorted(expected["tasks"])
    assert graph.num_parameters == expected["parameters"]
    for task, known in expected["tasks"].items():
        policy = load_policy(file, task=task)
        seen = np.array(known["observations"], np.float32)
        np.testing.assert_allclose(policy.params(seen), known["params"], atol=2e-6)
        np.testing.assert_allclose(policy.predict(seen, deterministic=True)[0], known["actions"], atol=2e-6)
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
