"""Whether a policy fits an environment."""

from typing import Any

import gymnasium as gym
import numpy as np

from kd_agent.environments import observation_specs
from kd_agent.errors import KDError
from kd_agent.networks.distributions import head_for
from kd_agent.policies import PolicyGraph


def check_fits(graph: PolicyGraph, env: tuple[gym.Space[Any], gym.Space[Any]], what: str) -> None:
    """Require a policy to fit an environment's observation and action space.

    Args:
        graph: The policy.
        env: The environment's observation and action space.
        what: The policy's name in the message.

    Raises:
        KDError: A shape or the kind of action differs; the message says which and what was expected.
    """
    observation_space, action_space = env
    offered = observation_specs(observation_space)
    for key, spec in graph.observations.items():
        shape = offered[key].shape if key in offered else "no such key"
        if shape != spec.shape:
            raise KDError(f"{what}: expects observation {key!r} of shape {spec.shape}, the environment has {shape}")
    own = graph.head
    # A Box says nothing of how its actions are drawn: squashed or clipped is the policy's own choice.
    head = head_for(action_space, squashed=own.kind == "squashed_gaussian").spec
    if (head.kind, head.shape, head.nvec) != (own.kind, own.shape, own.nvec):
        raise KDError(f"{what}: acts by {own.kind} {own.nvec or own.shape}, the environment has {action_space}")
    # Whatever the start, Stable-Baselines3 acts from 0, and so do the students of its agents.
    if any(own.start) and head.start != own.start:
        raise KDError(f"{what}: its actions start at {own.start}, the environment has {action_space}")
    if not np.allclose([head.low, head.high], [own.low, own.high]):
        raise KDError(f"{what}: its action bounds are not those of the environment's {action_space}")
