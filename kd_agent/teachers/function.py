"""A Python callable or a torch module as a teacher.

It is called with observations `[B, *O]` (a mapping of such for Dict spaces) and answers with head
parameters `[B, P]`, or with actions `[B, *A]`, which then get the density stated in `_density`.
"""

from collections.abc import Callable
from typing import Any

import gymnasium as gym

from kd_agent.errors import KDError
from kd_agent.policy import Teacher
from kd_agent.teachers._function import FunctionTeacher


def accepts(source: Any) -> bool:
    """Whether this plug-in reads `source`."""
    return callable(source)


def load(
    source: Callable[[Any], Any],
    *,
    env: tuple[gym.Space[Any], gym.Space[Any]] | None = None,
    statistics: str | None = None,
    allow_missing_statistics: bool = False,
    trust_teacher: bool = False,
) -> Teacher:
    """A teacher that calls `source`; its spaces are the environment's. The other arguments change nothing."""
    name = getattr(source, "__qualname__", type(source).__qualname__)
    if env is None:
        raise KDError(f"{name}: a function does not say what it sees; give the environment's spaces (env=...)")
    return FunctionTeacher(source, name, env)
