"""Teachers from Stable-Baselines3 zips, old or new, translated into PolicyGraphs without running them."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import gymnasium as gym

from kd_agent.environments import Recipe, check_same, observation_specs
from kd_agent.errors import KDError
from kd_agent.networks import Origin, Teacher
from kd_agent.policies import OBSERVATION, Normalizer, PolicyGraph
from kd_agent.teachers import _fitting, _off_policy, _on_policy, _trusted, _value_based, _zoo
from kd_agent.teachers._archive import Archive, NotUnderstoodError, read
from kd_agent.teachers._features import as_seen, in_own_order, prepare
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
"""By the module of the policy's class; a policy of one's own is not among them."""

_FAITHFUL_ORIGINAL_OBS = (_on_policy.translate, _off_policy.random_search)
"""Families that keep `_last_original_obs` under VecNormalize alone."""

_BYSTANDERS = re.compile(
    r"critic\b.*|\w+_target\..*|value_net\..*|mlp_extractor\.value_net\..*|lstm_critic\..*|(pi_|vf_)?features_extractor\..*"
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
    return _trusted.load(archive, spaces, find_statistics(Path(source), request.statistics) or {})


def recipe(source: str, env: str, env_kwargs: Mapping[str, Any]) -> Recipe:
    """The environment that a teacher plays in: as its RL Zoo settings say, or else as its own size tells.

    Args:
        source: Path of the zip.
        env: The id asked for; "" for the one that the settings name.
        env_kwargs: Keyword arguments that win over the settings'.
    """
    found = _zoo.recipe(Path(source), env, env_kwargs)
    return _fitting.fit(found, own_spaces(read(source))[0], source)


def _translated(archive: Archive, request: Request) -> GraphTeacher:
    translate = _translator(archive)
    own, (seen, action_space) = _spaces(archive, request.env)
    observation_space = in_own_order(seen, own)
    normalizers = _normalizers(archive, translate, request)
    program = Program(archive, OBSERVATION)
    inputs = prepare(program, observation_space, own, normalizers)
    result = translate(program, inputs, action_space)
    _check_all_used(archive, program)
    graph = PolicyGraph(
        observation_specs(observation_space), tuple(program.ops), result.head.spec, states=program.states
    )
    return GraphTeacher(graph, Origin(archive.source, archive.sha256, result.algo, graph.num_parameters), result.critic)


def own_spaces(archive: Archive) -> tuple[gym.Space[Any] | None, gym.Space[Any] | None]:
    """Observation and action space as far as the zip tells them."""
    return space(archive.data.get("observation_space")), space(archive.data.get("action_space"))


def _translator(archive: Archive) -> Translator:
    name, module = archive.policy_class, archive.policy_module
    found = [translate for prefix, translate in _TRANSLATORS.items() if module == f"{prefix}.policies"]
    if not found:
        raise NotUnderstoodError(f"{archive.source}: policies of class {module}.{name} are not understood")
    return found[0]


def _spaces(archive: Archive, env: Spaces | None) -> tuple[gym.Space[Any] | None, Spaces]:
    """The zip's observation space, and the spaces to play in."""
    observations, actions = own_spaces(archive)
    if env is None:
        if observations is None or actions is None:
            raise KDError(f"{archive.source}: its spaces are not readable; name the environment (--env)")
        return observations, (observations, actions)
    if observations is not None:
        check_same(observations, as_seen(env[0], observations), f"{archive.source}: the teacher's observations",
                   bounds=False)  # fmt: skip
    if actions is not None:
        check_same(actions, env[1], f"{archive.source}: the teacher's actions", bounds=True)
    return observations, env


def _normalizers(archive: Archive, translate: Translator, request: Request) -> Mapping[str, Normalizer]:
    found = find_statistics(Path(archive.source), request.statistics)
    faithful = translate in _FAITHFUL_ORIGINAL_OBS
    normalised = _zoo.read_settings(Path(archive.source)).normalised or (
        faithful and archive.data.get("_last_original_obs") is not None
    )
    if found is None and normalised and not request.allow_missing_statistics:
        raise KDError(
            f"{archive.source}: trained under VecNormalize, but its statistics are missing "
            "(--statistics FILE, or --allow-missing-statistics)"
        )
    return found or {}


def _check_all_used(archive: Archive, program: Program) -> None:
    """A tensor left over means a network of another make, which would act differently."""
    rest = [name for name in archive.tensors if name not in program.used and not _BYSTANDERS.fullmatch(name)]
    if rest:
        raise NotUnderstoodError(f"{archive.source}: its tensor {rest[0]!r} is not understood")
