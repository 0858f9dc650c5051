"""Recorded episodes as files: an `.npz` of arrays, or a Minari dataset; both are read back as a teacher.

Letters: `S` states, `T` steps, `P` head parameters, `*A` shape of an action, `*O` shape of an observation.
"""

import copy
import io
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

from kd_agent.environments import Recipe
from kd_agent.errors import KDError
from kd_agent.policies import OBSERVATION, Array
from kd_agent.policies.safe_files import write_atomically
from kd_agent.rollouts import RecordedEpisode
from kd_agent.settings import MINARI

Spaces = tuple[gym.Space[Any], gym.Space[Any]]
"""Observation and action space."""


@dataclass(frozen=True)
class Data:
    """What is written.

    Attributes:
        episodes: The episodes.
        spaces: Observation and action space.
        recipe: The environment.
        algorithm: What trained whoever labels.
        description: How the data came about.
        squashed: Whether the distributions are Gaussians that go through tanh.
    """

    episodes: Sequence[RecordedEpisode]
    spaces: Spaces
    recipe: Recipe
    algorithm: str
    description: str
    squashed: bool


def check_target(out: str) -> None:
    """Refuse what could not be written, before anything is played.

    Args:
        out: Path of an `.npz`, or `minari:ID`.

    Raises:
        KDError: It is neither, its folder is not there, or there is such a dataset already.
    """
    if out.startswith(MINARI):
        _check_dataset(out)
    elif not out.endswith(".npz"):
        raise KDError(f"--out {out}: expected *.npz, or minari:NAMESPACE/NAME-v0")
    elif not Path(out).absolute().parent.is_dir():
        raise KDError(f"{out}: its folder does not exist")


def write_npz(path: Path, data: Data, *, params: bool) -> None:
    """Write episodes as arrays by the names that a recording is read by.

    Args:
        path: The file.
        data: What is written.
        params: Whether the distributions are kept beside the actions.
    """
    arrays: dict[str, Array] = {}
    keys = list(data.episodes[0].observations)
    for key in keys:
        name = "observations" if keys == [OBSERVATION] else f"observations/{key}"
        arrays[name] = np.concatenate([episode.observations[key][:-1] for episode in data.episodes])
    for name in ("actions", "rewards", "drivers", *(["params"] if params else [])):
        arrays[name] = np.concatenate([getattr(episode, name) for episode in data.episodes])
    for name in ("terminations", "truncations"):
        arrays[name] = np.concatenate([_last_flag(episode, name) for episode in data.episodes])
    arrays["episode_starts"] = np.concatenate([np.arange(len(episode)) == 0 for episode in data.episodes])
    if params and data.squashed:
        arrays["squashed"] = np.array(True)
    actions = data.spaces[1]
    if isinstance(actions, gym.spaces.Box):
        arrays |= {"action_low": actions.low, "action_high": actions.high}
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]
    write_atomically(path, buffer.getvalue())


def write_minari(out: str, data: Data, *, params: bool) -> None:
    """Write episodes as a Minari dataset on this machine, images without loss.

    Args:
        out: `minari:ID`.
        data: What is written; the dataset names the environment where nothing is wrapped around it.
        params: Whether `infos` tell the distributions.

    Raises:
        KDError: Minari refuses it.
    """
    minari = import_module("minari")
    buffers = [_buffer(episode, data, params=params) for episode in data.episodes]
    with warnings.catch_warnings():
        # It asks for an author and a link, which a dataset on one's own machine need not have.
        warnings.simplefilter("ignore", UserWarning)
        try:
            minari.create_dataset_from_buffers(
                out.removeprefix(MINARI),
                buffers,
                env=_specification(data.recipe),
                observation_space=data.spaces[0],
                action_space=data.spaces[1],
                algorithm_name=data.algorithm,
                description=data.description,
                jpeg_encoding=False,
            )
        except (ValueError, TypeError, NotImplementedError) as error:
            raise KDError(f"{out}: Minari cannot write it ({' '.join(str(error).split())[:160]})") from None


def _check_dataset(out: str) -> None:
    name = out.removeprefix(MINARI)
    try:
        parse = import_module("minari.dataset.minari_dataset").parse_dataset_id
        folder = import_module("minari.storage.datasets_root_dir").get_dataset_path(name)
    except ImportError:
        raise KDError(f"{out}: needs Minari: pip install 'minari[hdf5]'") from None
    try:
        parse(name)
    except (ValueError, TypeError):
        wanted = "NAMESPACE/NAME-vN, a namespace of two letters at least"
        raise KDError(f"{out}: {name!r} is no id of a Minari dataset; expected {wanted}") from None
    if folder.exists():
        raise KDError(f"{out}: there is such a dataset already, in {folder}; choose another name or version")


def _specification(recipe: Recipe) -> Any:
    """What Gymnasium makes the environment by; None where wrappers make another of it."""
    if recipe.wrappers or recipe.teacher_wrappers or recipe.frame_stack > 1:
        return None
    # A copy: Gymnasium's own is what everybody's environments are made from.
    specification = copy.deepcopy(gym.spec(recipe.env_id))
    specification.kwargs = {**specification.kwargs, **recipe.env_kwargs}
    if recipe.max_episode_steps:
        specification.max_episode_steps = recipe.max_episode_steps
    return specification


def _buffer(episode: RecordedEpisode, data: Data, *, params: bool) -> Any:
    """An episode as Minari takes it."""
    minari_data = import_module("minari.data_collector.episode_buffer")
    infos: dict[str, Array] = {"drivers": episode.drivers}
    if params:
        infos["squashed_params" if data.squashed else "params"] = episode.params
    return minari_data.EpisodeBuffer(
        seed=episode.seed,
        observations=_observations(episode.observations, data.spaces[0]),
        actions=episode.actions,
        rewards=episode.rewards,
        terminations=_last_flag(episode, "terminations"),
        truncations=_last_flag(episode, "truncations"),
        infos=infos,
    )


def _observations(observations: Mapping[str, Array], space: gym.Space[Any]) -> Any:
    """Observations `[T + 1, *O]` in the space's own types: policies read every float as float32."""
    if isinstance(space, gym.spaces.Dict):
        return {key: observations[key].astype(part.dtype, copy=False) for key, part in space.items()}
    return observations[OBSERVATION].astype(space.dtype, copy=False)


def _last_flag(episode: RecordedEpisode, name: str) -> Array:
    """Flags `[T]` of which the last may be set."""
    flags = np.zeros(len(episode), bool)
    flags[-1] = episode.terminated if name == "terminations" else episode.truncated
    return flags
