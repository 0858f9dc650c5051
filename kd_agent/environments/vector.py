"""Vector environments, as Stable-Baselines3 has them, of guarded and wrapped ones."""

from collections.abc import Iterator, Mapping
from typing import Any

import gymnasium as gym
import numpy as np
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv

from kd_agent.environments.frames import StackedFrames
from kd_agent.environments.guarded import AroundWrappers, GuardedEnv
from kd_agent.environments.recipe import Recipe, recipe_of
from kd_agent.environments.spaces import as_mapping, observation_specs
from kd_agent.environments.watchdog import Watchdog
from kd_agent.environments.wrappers import wrapped
from kd_agent.errors import KDError
from kd_agent.policies import Array, HeadSpec

ACTION_MASKS = "action_masks"
"""The method by which sb3_contrib asks an environment, or a wrapper around it, what is allowed now."""

DEFAULT_LIMIT = 10_000
"""Steps of an episode at most, where neither environment nor settings limit it: a policy that runs in a circle would
never come to an end (CliffWalking, say)."""


def make_single(
    env_id: str, env_kwargs: Mapping[str, Any], render_mode: str | None = None, max_episode_steps: int | None = None
) -> gym.Env[Any, Any]:
    """One environment without wrappers.

    Args:
        env_id: A registered id.
        env_kwargs: Its keyword arguments.
        render_mode: As Gymnasium's; None: no rendering.
        max_episode_steps: In place of its own limit; None: that.

    Raises:
        KDError: It cannot be made.
    """
    # Not every environment knows the word "render_mode", so it is left out where nobody wants to see anything.
    rendering: dict[str, Any] = {"render_mode": render_mode} if render_mode else {}
    try:
        # Without a module, which Gymnasium would import: whoever typed one has had it imported by `resolve_id`.
        registered = env_id.rpartition(":")[2]
        return gym.make(registered, max_episode_steps=max_episode_steps, **rendering, **env_kwargs)
    except TypeError as error:
        raise KDError(f"environment {env_id!r} refuses its arguments: {error}") from None
    except Exception as error:
        said = " ".join(f"{type(error).__name__}: {error}".split())
        raise KDError(f"environment {env_id!r} cannot be made ({said})") from error


def episode_limit(recipe: Recipe) -> int | None:
    """Steps after which an episode is cut at the latest, by the settings or the registry; None where neither says.

    Args:
        recipe: The environment.
    """
    # Without an environment there are no episodes, and no limit.
    spec = gym.registry.get(recipe.env_id)
    return recipe.max_episode_steps or (spec.max_episode_steps if spec else None)


def default_limit(recipe: Recipe) -> int | None:
    """After how many steps an episode is cut that nothing else limits; None where something does."""
    # Atari's emulator counts frames by itself.
    frames = gym.registry[recipe.env_id].kwargs.get("max_num_frames_per_episode")
    return None if episode_limit(recipe) or frames else DEFAULT_LIMIT


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
    # The guard names the environment that misbehaves; the vector makes them in this order.
    indices = iter(range(n_envs))
    limit = default_limit(recipe)
    watchdog = Watchdog(recipe.step_timeout) if recipe.step_timeout else None

    def make() -> gym.Env[Any, Any]:
        single = make_single(recipe.env_id, recipe.env_kwargs, render_mode, recipe.max_episode_steps)
        guard = GuardedEnv(single, next(indices), limit=limit, watchdog=watchdog)
        env = wrapped(guard, recipe)
        if recipe.frame_stack > 1:
            env = StackedFrames(env, recipe.frame_stack)
        if env is not guard:
            return AroundWrappers(env, guard)
        # SB3's vector makes arrays for what is observed, and fails by a traceback where it is none.
        observation_specs(guard.observation_space)
        return guard

    return DummyVecEnv([make] * n_envs)


def start(env: VecEnv, seeds: Iterator[int]) -> dict[str, Array]:
    """Reset every environment; the first observations `[N, *O]` by key.

    Args:
        env: Made by `make_env`.
        seeds: This and each later episode, in whichever environment, takes the next of them.
    """
    env.env_method("take_seeds", seeds)
    return as_mapping(env.reset())


def has_masks(env: VecEnv) -> bool:
    """Whether the environments say which actions are allowed."""
    return env.has_attr(ACTION_MASKS)


def action_masks(env: VecEnv, head: HeadSpec) -> Array:
    """What is allowed now, flags `[N, M]`.

    Args:
        env: Made by `make_env`.
        head: Of the actions.

    Raises:
        KDError: The environments do not say, or not of these actions.
    """
    if not has_masks(env):
        raise KDError("the policy plays with action masks, and the environment has no method action_masks()")
    try:
        rows = [np.ravel(mask) for mask in env.env_method(ACTION_MASKS)]
    except Exception as error:
        reason = " ".join(str(error).split())
        raise KDError(f"the environment's action_masks() raised {type(error).__name__}: {reason}") from error
    for row in rows:
        if row.size != head.num_masks or row.dtype.kind not in "fiub":
            raise KDError(f"action_masks() of the environment gave {row.size} flags, its actions have {head.num_masks}")
    return np.stack(rows).astype(bool)


def check_masks(env: str | Recipe) -> None:
    """Require an environment to say which actions are allowed.

    Args:
        env: A registered id, or a recipe.

    Raises:
        KDError: It does not.
    """
    venv = make_env(env, 1)
    known = has_masks(venv)
    venv.close()
    if not known:
        raise KDError(
            f"the policy plays with action masks, and {recipe_of(env).env_id} has no method action_masks(), "
            "which sb3_contrib's masking needs too"
        )


def spaces_of(env: str | Recipe, env_kwargs: Mapping[str, Any] | None = None) -> tuple[gym.Space[Any], gym.Space[Any]]:
    """Observation and action space of an environment, as policies see them (inside its wrappers).

    Args:
        env: A registered id, or a recipe.
        env_kwargs: Keyword arguments, over those of a recipe.
    """
    # Only the wrapped environment knows; wrappers and stacked frames change what is observed.
    venv = make_env(env, 1, env_kwargs)
    venv.close()
    return venv.observation_space, venv.action_space
