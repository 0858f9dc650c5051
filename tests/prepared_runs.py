"""Runs that are begun under a teacher without a file, and go no further by themselves."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from recorder import TEACHER
from samples import TINY

from kd_agent.distillation.problem import Problem
from kd_agent.networks import Teacher
from kd_agent.runs import Run
from kd_agent.settings import DistillConfig, resolve


def problem(out: Path, teacher: Teacher = TEACHER, **more: Any) -> Problem:
    """A small problem of the Discrete probe."""
    config = {**TINY, "env": "kd_envs/ProbeDiscrete-v0", "out": str(out), **more}
    return Problem.of(resolve(DistillConfig, config), teacher)


@contextmanager
def begun(out: Path, teacher: Teacher = TEACHER, **more: Any) -> Iterator[Run]:
    """A run of such a problem."""
    with problem(out, teacher, **more).begin() as run:
        yield run
