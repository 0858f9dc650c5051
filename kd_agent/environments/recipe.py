"""Which environment is meant: a registered id, its arguments, and what is put around it."""

import importlib
import os
import re
import sys
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Protocol

import gymnasium as gym

from kd_agent.errors import KDError, unknown
from kd_agent.policies import PolicyGraph
from kd_agent.settings import check_arguments
from kd_agent.settings.typed import OURS

_VERSION = re.compile(r"-v(\d+)$")

TIME_FEATURE = "sb3_contrib.common.wrappers.TimeFeatureWrapper"
ZERO_FORCES = "kd_envs.wrappers.ZeroContactForces"
ATARI = "stable_baselines3.common.atari_wrappers.AtariWrapper"


class HasLimits(Protocol):
    """Settings that limit episodes and steps."""

    @property
    def max_episode_steps(self) -> int | None:
        """Steps after which an episode is cut."""

    @property
    def step_timeout(self) -> float | None:
        """Seconds that a step may take."""


@dataclass(frozen=True)
class Recipe:
    """An environment and what is put around it.

    Attributes:
        env_id: A registered id.
        env_kwargs: Its keyword arguments.
        wrappers: Names, as in RL Zoo's settings, and keyword arguments of its wrappers, the innermost first.
        frame_stack: How many observations are shown side by side.
        max_episode_steps: Steps after which an episode is cut; None: the environment's own limit.
        step_timeout: Seconds that a step may take; None: as long as it likes. No part of the environment's identity.
        module: The module that registers the id, where it was typed as `module:Id`; else "".
        teacher_wrappers: As `wrappers`, around those: what only the teacher sees through.
        allowed: Names of wrappers whose code may run, because they were typed. No file says so.
    """

    env_id: str
    env_kwargs: Mapping[str, Any] = field(default_factory=dict)
    wrappers: tuple[tuple[str, Mapping[str, Any]], ...] = ()
    frame_stack: int = 1
    max_episode_steps: int | None = None
    step_timeout: float | None = field(default=None, compare=False)
    module: str = ""
    teacher_wrappers: tuple[tuple[str, Mapping[str, Any]], ...] = ()
    allowed: frozenset[str] = field(default=frozenset(), compare=False)

    def to_json(self) -> dict[str, Any]:
        """Plain data, as a student's file keeps it: nothing of what its teacher saw, or of what was allowed."""
        plain = asdict(self)
        del plain["teacher_wrappers"], plain["allowed"], plain["step_timeout"]
        # Only where there is one, so that files of all other environments are the same bytes as ever.
        for name in ("module", "max_episode_steps"):
            if not plain[name]:
                del plain[name]
        return plain

    def limited(self, config: "HasLimits") -> "Recipe":
        """The recipe with the limits that settings ask for."""
        return replace(
            self,
            max_episode_steps=config.max_episode_steps or self.max_episode_steps,
            step_timeout=config.step_timeout,
        )

    @staticmethod
    def from_json(plain: Mapping[str, Any]) -> "Recipe":
        """Inverse of `to_json`; raises KDError on anything else."""
        try:
            wrappers = tuple((str(name), dict(kwargs)) for name, kwargs in plain["wrappers"])
            limit = plain.get("max_episode_steps")  # files of the first edition do not say
            return Recipe(
                env_id=str(plain["env_id"]),
                env_kwargs=dict(plain["env_kwargs"]),
                wrappers=wrappers,
                frame_stack=int(plain["frame_stack"]),
                max_episode_steps=None if limit is None else int(limit),
                module=str(plain.get("module", "")),
            )
        except (KeyError, TypeError, ValueError, OverflowError, AttributeError) as error:
            raise KDError(f"the environment's description is damaged: {error!r}") from None


def resolve_id(env_id: str) -> str:
    """The registered id that serves a typed `env_id`, whose module is imported where it names one.

    A version that is gone maps to the newest one, with a warning.

    Raises:
        KDError: Nothing like it is registered; the message names the nearest.
    """
    # Gymnasium's own spelling for environments of other packages: "module:id", importing the module registers them.
    module = env_id.rpartition(":")[0]
    if module:
        _import(module, env_id)
    found = _known(env_id)
    if not found:
        raise unknown("environment", env_id, gym.registry)
    return found


def recorded_id(env_id: str, module: str, where: str) -> str:
    """The registered id that serves one that stands in a file, as `resolve_id`; no module is imported for it.

    Args:
        env_id: The id, `module:Id` too.
        module: The module that the file names beside it, or "".
        where: The file, for the message.

    Raises:
        KDError: Nothing like it is registered.
    """
    found = _known(env_id)
    if found:
        return found
    beside, _, name = env_id.rpartition(":")
    module = beside or module
    if not module:
        raise KDError(f"{where}: {unknown('environment', name, gym.registry)}")
    raise KDError(
        f"{where}: environment {name!r} is not registered, and the module {module!r} that a file names is imported "
        f"only where it is typed: --env {module}:{name}"
    )


def _import(module: str, env_id: str) -> None:
    """Import the module of a typed id; one in the working folder is found however Python was started."""
    folder = os.getcwd()
    # Last, so that no file of the folder takes the place of a library.
    if module not in OURS and folder not in sys.path:
        sys.path.append(folder)
    try:
        importlib.import_module(module)
    except (Exception, SystemExit) as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise KDError(f"environment {env_id!r}: module {module!r} cannot be imported ({reason})") from None


def _known(env_id: str) -> str | None:
    """The playable id for an id whose module has been imported, if it is to be."""
    importlib.import_module("kd_envs")
    name = env_id.rpartition(":")[2]
    # Only now: importing Atari takes its time, and most environments do without it.
    if name not in gym.registry and re.search(r"^ALE/|NoFrameskip|Deterministic-v", name):
        _register_atari(name)
    if _playable(name):
        return name
    newest = versions(name)
    if not newest:
        return None
    warnings.warn(f"{name} is not to be had any more; playing on {newest[0]}", stacklevel=3)
    return newest[0]


def versions(env_id: str) -> list[str]:
    """The playable ids that differ from `env_id` in their version alone, the newest first."""
    base = _VERSION.sub("", env_id)
    found: dict[int, str] = {}
    for other in gym.registry:
        version = _VERSION.search(other)
        if version and other[: version.start()] == base and _playable(other):
            found[int(version.group(1))] = other
    return [found[number] for number in sorted(found, reverse=True)]


def _playable(env_id: str) -> bool:
    """Whether an id is registered, and not as a mere notice that it is gone (MuJoCo's old versions)."""
    spec = gym.registry.get(env_id)
    # Gymnasium keeps ids that are gone, with functions named `_raise_...` that tell where they went.
    return spec is not None and not getattr(spec.entry_point, "__name__", "").startswith("_raise")


def _register_atari(env_id: str) -> None:
    try:
        gym.register_envs(importlib.import_module("ale_py"))
    except ImportError:
        raise KDError(f"environment {env_id!r} needs Atari: pip install ale-py opencv-python-headless") from None


def recipe_of(env: str | Recipe, env_kwargs: Mapping[str, Any] | None = None) -> Recipe:
    """The recipe of an id: the environment alone, or Atari as everybody plays it.

    That is 84 x 84 grey pixels, four frames side by side, each action four times, a lost life like an end
    (Mnih et al. 2015); the returns that `GuardedEnv` reports are of whole games, unclipped.

    Args:
        env: An id (see `resolve_id`), or a recipe.
        env_kwargs: Keyword arguments of the environment; they win over those of a recipe.
    """
    asked = dict(env_kwargs or {})
    if isinstance(env, Recipe):
        return replace(env, env_kwargs={**env.env_kwargs, **asked})
    return _plain_recipe(resolve_id(env), env.rpartition(":")[0], asked)


def _plain_recipe(env_id: str, module: str, asked: dict[str, Any]) -> Recipe:
    if not str(gym.registry[env_id].entry_point).startswith("ale_py"):
        return Recipe(env_id, asked, module=module)
    if "NoFrameskip" not in env_id:
        # The wrapper repeats each action four times; an environment that skips frames by itself would make it 16.
        asked = {"frameskip": 1, **asked}
    return Recipe(env_id, asked, ((ATARI, {}),), frame_stack=4, module=module)


def _names(recipe: Recipe, other: Recipe) -> bool:
    """Whether two recipes are of one id of one module."""
    return (recipe.module, recipe.env_id) == (other.module, other.env_id)


def recipe_of_student(
    graph: PolicyGraph, where: str, env: str | None = None, env_kwargs: Mapping[str, Any] | None = None
) -> Recipe:
    """The environment to play a student in: the one that is typed, or else the one that its file keeps.

    Args:
        graph: The student.
        where: Its file, for messages.
        env: A typed id, `module:Id` too.
        env_kwargs: Typed arguments; they win over those that the file keeps.

    Raises:
        KDError: The file keeps no environment, or one that is not registered, or that names code in its arguments.
    """
    typed = dict(env_kwargs or {})
    plain = graph.provenance.get("recipe")
    if env:
        asked = recipe_of(env, typed)
        # Who types the module of the student's own environment allows it to be imported, and means that environment.
        if not (plain and asked.module and _names(Recipe.from_json(plain), asked)):
            return asked
    if not plain:
        # Files of a library that others wrote, or of a compression, merely name it.
        named = str(graph.provenance.get("env") or "")
        if not named:
            raise KDError(f"{where}: does not say what its environment is; name it (--env)")
        return _plain_recipe(recorded_id(named, "", where), named.rpartition(":")[0], typed)
    recipe = Recipe.from_json(plain)
    kept = {name: value for name, value in recipe.env_kwargs.items() if name not in typed}
    env_id = recorded_id(recipe.env_id, recipe.module, where)
    check_arguments(kept, env_id, where)
    return replace(recipe, env_id=env_id, env_kwargs={**kept, **typed})
