"""Steps: the one loop that plays policies in a vector environment; everything else consumes what it yields.

Letters: `N` environments, `M` flags of an action mask, `*A` shape of an action, `*O` shape of an observation.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from stable_baselines3.common.vec_env import VecEnv

from kd_agent.environments import as_mapping
from kd_agent.environments.vector import action_masks, start
from kd_agent.policies import Array, HeadSpec

Act = Callable[[Mapping[str, Array], Array, Array | None], Array]
"""To actions `[N, *A]`: from observations `[N, *O]` by key, whether each is the first of its episode `[N]`, and what is
allowed there `[N, M]` (None where nobody asked)."""


@dataclass(frozen=True)
class Step:
    """One step of every environment.

    Attributes:
        observations: What was observed, and acted on, `[N, *O]` by key.
        starts: Whether that was the first of an episode, `[N]`.
        rewards: What the actions earned, `[N]`.
        ended: Whether they ended the episode, `[N]`; the environment has begun the next one then.
        infos: What the environments say beside, one mapping each.
        actions: What was done, `[N, *A]`.
        following: What is observed then, `[N, *O]` by key: the next episode's first where one ended.
    """

    observations: Mapping[str, Array]
    starts: Array
    rewards: Array
    ended: Array
    infos: Sequence[Mapping[str, Any]]
    actions: Array
    following: Mapping[str, Array]


def play(env: VecEnv, seeds: Iterator[int], act: Act, masked: HeadSpec | None = None) -> Iterator[Step]:
    """Play without end, from fresh episodes.

    Args:
        env: Made by `make_env`.
        seeds: Seeds of the coming episodes, whichever environment begins one.
        act: Who plays.
        masked: Head of a player who is to be told what is allowed; None: the environment is not asked.

    Raises:
        KDError: It is asked and does not say, or the environment failed.
    """
    return play_on(env, start(env, seeds), np.ones(env.num_envs, bool), act, masked)


def play_on(
    env: VecEnv, observations: Mapping[str, Array], starts: Array, act: Act, masked: HeadSpec | None = None
) -> Iterator[Step]:
    """Play without end, from where the environments are.

    Args:
        env: Made by `make_env`.
        observations: What they show now, `[N, *O]` by key.
        starts: Whether each is the first of its episode, `[N]`.
        act: Who plays.
        masked: As `play` has it.
    """
    while True:
        # Before the step: a mask is of the observation that it comes with.
        allowed = action_masks(env, masked) if masked else None
        actions = act(observations, starts, allowed)
        shown, rewards, ended, infos = env.step(actions)
        following = as_mapping(shown)
        yield Step(observations, starts, rewards, ended, infos, actions, following)
        observations = following
        starts = ended


def episode_seeds(entropy: int) -> Iterator[int]:
    """An endless stream of episode seeds."""
    rng = np.random.default_rng(entropy)
    while True:
        yield int(rng.integers(2**31))


def random_allowed(head: HeadSpec, allowed: Array, rng: np.random.Generator) -> Array:
    """Uniformly random actions `[N, *A]` among those that are allowed.

    Args:
        head: Of the actions.
        allowed: What is allowed, `[N, M]`.
        rng: Where chance comes from.
    """
    alike = np.zeros((len(allowed), head.num_params), np.float32)
    return head.sample(head.masked(alike, allowed), rng)
