"""Which environment is meant: a registered id, its arguments, and what is put around it."""

import importlib
import re
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import gymnasium as gym

from kd_agent.errors import KDError, unknown
from kd_agent.policies import PolicyGraph

_VERSION = re.compile(r"-v(\d+)$")

TIME_FEATURE = "sb3_contrib.common.wrappers.TimeFeatureWrapper"
ZERO_FORCES = "kd_envs.wrappers.ZeroContactForces"
ATARI = "stable_baselines3.common.atari_wrappers.AtariWrapper"


@dataclass(frozen=True)
class Recipe:
    """An environment and what is put around it.

    Attributes:
        env_id: A registered id.
        env_kwargs: Its keyword arguments.
        wrappers: Names, as in RL Zoo's settings, and keyword arguments of its wrappers, the innermost first.
        frame_stack: How many observations are shown side by side.
    """

    env_id: str
    env_kwargs: Mapping[str, Any] = field(default_factory=dict)
    wrappers: tuple[tuple[str, Mapping[str, Any]], ...] = ()
    frame_stack: int = 1

    def to_json(self) -> dict[str, Any]:
        """Plain data, as a student's file keeps it."""
        return asdict(self)

    @staticmethod
    def from_json(plain: Mapping[str, Any]) -> "Recipe":
        """Inverse of `to_json`; raises KDError on anything else."""
        try:
            wrappers = tuple((str(name), dict(kwargs)) for name, kwargs in plain["wrappers"])
            return Recipe(
                env_id=str(plain["env_id"]),
                env_kwargs=dict(plain["env_kwargs"]),
                wrappers=wrappers,
                frame_stack=int(plain["frame_stack"]),
            )
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise KDError(f"the environment's description is damaged: {error!r}") from None


def resolve_id(env_id: str) -> str:
    """The registered id that serves `env_id`.

    A version that is gone maps to the newest one, with a warning.

    Raises:
        KDError: Nothing like it is registered; the message names the nearest.
    """
    importlib.import_module("kd_envs")
    # Gymnasium's own spelling for environments of other packages: "module:id", importing the module registers them.
    module, _, name = env_id.rpartition(":")
    if module:
        try:
            importlib.import_module(module)
        except ImportError as error:
            raise KDError(f"environment {env_id!r}: module {module!r} cannot be imported ({error})") from None
    # Only now: importing Atari takes its time, and most environments do without it.
    if name not in gym.registry and re.search(r"^ALE/|NoFrameskip|Deterministic-v", name):
        _register_atari(name)
    if _playable(name):
        return name
    newest = versions(name)
    if not newest:
        raise unknown("environment", env_id, gym.registry)
    warnings.warn(f"{name} is not to be had any more; playing on {newest[0]}", stacklevel=2)
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
    env_id = resolve_id(env)
    if not str(gym.registry[env_id].entry_point).startswith("ale_py"):
        return Recipe(env_id, asked)
    if "NoFrameskip" not in env_id:
        # The wrapper repeats each action four times; an environment that skips frames by itself would make it 16.
        asked = {"frameskip": 1, **asked}
    return Recipe(env_id, asked, ((ATARI, {}),), frame_stack=4)


def recorded_recipe(graph: PolicyGraph) -> Recipe | None:
    """The recipe of its environment that a student's file keeps; None in files without one."""
    plain = graph.provenance.get("recipe")
    return Recipe.from_json(plain) if plain else None
