"""kd_agent: distil a reinforcement-learning policy into a tiny, fast one that is provably as good.

Importing this package is cheap: every name below is loaded on first use, and `load_policy`
needs NumPy and safetensors only.
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

from kd_agent.errors import KDError

if TYPE_CHECKING:
    from kd_agent.deployment.export import export
    from kd_agent.distillation.distill import distill
    from kd_agent.distillation.tasks import distill_tasks
    from kd_agent.evaluation.non_inferiority import compare
    from kd_agent.loading import load_policy
    from kd_agent.policies import Policy
    from kd_agent.rollouts.evaluate import evaluate
    from kd_agent.teachers import load_teacher

__version__ = "0.1.0"

_HOMES = {
    "load_policy": "kd_agent.loading",
    "Policy": "kd_agent.policies.policy",
    "load_teacher": "kd_agent.teachers",
    "distill": "kd_agent.distillation.distill",
    "distill_tasks": "kd_agent.distillation.tasks",
    "evaluate": "kd_agent.rollouts.evaluate",
    "compare": "kd_agent.evaluation.non_inferiority",
    "export": "kd_agent.deployment.export",
}

__all__ = [
    "KDError",
    "Policy",
    "compare",
    "distill",
    "distill_tasks",
    "evaluate",
    "export",
    "load_policy",
    "load_teacher",
]


class _Package(ModuleType):
    """Keeps `kd_agent.distill` the function, although a module of that name is imported too."""

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in _HOMES and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'kd_agent' has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value
