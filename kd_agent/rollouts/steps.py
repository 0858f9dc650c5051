"""Steps: the one loop that plays policies in a vector environment; everything else consumes what it yields.

Letters: `N` environments, `*A` shape of an action.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from stable_baselines3.common.vec_env import VecEnv

from kd_agent.environments import as_mapping
from kd_agent.environments.vector import start
from kd_agent.policies import Array

Act = Callable[[Mapping[str, Array], Array], Array]
"""From observations `[N, *O]` by key, and whether each is the first of its episode `[N]`, to actions `[N, *A]`."""


@dataclass(frozen=True)
class Step:
    """One step of every environment.

    Attributes:
        observations: What was observed, and acted on, `[N, *O]` by key.
        starts: Whether that was the first of an episode, `[N]`.
        rewards: What the actions earned, `[N]`.
        ended: Whether they ended the episode, `[N]`; the environment has begun the next one then.
        infos: What the environments say beside, one mapping each.
    """

    observations: Mapping[str, Array]
    starts: Array
    rewards: Array
    ended: Array
    infos: Sequence[Mapping[str, Any]]


def play(env: VecEnv, seeds: Iterator[int], act: Act) -> Iterator[Step]:
    """Play without end, from fresh episodes.

    Args:
        env: Made by `make_env`.
        seeds: Seeds of the coming episodes, whichever environment begins one.
        act: Who plays.
    """
    observations = start(env, seeds)
    starts = np.ones(env.num_envs, bool)
    while True:
        actions = act(observations, starts)
        following, rewards, ended, infos = env.step(actions)
        # What was acted on, not what came of it: where an episode ended, `following` is the next one's first.
        yield Step(observations, starts, rewards, ended, infos)
        observations = as_mapping(following)
        starts = ended


def episode_seeds(entropy: int) -> Iterator[int]:
    """An endless stream of episode seeds."""
    rng = np.random.default_rng(entropy)
    while True:
        yield int(rng.integers(2**31))
