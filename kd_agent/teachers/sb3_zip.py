"""Teachers from Stable-Baselines3 zips, old or new, translated into PolicyGraphs without running them."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import gymnasium as gym

from kd_agent.environments import Recipe, as_sb3_acts, check_same, observation_specs
from kd_agent.environments.own_wrappers import NO_WRAPPERS, TypedWrappers
from kd_agent.errors import KDError
from kd_agent.networks import Origin, Teacher
from kd_agent.policies import OBSERVATION, Normalizer, PolicyGraph
from kd_agent.teachers import _fitting, _off_policy, _on_policy, _trusted, _value_based, _zoo
from kd_agent.teachers._archive import Archive, NotUnderstoodError, read
from kd_agent.teachers._features import as_observed, in_own_order, prepare
from kd_agent.teachers._graph_teacher import GraphTeacher
from kd_agent.teachers._layers import Program
from kd_agent.teachers._request import Request, Spaces
from kd_agent.teachers._space_text import space
from kd_agent.teachers._statistics import find_statistics
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


def accepts(source: Any) -> bool:
    """Whether this plug-in reads `source`."""
    return isinstance(source, str) and source.endswith(".zip")


def load(source: str, request: Request) -> Teacher:
    """Load a teacher.

    Args:
        source: Path of the zip.
        request: How it is asked for.

    Raises:
        KDError: The zip is damaged, not understood, or does not fit; one line.
    """
    archive = read(source)
    try:
        return _translated(archive, request)
    except NotUnderstoodError:
        if not request.trust_teacher:
            raise
    _, spaces = _spaces(archive, request.env)
    statistics = find_statistics(Path(source), request.statistics) or {}
    return _trusted.load(archive, spaces, statistics)


def recipe(source: str, env: str, env_kwargs: Mapping[str, Any], typed: TypedWrappers = NO_WRAPPERS) -> Recipe:
    """The environment that a teacher plays in: as its RL Zoo settings say, or else as its own size tells.

    Args:
        source: Path of the zip.
        env: The id asked for; "" for the one that the settings name.
        env_kwargs: Keyword arguments that win over the settings'.
        typed: Wrappers that were typed: those of the settings are allowed by them, the others put around.

    Raises:
        KDError: The zip or its settings cannot be read, or name no environment that is known here.
    """
    named = typed.around(_zoo.recipe(Path(source), env, env_kwargs))
    observation_space, _ = own_spaces(read(source))
    return _fitting.fit(named, observation_space, source)


def _translated(archive: Archive, request: Request) -> GraphTeacher:
    translate = _translator(archive)
    own, spaces = _spaces(archive, request.env)
    observation_space = in_own_order(spaces[0], own)
    normalizers = _normalizers(archive, translate, request)
    program = Program(archive, OBSERVATION)
    inputs = prepare(program, observation_space, own, normalizers)
    result = translate(program, inputs, as_sb3_acts(spaces[1]))
    _check_all_used(archive, program)
    observations = observation_specs(observation_space)
    graph = PolicyGraph(observations, tuple(program.ops), result.head.spec, states=program.states)
    origin = Origin(archive.source, archive.sha256, result.algo, graph.num_parameters)
    return GraphTeacher(graph, origin, result.critic)


def own_spaces(archive: Archive) -> tuple[gym.Space[Any] | None, gym.Space[Any] | None]:
    """Observation and action space as far as the zip tells them."""
    return space(archive.data.get("observation_space")), space(archive.data.get("action_space"))


def _translator(archive: Archive) -> Translator:
    name = archive.policy_class
    module = archive.policy_module
    package, _, last = module.rpartition(".")
    translate = _TRANSLATORS.get(package)
    if translate is None or last != "policies":
        raise NotUnderstoodError(f"{archive.source}: policies of class {module}.{name} are not understood")
    return translate


def _spaces(archive: Archive, env: Spaces | None) -> tuple[gym.Space[Any] | None, Spaces]:
    """The zip's observation space, and the spaces to play in."""
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


def _normalizers(archive: Archive, translate: Translator, request: Request) -> Mapping[str, Normalizer]:
    """Statistics by key; empty where the teacher needs none, or where it may go on without."""
    statistics = find_statistics(Path(archive.source), request.statistics)
    by_settings = _zoo.read_settings(Path(archive.source)).normalised
    by_last_obs = translate in _FAITHFUL_ORIGINAL_OBS and archive.data.get("_last_original_obs") is not None
    normalised = by_settings or by_last_obs
    if statistics is None and normalised and not request.allow_missing_statistics:
        raise KDError(
            f"{archive.source}: trained under VecNormalize, but its statistics are missing "
            "(--statistics FILE, or --allow-missing-statistics)"
        )
    return statistics or {}


def _check_all_used(archive: Archive, program: Program) -> None:
    """A tensor left over means a network of another make, which would act differently."""
    for name in archive.tensors:
        if name not in program.used and not _BYSTANDERS.fullmatch(name):
            raise NotUnderstoodError(f"{archive.source}: its tensor {name!r} is not understood")
