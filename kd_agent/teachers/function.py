"""A Python callable or a torch module as a teacher.

It is called with observations `[B, *O]` (a mapping of such for Dict spaces) and answers with head
parameters `[B, P]`, or with actions `[B, *A]`, which then get the density stated in `_density`.
"""

from collections.abc import Callable
from typing import Any

from kd_agent import plugins
from kd_agent.errors import KDError
from kd_agent.networks import Teacher
from kd_agent.teachers._function import FunctionTeacher
from kd_agent.teachers._request import Request


def accepts(source: Any) -> bool:
    """Whether this plug-in reads `source`."""
    # Agents of Stable-Baselines3 may be called, too, and are better read than asked.
    return callable(source) and not plugins.load("teachers", "sb3_model").accepts(source)


def load(source: Callable[[Any], Any], request: Request) -> Teacher:
    """A teacher that calls `source`; its spaces are the environment's.

    Args:
        source: The function or module.
        request: How it is asked for; of its settings, only the spaces concern a function.

    Raises:
        KDError: No spaces are named.
    """
    # Modules and other callable objects have no name of their own: that of their class stands for it.
    name = getattr(source, "__qualname__", type(source).__qualname__)
    if request.env is None:
        raise KDError(f"{name}: a function does not say what it observes; give the environment's spaces (env=...)")
    return FunctionTeacher(source, name, request.env)
