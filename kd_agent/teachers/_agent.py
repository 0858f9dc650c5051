"""An agent that was read as data becomes a teacher: its networks translated into a PolicyGraph, none of it run."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import gymnasium as gym

from kd_agent.environments import as_sb3_acts, check_same, observation_specs
from kd_agent.errors import KDError
from kd_agent.networks import Origin
from kd_agent.policies import OBSERVATION, PolicyGraph
from kd_agent.teachers import _off_policy, _on_policy, _value_based, _zoo
from kd_agent.teachers._archive import Archive, NotUnderstoodError
from kd_agent.teachers._features import as_observed, in_own_order, parts_of, prepare
from kd_agent.teachers._graph_teacher import GraphTeacher
from kd_agent.teachers._layers import Program
from kd_agent.teachers._program_features import is_program
from kd_agent.teachers._request import Request, Spaces
from kd_agent.teachers._space_text import space
from kd_agent.teachers._statistics_search import Doubt, Evidence, Normalizers, find_statistics
from kd_agent.teachers._translation import Translation

Translator = Callable[[Program, Mapping[str, str], gym.Space[Any]], Translation]

_TRANSLATORS: dict[str, Translator] = {
    "stable_baselines3.common": _on_policy.translate,
    "sb3_contrib.common.maskable": _on_policy.translate,
    "sb3_contrib.common.recurrent": _on_policy.translate,
    "stable_baselines3.sac": _off_policy.stochastic,
    "sb3_contrib.tqc": _off_policy.stochastic,
    "sb3_contrib.crossq": _off_policy.stochastic,
    "stable_baselines3.td3": _off_policy.deterministic,
    "sb3_contrib.ars": _off_policy.random_search,
    "stable_baselines3.dqn": _value_based.dqn,
    "sb3_contrib.qrdqn": _value_based.qrdqn,
}
"""By the package whose `policies` define the policy's class; a policy of one's own is not among them."""

_FAITHFUL_ORIGINAL_OBS = (_on_policy.translate, _off_policy.random_search)
"""Families that keep `_last_original_obs` under VecNormalize alone."""

_BYSTANDERS = re.compile(
    r"critic\b.*|\w+_target\..*|value_net\..*|mlp_extractor\.value_net\..*|lstm_critic\..*"
    r"|(pi_|vf_)?features_extractor\..*"
)
"""Tensors that do not act: critics, targets, and names that SB3 gives a second time."""


def teacher_of(archive: Archive, request: Request, statistics: Normalizers | None = None) -> GraphTeacher:
    """The teacher that an agent is.

    Args:
        archive: The agent, read as data.
        request: How it is asked for.
        statistics: Those of its observations by key; default: looked for beside its file.

    Raises:
        NotUnderstoodError: It is of another make than those that are known here.
        KDError: It or its statistics do not fit, or these are missing.
    """
    translate = _translator(archive)
    own, spaces = spaces_of_agent(archive, request.env)
    observation_space = in_own_order(spaces[0], own)
    look = None
    if statistics is None:
        evidence = evidence_of(archive, observation_space)
        statistics = find_statistics(evidence, request)
        nobody_says = statistics is None and evidence.normalised is None and not _zoo.settings_folder(evidence.agent)
        if nobody_says and not request.allow_missing_statistics:
            look = Doubt(archive.source).look
    program = Program(archive, OBSERVATION)
    inputs = prepare(program, observation_space, own, statistics or {})
    result = translate(program, inputs, as_sb3_acts(spaces[1]))
    _check_all_used(archive, program)
    observations = observation_specs(observation_space)
    if is_program(archive):
        # A student of ours sees perhaps a part of what its environment shows.
        read = {name for op in program.ops for name in op.inputs}
        observations = {key: spec for key, spec in observations.items() if key in read}
    graph = PolicyGraph(observations, tuple(program.ops), result.head.spec, states=program.states)
    origin = Origin(archive.source, archive.sha256, result.algo, graph.num_parameters)
    return GraphTeacher(graph, origin, result.critic, look)


def own_spaces(archive: Archive) -> tuple[gym.Space[Any] | None, gym.Space[Any] | None]:
    """Observation and action space as far as the zip tells them."""
    if archive.spaces is not None:
        return archive.spaces
    return space(archive.data.get("observation_space")), space(archive.data.get("action_space"))


def _translator(archive: Archive) -> Translator:
    name = archive.policy_class
    module = archive.policy_module
    package, _, last = module.rpartition(".")
    translate = _TRANSLATORS.get(package)
    if translate is None or last != "policies":
        raise NotUnderstoodError(f"{archive.source}: policies of class {module}.{name} are not understood")
    return translate


def spaces_of_agent(archive: Archive, env: Spaces | None) -> tuple[gym.Space[Any] | None, Spaces]:
    """The agent's observation space, where it is known, and the spaces to play in.

    Args:
        archive: The agent.
        env: Observation and action space asked for; default: its own.

    Raises:
        KDError: They are not the agent's, or nobody knows any.
    """
    observations, actions = own_spaces(archive)
    if env is None:
        if observations is None or actions is None:
            raise KDError(f"{archive.source}: its spaces are not readable; name the environment (--env)")
        return observations, (observations, actions)
    if observations is not None:
        # Other bounds of an observation change no answer, those of an action do.
        observed = as_observed(env[0], observations)
        check_same(observations, observed, f"{archive.source}: the teacher's observations", bounds=False)
    if actions is not None:
        check_same(actions, env[1], f"{archive.source}: the teacher's actions", bounds=True)
    return observations, env


def evidence_of(archive: Archive, observation_space: gym.Space[Any]) -> Evidence:
    """What an agent says of its normalisation.

    Args:
        archive: The agent.
        observation_space: What it sees.
    """
    agent = Path(archive.source)
    shapes = {key: part.shape or () for key, part in parts_of(observation_space).items()}
    normalised: bool | None = None
    # Only some families keep this under VecNormalize alone, the others always.
    package = archive.policy_module.rpartition(".")[0]
    if _TRANSLATORS.get(package) in _FAITHFUL_ORIGINAL_OBS and "_last_original_obs" in archive.data:
        normalised = archive.data["_last_original_obs"] is not None
    if _zoo.read_settings(agent).normalised:
        normalised = True
    return Evidence(agent, normalised, shapes)


def _check_all_used(archive: Archive, program: Program) -> None:
    """A tensor left over means a network of another make, which would act differently."""
    for name in archive.tensors:
        if name not in program.used and not _BYSTANDERS.fullmatch(name):
            raise NotUnderstoodError(f"{archive.source}: its tensor {name!r} is not understood")
