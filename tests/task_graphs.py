"""Students of several tasks that share the middle of their networks, and their graph."""

from samples import HEADS, make_student

from kd_agent.networks.base import Student
from kd_agent.policies.graph import ObservationSpec
from kd_agent.policies.multitask_graph import TaskGraph
from kd_agent.students import tie, to_graph

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
