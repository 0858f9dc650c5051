"""An agent of Stable-Baselines3 that is alive in this process: a model, its policy, or the `predict` of either.

Its weights are copied, so that training it goes on without changing the teacher, and the teacher never changes it.
"""

import copy
import hashlib
import inspect
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.policies import BasePolicy

from kd_agent.errors import KDError
from kd_agent.networks import Origin, Teacher
from kd_agent.policies import OBSERVATION, Array, Normalizer
from kd_agent.teachers._agent import spaces_of_agent, teacher_of
from kd_agent.teachers._archive import Archive, NotUnderstoodError
from kd_agent.teachers._features import parts_of
from kd_agent.teachers._request import Request
from kd_agent.teachers._sb3_teacher import Sb3Teacher
from kd_agent.teachers._statistics import normalizer_of, read_statistics
from kd_agent.teachers._statistics_search import check_fit

_SETTINGS = ("cg_max_steps", "clip_range", "policy_delay")
"""Settings by which one algorithm is told from another of the same policy."""


def accepts(source: Any) -> bool:
    """Whether this plug-in reads `source`."""
    return _agent(source) is not None


def load(source: Any, request: Request) -> Teacher:
    """A teacher from the weights as they are now.

    Args:
        source: The model, its policy, or the method `predict` of either.
        request: How it is asked for; nothing has to be trusted, for it runs here already.

    Raises:
        KDError: It does not fit the spaces, or lacks the statistics that it was trained under.
    """
    agent = _agent(source)
    assert agent is not None, "the plug-in has accepted it"
    archive = _archive(agent)
    statistics = _statistics(agent, request, archive.source)
    try:
        teacher: Teacher = teacher_of(archive, request, statistics)
    except NotUnderstoodError:
        # A policy of one's own is asked itself: a copy of it, which nobody trains.
        _, spaces = spaces_of_agent(archive, request.env)
        origin = Origin(archive.source, archive.sha256, type(agent).__name__, num_parameters=None)
        return Sb3Teacher(copy.deepcopy(_policy(agent)), origin, spaces, statistics)
    teacher.origin = replace(teacher.origin, algo=type(agent).__name__)
    return teacher


def _agent(source: Any) -> BaseAlgorithm | BasePolicy | None:
    """The model or policy that a source is, or whose `predict` it is."""
    owner = source
    if inspect.ismethod(source) and source.__name__ == "predict":
        owner = source.__self__
    return owner if isinstance(owner, BaseAlgorithm | BasePolicy) else None


def _policy(agent: BaseAlgorithm | BasePolicy) -> BasePolicy:
    return agent.policy if isinstance(agent, BaseAlgorithm) else agent


def _archive(agent: BaseAlgorithm | BasePolicy) -> Archive:
    """The agent in the form that a zip is read into."""
    policy = _policy(agent)
    made_of = type(policy)
    tensors: dict[str, Array] = {}
    digest = hashlib.sha256(f"{made_of.__module__}.{made_of.__qualname__}".encode())
    for name, tensor in policy.state_dict().items():
        # A copy: NumPy would share the memory of a model that may still be trained.
        tensors[name] = tensor.detach().cpu().float().numpy().copy()
        digest.update(name.encode() + tensors[name].tobytes())
    data: dict[str, Any] = {
        "policy_class": {"__module__": made_of.__module__, "text": f"<function {made_of.__name__}.__init__>"},
        "policy_kwargs": _policy_kwargs(agent),
        "use_sde": bool(getattr(policy, "use_sde", False)),
    }
    digest.update(str(sorted(data["policy_kwargs"].items())).encode())
    for name in _SETTINGS:
        if hasattr(agent, name):
            data[name] = getattr(agent, name)
    source = f"the {type(agent).__name__} in this process"
    return Archive(source, digest.hexdigest(), data, tensors, (policy.observation_space, policy.action_space))


def _policy_kwargs(agent: BaseAlgorithm | BasePolicy) -> dict[str, Any]:
    """What its policy was made with, classes as the text that a zip has of them."""
    policy = _policy(agent)
    values: dict[str, Any] = dict(policy._get_constructor_parameters())
    for name in ("activation_fn", "normalize_images", "share_features_extractor", "use_expln"):
        if hasattr(policy, name):
            values[name] = getattr(policy, name)
    if isinstance(agent, BaseAlgorithm):
        values |= dict(agent.policy_kwargs or {})
    kwargs = {}
    for name, value in values.items():
        # Spaces, schedules and optimisers act in no policy, and the text of a function is another one each time.
        if name not in ("observation_space", "action_space", "lr_schedule") and "optimizer" not in name:
            kwargs[name] = value if isinstance(value, int | float | list) else str(value)
    return {name: value for name, value in kwargs.items() if value != "None"}


def _statistics(agent: BaseAlgorithm | BasePolicy, request: Request, source: str) -> Mapping[str, Normalizer]:
    """Those that are named, or of the VecNormalize that the model is trained under; empty where there are none."""
    if request.statistics is not None:
        statistics = read_statistics(Path(request.statistics))
        space = _policy(agent).observation_space
        shapes = {key: part.shape or () for key, part in parts_of(space).items()}
        check_fit(statistics, shapes, request.statistics)
        return statistics
    env = agent.get_vec_normalize_env() if isinstance(agent, BaseAlgorithm) else None
    if env is None:
        # It keeps an observation as it was before VecNormalize, where there was one.
        was_normalised = isinstance(agent, OnPolicyAlgorithm) and agent._last_original_obs is not None
        if was_normalised and not request.allow_missing_statistics:
            raise KDError(
                f"{source}: trained under VecNormalize, but it has no environment with its statistics "
                "(statistics=FILE, or allow_missing_statistics=True)"
            )
        return {}
    if not env.norm_obs:
        return {}
    records = env.obs_rms if isinstance(env.obs_rms, dict) else {OBSERVATION: env.obs_rms}
    return {key: normalizer_of(part.mean, part.var, env.clip_obs, env.epsilon) for key, part in records.items()}
