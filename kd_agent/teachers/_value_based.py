"""DQN and QR-DQN: the row `params` holds action values, read as logits."""

from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np

from kd_agent.errors import KDError
from kd_agent.networks import head_for
from kd_agent.policies import PARAMS, Array
from kd_agent.teachers._activation import activation
from kd_agent.teachers._features import extract
from kd_agent.teachers._layers import Program
from kd_agent.teachers._translation import Translation


def dqn(program: Program, inputs: Mapping[str, str], action_space: gym.Space[Any]) -> Translation:
    """The Q-network; its target network stays unread.

    Args:
        program: Begins at the observation; gains the operations.
        inputs: The register of each key's prepared observation.
        action_space: The environment's.
    """
    extract(program, "q_net.features_extractor", inputs)
    program.sequence("q_net.q_net", activation(program.archive, "relu"), PARAMS)
    return Translation("DQN", head_for(action_space), program, [])


def qrdqn(program: Program, inputs: Mapping[str, str], action_space: gym.Space[Any]) -> Translation:
    """The quantile network; the mean over the quantiles is folded into its last layer.

    Args:
        program: Begins at the observation; gains the operations.
        inputs: The register of each key's prepared observation.
        action_space: The environment's.

    Raises:
        KDError: The last layer's outputs do not divide among the actions.
    """
    head = head_for(action_space)
    actions = head.num_params

    # The mean of linear outputs is the linear output of the mean weights: nothing is lost.
    def mean_over_quantiles(tensor: Array) -> Array:
        if len(tensor) % actions:
            raise KDError(f"{program.source}: {len(tensor)} quantiles do not divide among {actions} actions")
        by_quantile = tensor.reshape(-1, actions, *tensor.shape[1:])
        return np.asarray(by_quantile.mean(axis=0, dtype=np.float64), np.float32)

    extract(program, "quantile_net.features_extractor", inputs)
    program.sequence("quantile_net.quantile_net", activation(program.archive, "relu"), PARAMS, mean_over_quantiles)
    return Translation("QR-DQN", head, program, [])
