"""Teachers from Stable-Baselines3 zips, old or new, translated into PolicyGraphs without running them."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

from kd_agent.actions import ActionHead, head_for
from kd_agent.errors import KDError
from kd_agent.graph import OBSERVATION, PARAMS, Op, PolicyGraph
from kd_agent.normalizer import Normalizer
from kd_agent.policy import GraphTeacher, Origin
from kd_agent.spaces import check_same, observation_specs
from kd_agent.teachers._archive import Archive, read, space
from kd_agent.teachers._layers import Program
from kd_agent.teachers._statistics import find_statistics

_ON_POLICY = ("ActorCriticPolicy", "ActorCriticCnnPolicy", "MultiInputActorCriticPolicy")
_FUNCTIONS = {"Tanh": "tanh", "ReLU": "relu", "SiLU": "silu", "ELU": "elu", "LeakyReLU": "leaky_relu",
              "Sigmoid": "sigmoid", "Softplus": "softplus"}  # fmt: skip


@dataclass(frozen=True)
class Translation:
    """A policy as graph operations.

    Attributes:
        algo: Name of the algorithm.
        head: Its action head.
        actor: Operations that write `params`.
        critic: Operations that go on from the actor's registers and write `value` (may be empty).
    """

    algo: str
    head: ActionHead
    actor: list[Op]
    critic: list[Op]


def accepts(source: str) -> bool:
    """Whether this plug-in reads `source`."""
    return source.endswith(".zip")


def load(
    source: str,
    *,
    env: tuple[gym.Space[Any], gym.Space[Any]] | None = None,
    statistics: str | None = None,
    allow_missing_statistics: bool = False,
) -> GraphTeacher:
    """Load a teacher.

    Args:
        source: Path of the zip.
        env: Observation and action space of the environment, which must fit the zip's.
        statistics: Its VecNormalize statistics; default: looked for beside the zip.
        allow_missing_statistics: Go on where they are needed but lost.

    Raises:
        KDError: The zip is damaged, not understood, or does not fit; one line.
    """
    archive = read(source)
    observation_space, action_space = _spaces(archive, env)
    normalizer = _normalizer(archive, statistics, allow_missing_statistics)
    program = Program(archive.tensors, OBSERVATION, source)
    if normalizer:
        if normalizer.mean.shape != observation_space.shape:
            raise KDError(
                f"{source}: statistics of shape {normalizer.mean.shape} for observations of {observation_space.shape}"
            )
        program.add(normalizer.op(OBSERVATION, "normal"))
    translate = _translator(archive)
    result = translate(archive, program, action_space)
    graph = PolicyGraph(observation_specs(observation_space), tuple(result.actor), result.head.spec)
    origin = Origin(source, archive.sha256, result.algo, graph.num_parameters)
    return GraphTeacher(graph, origin, result.critic)


def _translator(archive: Archive) -> Callable[[Archive, Program, gym.Space[Any]], Translation]:
    if archive.policy_class in _ON_POLICY:
        return _on_policy
    raise KDError(f"{archive.source}: policies of class {archive.policy_class} are not understood")


def _on_policy(archive: Archive, program: Program, action_space: gym.Space[Any]) -> Translation:
    """PPO, A2C, TRPO: shared layers (before SB3 1.8), policy layers, `action_net`; the critic likewise."""
    head = head_for(action_space, squashed=_is_true(archive.policy_kwarg("squash_output")))
    function = activation(archive, "tanh")
    program.sequence("mlp_extractor.shared_net", function)
    critic = program.branch(program.last)
    program.sequence("mlp_extractor.policy_net", function)
    latent = program.last
    if head.spec.is_gaussian:
        program.linear("action_net", "mean")
        _append_log_std(archive, program, latent)
    else:
        program.linear("action_net", PARAMS)
    critic.sequence("mlp_extractor.value_net", function)
    critic.linear("value_net", "value")
    return Translation(_on_policy_algo(archive), head, program.ops, critic.ops)


def _append_log_std(archive: Archive, program: Program, latent: str) -> None:
    """Log standard deviations: constant, or of gSDE (Raffin et al. 2021), which depend on the latent."""
    if archive.data.get("use_sde"):
        log_std = program.tensor("log_std", 2)
        if _is_true(archive.policy_kwarg("use_expln")):
            raise KDError(f"{archive.source}: gSDE with use_expln is not understood")
        size = len(program.ops[-1].tensors["bias"])
        variance = np.broadcast_to(np.exp(log_std) ** 2, (log_std.shape[0], size))
        program.ops.append(Op("sde_log_std", (latent,), "log_std", {}, {"variance": np.ascontiguousarray(variance)}))
        program.add(Op("concatenate", ("mean", "log_std"), PARAMS))
    else:
        program.add(Op("append", ("mean",), PARAMS, {}, {"value": program.tensor("log_std", 1)}))


def _is_true(value: Any) -> bool:
    return str(value) == "True"


def _on_policy_algo(archive: Archive) -> str:
    if "clip_range" in archive.data:
        return "PPO"
    return "TRPO" if "cg_max_steps" in archive.data else "A2C"


def activation(archive: Archive, default: str) -> str:
    """Name of the activation function that `policy_kwargs` asks for."""
    given = archive.policy_kwarg("activation_fn")
    if given is None:
        return default
    found = re.search(r"(\w+)'?>?$", str(given))
    name = found.group(1) if found else str(given)
    if name not in _FUNCTIONS:
        raise KDError(f"{archive.source}: the activation {name!r} is not understood")
    return _FUNCTIONS[name]


def _spaces(
    archive: Archive, env: tuple[gym.Space[Any], gym.Space[Any]] | None
) -> tuple[gym.Space[Any], gym.Space[Any]]:
    read_spaces = [space(archive.data.get(f"{side}_space")) for side in ("observation", "action")]
    if env is None:
        if read_spaces[0] is None or read_spaces[1] is None:
            raise KDError(f"{archive.source}: its spaces are not readable; name the environment (--env)")
        return read_spaces[0], read_spaces[1]
    for side, own, wanted in zip(("observations", "actions"), read_spaces, env, strict=True):
        if own is not None:
            check_same(own, wanted, f"{archive.source}: the teacher's {side}", bounds=side == "actions")
    return env


def _normalizer(archive: Archive, statistics: str | None, allow_missing: bool) -> Normalizer | None:
    found = find_statistics(Path(archive.source), statistics)
    on_policy = archive.policy_class in _ON_POLICY
    if found is None and on_policy and archive.data.get("_last_original_obs") is not None and not allow_missing:
        raise KDError(
            f"{archive.source}: trained under VecNormalize, but its statistics are missing "
            "(--statistics FILE, or --allow-missing-statistics)"
        )
    return found
