"""Vector environments, as Stable-Baselines3 has them, of guarded and wrapped ones."""

from collections.abc import Iterator, Mapping
from typing import Any

import gymnasium as gym
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecFrameStack

from kd_agent.environments.guarded import GuardedEnv
from kd_agent.environments.recipe import Recipe, recipe_of
from kd_agent.environments.spaces import as_mapping, observation_specs
from kd_agent.environments.wrappers import wrapped
from kd_agent.errors import KDError
from kd_agent.policies import Array


def make_single(env_id: str, env_kwargs: Mapping[str, Any], render_mode: str | None = None) -> gym.Env[Any, Any]:
    """One environment without wrappers.

    Args:
        env_id: A registered id.
        env_kwargs: Its keyword arguments.
        render_mode: As Gymnasium's; None: no rendering.

    Raises:
        KDError: It cannot be made.
    """
    # Not every environment knows the word "render_mode", so it is left out where nobody wants to see anything.
    rendering: dict[str, Any] = {"render_mode": render_mode} if render_mode else {}
    try:
        # Without a module, which Gymnasium would import: whoever typed one has had it imported by `resolve_id`.
        return gym.make(env_id.rpartition(":")[2], **rendering, **env_kwargs)
    except TypeError as error:
        raise KDError(f"environment {env_id!r} refuses its arguments: {error}") from None
    except Exception as error:  # whatever an environment raises that is being made, or its space is no space
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
    # The guard names the environment that misbehaves; the vector makes them in this order.
    indices = iter(range(n_envs))

    def make() -> gym.Env[Any, Any]:
        single = make_single(recipe.env_id, recipe.env_kwargs, render_mode)
        whole = wrapped(GuardedEnv(single, next(indices)), recipe)
        # SB3's vector makes arrays for what is observed, and fails by a traceback where it is none.
        observation_specs(whole.observation_space)
        return whole

    venv = DummyVecEnv([make] * n_envs)
    if recipe.frame_stack > 1:
        return VecFrameStack(venv, recipe.frame_stack)
    return venv


def start(env: VecEnv, seeds: Iterator[int]) -> dict[str, Array]:
    """Reset every environment; the first observations `[N, *O]` by key.

    Args:
        env: Made by `make_env`.
        seeds: This and each later episode, in whichever environment, takes the next of them.
    """
    env.env_method("take_seeds", seeds)
    return as_mapping(env.reset())


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
