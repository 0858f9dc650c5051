"""SAC, TQC and CrossQ: a Gaussian through tanh. TD3, DDPG and ARS: one action, with a stated density."""

from collections.abc import Mapping
from typing import Any

import gymnasium as gym

from kd_agent.networks import LOG_STD_MAX, LOG_STD_MIN, head_for
from kd_agent.policies import PARAMS, Op
from kd_agent.teachers._activation import activation
from kd_agent.teachers._archive import Archive
from kd_agent.teachers._features import extract
from kd_agent.teachers._layers import DETERMINISTIC_LOG_STD, Program, gsde_latent, gsde_log_std
from kd_agent.teachers._translation import Translation


def stochastic(program: Program, inputs: Mapping[str, str], action_space: gym.Space[Any]) -> Translation:
    """SAC, TQC, CrossQ: `latent_pi`, then means `mu` and log standard deviations `log_std`.

    Args:
        program: Begins at the observation; gains the operations.
        inputs: The register of each key's prepared observation.
        action_space: The environment's.
    """
    archive = program.archive
    head = head_for(action_space, squashed=True)
    function = activation(archive, "relu")
    extract(program, "actor.features_extractor", inputs)
    features = program.last
    program.sequence("actor.latent_pi", function)
    latent = program.last
    _means(program)
    program.last = latent
    if program.has("actor.log_std"):
        latent = gsde_latent(program, "actor.", features, latent, function)
        gsde_log_std(program, "actor.log_std", latent, len(head.spec.low))
    else:
        # SB3 clips to [-20, 2], as the SAC paper's own code did (Haarnoja et al. 2018).
        program.linear("actor.log_std", "log_std.free")
        program.clip(LOG_STD_MIN, LOG_STD_MAX, "log_std")
    program.add(Op("concatenate", ("mean", "log_std"), PARAMS))
    return Translation(_stochastic_algo(archive), head, program, [])


def _stochastic_algo(archive: Archive) -> str:
    """By the module of the policy's class, which of the three alone tells TQC and CrossQ from SAC."""
    for name in ("TQC", "CrossQ"):
        if name.lower() in archive.policy_module:
            return name
    return "SAC"


def _means(program: Program) -> None:
    """`mu`; with gSDE its means are bounded, unless `clip_mean` is 0."""
    if program.has("actor.mu.weight"):
        return program.linear("actor.mu", "mean")
    # SB3 puts a Hardtanh behind the layer, which makes a sequence of it.
    program.linear("actor.mu.0", "mean.free")
    bound = program.archive.policy_number("clip_mean", 2.0)
    return program.clip(-bound, bound, "mean")


def deterministic(program: Program, inputs: Mapping[str, str], action_space: gym.Space[Any]) -> Translation:
    """TD3, DDPG: layers `mu` that end in tanh.

    Args:
        program: Begins at the observation; gains the operations.
        inputs: The register of each key's prepared observation.
        action_space: The environment's.
    """
    archive = program.archive
    head = head_for(action_space, squashed=True)
    extract(program, "actor.features_extractor", inputs)
    program.sequence("actor.mu", activation(archive, "relu"), "mean")
    program.append_log_std(DETERMINISTIC_LOG_STD, len(head.spec.low))
    # To SB3, DDPG is a TD3 of one critic that never delays its policy.
    ddpg = archive.data.get("policy_delay") == 1 and not program.has("critic.qf1.0.weight")
    return Translation("DDPG" if ddpg else "TD3", head, program, [])


def random_search(program: Program, inputs: Mapping[str, str], action_space: gym.Space[Any]) -> Translation:
    """ARS: layers `action_net`, which end in tanh where the policy says so (the linear one by default not).

    Args:
        program: Begins at the observation; gains the operations.
        inputs: The register of each key's prepared observation.
        action_space: The environment's.
    """
    archive = program.archive
    linear = archive.policy_class == "ARSLinearPolicy"
    squashed = str(archive.policy_kwarg("squash_output", not linear)) == "True"
    head = head_for(action_space, squashed=squashed and isinstance(action_space, gym.spaces.Box))
    output = "mean" if head.spec.is_gaussian else PARAMS
    extract(program, "features_extractor", inputs)
    if program.has("action_net.weight"):
        program.linear("action_net", output)
    else:
        program.sequence("action_net", activation(archive, "relu"), output)
    if head.spec.is_gaussian:
        program.append_log_std(DETERMINISTIC_LOG_STD, len(head.spec.low))
    return Translation("ARS", head, program, [])
