"""Several tasks in one graph: each acts as its own student, what they share is there once."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load
from samples import make_graph
from task_graphs import SIZES, make_tasks, tied

from kd_agent import KDError, export, load_policy
from kd_agent.policies import file as graph_file
from kd_agent.policies.graph import PARAMS, Op
from kd_agent.policies.multitask_graph import MAX_TASKS, TaskGraph


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return graph_file.write(make_tasks(), tmp_path_factory.mktemp("tasks") / "s.safetensors")


def states(size: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(9, size)).astype(np.float32)


@pytest.mark.parametrize("task", SIZES)
def test_each_task_acts_as_its_own_student_does(task: str, path: Path) -> None:
    student, policy = tied()[task], load_policy(path, task=task)
    observations = states(SIZES[task][1])
    np.testing.assert_array_equal(policy.params(observations), student.policy().params(observations))
    np.testing.assert_array_equal(policy.act(observations[0]), student.policy().act(observations[0]))
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


def test_a_task_is_its_entry_then_what_is_shared_then_its_exit() -> None:
    graph = make_tasks()
    for name, own in graph.tasks.items():
        policy = graph.task(name)
        assert policy.ops == (*own.before, *graph.shared, *own.after)
        assert (policy.observations, policy.head) == (own.observations, own.head)
        assert policy.provenance == {"env": name}


def test_a_task_that_does_not_fit_is_named() -> None:
    graph = make_tasks()
    broken = replace(graph.tasks["Box-v0"], after=())
    with pytest.raises(KDError, match=r"task 'Box-v0': the policy's operations do not fit together"):
        replace(graph, tasks={**graph.tasks, "Box-v0": broken})
    renamed = replace(graph.tasks["Box-v0"], before=(Op("flatten", ("nowhere",), PARAMS),))
    with pytest.raises(KDError, match=r"task 'Box-v0': operation 'flatten' has wrong registers"):
        replace(graph, tasks={"Box-v0": renamed})


@pytest.mark.parametrize("count", [0, MAX_TASKS + 1])
def test_none_and_too_many_tasks_are_refused(count: int) -> None:
    graph = make_tasks()
    own = graph.tasks["Box-v0"]
    with pytest.raises(KDError, match=rf"{count} tasks in one policy; 1 to {MAX_TASKS} are possible"):
        TaskGraph(graph.shared, {str(number): own for number in range(count)})


def test_operations_are_shared_where_they_are_the_same_object_only() -> None:
    graph = make_tasks()
    box = graph.tasks["Box-v0"]
    twice = TaskGraph(graph.shared, {"one": box, "other": box})
    assert twice.num_parameters == twice.task("one").num_parameters
    copies = tuple(replace(op) for op in box.after)
    apart = TaskGraph(graph.shared, {"one": box, "other": replace(box, after=copies)})
    assert apart.num_parameters > twice.num_parameters
