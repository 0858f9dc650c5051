"""Environments: from a Gymnasium id, or a recipe of one, to a guarded vector environment."""

import importlib
import math
import re
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import gymnasium as gym
import numpy as np
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecFrameStack

from kd_agent.errors import KDError, unknown
from kd_agent.graph import OBSERVATION, PolicyGraph
from kd_agent.head import Array
from kd_agent.spaces import as_mapping, observation_specs

_VERSION = re.compile(r"-v(\d+)$")

_LIBRARIES = re.compile(
    r"(sb3_contrib\.common\.wrappers|rl_zoo3?\.wrappers|utils\.wrappers|gym\.wrappers|gymnasium\.wrappers"
    r"|stable_baselines3\.common\.atari_wrappers|kd_envs\.wrappers)\.(\w+\.)*(\w+)"
)
_WRAPPERS = {
    "TimeFeatureWrapper": "sb3_contrib.common.wrappers:TimeFeatureWrapper",
    "HistoryWrapper": "kd_envs.wrappers:HistoryWrapper",
    "MaskVelocityWrapper": "kd_envs.wrappers:MaskVelocityWrapper",
    "FrameSkip": "kd_envs.wrappers:FrameSkip",
    "ZeroContactForces": "kd_envs.wrappers:ZeroContactForces",
    "AtariWrapper": "stable_baselines3.common.atari_wrappers:AtariWrapper",
    "YAMLCompatResizeObservation": "gymnasium.wrappers:ResizeObservation",
    "GrayScaleObservation": "gymnasium.wrappers:GrayscaleObservation",
    **{name: f"gymnasium.wrappers:{name}" for name in (
        "ResizeObservation", "GrayscaleObservation", "ClipAction", "RescaleAction", "FilterObservation",
        "FlattenObservation", "TimeLimit", "TimeAwareObservation",
    )},
}  # fmt: skip
"""Class of each wrapper that a teacher may have been trained in, by its name in any of `_LIBRARIES`."""

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
            return Recipe(str(plain["env_id"]), dict(plain["env_kwargs"]), wrappers, int(plain["frame_stack"]))
        except (KeyError, TypeError, ValueError) as error:
            raise KDError(f"the environment's description is damaged: {error!r}") from None


class GuardedEnv(gym.Wrapper[Any, Any, Any, Any]):
    """Stops at the step where an environment misbehaves, plays given seeds, and reports whole episodes.

    The last step of an episode carries `info["episode"] = (seed, return, length)`, and the first step of the
    next one repeats it as `info["last_episode"]`: a wrapper may end an episode unseen, within its reset.

    Attributes:
        seeds: Seeds of the coming episodes; each reset takes the next one.
        episode_seed: Seed of the present episode.
    """

    def __init__(self, env: gym.Env[Any, Any], index: int) -> None:
        super().__init__(env)
        self.seeds: Iterator[int] = iter(())
        self._index = index
        self.episode_seed: int | None = None
        self._length, self._return = 0, 0.0
        self._last: tuple[int | None, float, int] | None = None
        self._specs = observation_specs(env.observation_space)

    def take_seeds(self, seeds: Iterator[int]) -> None:
        """Let the coming episodes have these seeds."""
        self.seeds = seeds

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start an episode with the next of `seeds`, or else with `seed`."""
        self.episode_seed = next(self.seeds, seed)
        self._length, self._return = 0, 0.0
        try:
            observation, info = self.env.reset(seed=self.episode_seed, options=options)
        except Exception as error:
            raise self._failure(f"raised {type(error).__name__}: {error}") from error
        self._check(observation)
        return observation, info

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """One step; a KDError says which environment, seed and step went wrong."""
        self._length += 1
        try:
            observation, reward, terminated, truncated, info = self.env.step(action)
        except Exception as error:
            raise self._failure(f"raised {type(error).__name__}: {error}") from error
        self._check(observation)
        if not math.isfinite(reward):
            raise self._failure(f"returned the reward {reward}")
        self._return += float(reward)
        if self._length == 1 and self._last:
            info["last_episode"] = self._last
        if terminated or truncated:
            info["episode"] = self._last = (self.episode_seed, self._return, self._length)
        return observation, float(reward), terminated, truncated, info

    def _check(self, observation: Any) -> None:
        parts = observation if isinstance(observation, dict) else {OBSERVATION: observation}
        for key, spec in self._specs.items():
            part = np.asarray(parts[key])
            if part.shape != spec.shape:
                raise self._failure(f"returned an observation of shape {part.shape}, its space says {spec.shape}")
            if part.dtype.kind == "f":
                flat = part.reshape(-1)
                if not math.isfinite(flat @ flat) and not np.isfinite(flat).all():
                    raise self._failure("returned an observation that is NaN or infinite")

    def _failure(self, what: str) -> KDError:
        message = f"environment {self._index} (seed {self.episode_seed}, step {self._length}) {what}"
        return KDError(" ".join(message.split()))


def resolve_id(env_id: str) -> str:
    """The registered id that serves `env_id`.

    A version that is gone maps to the newest one, with a warning.

    Raises:
        KDError: Nothing like it is registered; the message names the nearest.
    """
    importlib.import_module("kd_envs")
    module, _, name = env_id.rpartition(":")
    if module:
        try:
            importlib.import_module(module)
        except ImportError as error:
            raise KDError(f"environment {env_id!r}: module {module!r} cannot be imported ({error})") from None
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
    found = [i for i in gym.registry if _VERSION.search(i) and _VERSION.sub("", i) == base and _playable(i)]
    return sorted(found, key=lambda i: int(i.rpartition("-v")[2]), reverse=True)


def _playable(env_id: str) -> bool:
    """Whether an id is registered, and not as a mere notice that it is gone (MuJoCo's old versions)."""
    spec = gym.registry.get(env_id)
    return spec is not None and not getattr(spec.entry_point, "__name__", "").startswith("_raise")


def _register_atari(env_id: str) -> None:
    try:
        gym.register_envs(importlib.import_module("ale_py"))
    except ImportError:
        raise KDError(f"environment {env_id!r} needs Atari: pip install 'kd-agent[atari]'") from None


def recipe_of(env: str | Recipe, env_kwargs: Mapping[str, Any] | None = None) -> Recipe:
    """The recipe of an id: the environment alone, or Atari as everybody plays it.

    That is 84 x 84 grey pixels, four frames side by side, each action four times, a lost life like an end
    (Mnih et al. 2015); the returns that `GuardedEnv` reports are of whole games, unclipped. Keyword arguments
    asked for win over those of a recipe.
    """
    if isinstance(env, Recipe):
        return replace(env, env_kwargs={**env.env_kwargs, **(env_kwargs or {})})
    env_id, kwargs = resolve_id(env), dict(env_kwargs or {})
    if not str(gym.registry[env_id].entry_point).startswith("ale_py"):
        return Recipe(env_id, kwargs)
    skipping = {} if "NoFrameskip" in env_id else {"frameskip": 1}
    return Recipe(env_id, {**skipping, **kwargs}, ((ATARI, {}),), frame_stack=4)


def recorded_recipe(graph: PolicyGraph) -> Recipe | None:
    """The recipe of its environment that a student's file keeps; None in files without one."""
    plain = graph.provenance.get("recipe")
    return Recipe.from_json(plain) if plain else None


def make_single(env_id: str, env_kwargs: Mapping[str, Any], render_mode: str | None = None) -> gym.Env[Any, Any]:
    """One environment without wrappers; KDError where it cannot be made."""
    rendering: dict[str, Any] = {"render_mode": render_mode} if render_mode else {}  # not every one knows the word
    try:
        return gym.make(env_id, **rendering, **env_kwargs)
    except TypeError as error:
        raise KDError(f"environment {env_id!r} refuses its arguments: {error}") from None
    except (gym.error.Error, ImportError) as error:
        raise KDError(f"environment {env_id!r} cannot be made: {' '.join(str(error).split())}") from None


def make_env(
    env: str | Recipe, n_envs: int, env_kwargs: Mapping[str, Any] | None = None, render_mode: str | None = None
) -> VecEnv:
    """A Stable-Baselines3 vector environment, by default without rendering, which would slow every step.

    The guard sits inside the wrappers, so that returns, episodes and seeds are the environment's own.

    Args:
        env: A registered id (see `resolve_id`), or a recipe.
        n_envs: Number of environments.
        env_kwargs: Keyword arguments of each, over those of a recipe.
        render_mode: As Gymnasium's.
    """
    recipe = recipe_of(env, env_kwargs)
    indices = iter(range(n_envs))

    def make() -> gym.Env[Any, Any]:
        single = make_single(recipe.env_id, recipe.env_kwargs, render_mode)
        return _wrapped(GuardedEnv(single, next(indices)), recipe)

    venv = DummyVecEnv([make] * n_envs)
    return VecFrameStack(venv, recipe.frame_stack) if recipe.frame_stack > 1 else venv


def _wrapped(env: gym.Env[Any, Any], recipe: Recipe) -> gym.Env[Any, Any]:
    for name, kwargs in recipe.wrappers:
        cls, shape = wrapper(name), kwargs.get("shape")
        fixed = {} if shape is None else {"shape": tuple(shape) if isinstance(shape, list | tuple) else (shape, shape)}
        try:
            env = cls(env, **{**kwargs, **fixed})
        except (TypeError, ValueError, AssertionError, gym.error.Error) as error:
            raise KDError(f"{recipe.env_id} does not fit into {name}: {' '.join(str(error).split())}") from None
    return env


def wrapper(name: str) -> Any:
    """The class of a wrapper that RL Zoo's settings name.

    Raises:
        KDError: It is not among those known here, or its library is not installed.
    """
    found = _LIBRARIES.fullmatch(name)
    if not found or found.group(3) not in _WRAPPERS:
        raise KDError(f"the environment wrapper {name!r} is not known here; known are: {', '.join(sorted(_WRAPPERS))}")
    module, _, cls = _WRAPPERS[found.group(3)].partition(":")
    try:
        return getattr(importlib.import_module(module), cls)
    except ImportError:
        raise KDError(f"the environment wrapper {name!r} needs: pip install {module.partition('.')[0]}") from None


def start(env: VecEnv, seeds: Iterator[int]) -> dict[str, Array]:
    """Reset every environment; this and each later episode takes the next of `seeds`."""
    env.env_method("take_seeds", seeds)
    return as_mapping(env.reset())


def spaces_of(
    env: str | Recipe, env_kwargs: Mapping[str, Any] | None = None
) -> tuple[gym.Space[Any], gym.Space[Any]]:  # fmt: skip
    """Observation and action space of an environment."""
    venv = make_env(env, 1, env_kwargs)
    venv.close()
    return venv.observation_space, venv.action_space
