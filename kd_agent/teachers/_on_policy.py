"""PPO, A2C, TRPO, MaskablePPO and RecurrentPPO: an actor and a critic over shared observations."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import gymnasium as gym
import numpy as np

from kd_agent.networks import ActionHead, head_for
from kd_agent.policies import PARAMS, Array, Op
from kd_agent.teachers._activation import Function, activation
from kd_agent.teachers._archive import Archive
from kd_agent.teachers._features import extract
from kd_agent.teachers._layers import Program, gsde_latent, gsde_log_std, is_true
from kd_agent.teachers._translation import Translation


def translate(program: Program, inputs: Mapping[str, str], action_space: gym.Space[Any]) -> Translation:
    """Features, (before SB3 1.8) shared layers, policy layers, `action_net`; the critic likewise.

    A recurrent critic has a memory of its own and is left out; so a recurrent teacher tells no value.

    Args:
        program: Begins at the observation; gains the operations.
        inputs: The register of each key's prepared observation.
        action_space: The environment's.
    """
    archive = program.archive
    head = head_for(action_space, squashed=is_true(archive.policy_kwarg("squash_output")))
    is_masked = _algo(archive) == "MaskablePPO"
    if is_masked:
        head = ActionHead(replace(head.spec, expects_masks=True))
    function = activation(archive, "tanh")
    shared = str(archive.policy_kwarg("share_features_extractor", True)) != "False"
    extractor = "features_extractor" if shared else "pi_features_extractor"
    extract(program, extractor, inputs)
    recurrent = program.has("lstm_actor.weight_ih_l0")
    if recurrent:
        program.lstm("lstm_actor")
    features = program.last
    # Newer networks have no tensors of this name, and the sequence is empty.
    program.sequence("mlp_extractor.shared_net", function)
    critic = program.branch(program.last)
    program.sequence("mlp_extractor.policy_net", function)
    if head.spec.is_gaussian:
        _gaussian_head(program, function, features, len(head.spec.low))
    elif is_masked and head.kind == "bernoulli":
        program.linear("action_net", PARAMS, _bit_logits)
    else:
        program.linear("action_net", PARAMS)
    if not recurrent:
        if not shared:
            extract(critic, "vf_features_extractor", inputs)
        critic.sequence("mlp_extractor.value_net", function)
        critic.linear("value_net", "value")
    return Translation(_algo(archive), head, program, critic.ops)


def _bit_logits(pairs: Array) -> Array:
    """sb3_contrib's masked bits are choices between 0 and 1, two outputs each; a bit's logit is their difference."""
    return np.ascontiguousarray(pairs[1::2] - pairs[0::2])


def _gaussian_head(program: Program, function: Function, features: str, size: int) -> None:
    """Means by `action_net`; log standard deviations of gSDE, or free ones that no observation changes."""
    latent = program.last
    program.linear("action_net", "mean")
    if program.archive.data.get("use_sde"):
        gsde_log_std(program, "log_std", gsde_latent(program, "", features, latent, function), size)
        program.add(Op("concatenate", ("mean", "log_std"), PARAMS))
    else:
        program.append_log_std(program.tensor("log_std", 1), size)


def _algo(archive: Archive) -> str:
    """By the policy's module, or else by a setting that the others lack: all share `ActorCriticPolicy`."""
    if "recurrent" in archive.policy_module:
        return "RecurrentPPO"
    if "maskable" in archive.policy_module:
        return "MaskablePPO"
    if "clip_range" in archive.data:
        return "PPO"
    return "TRPO" if "cg_max_steps" in archive.data else "A2C"
