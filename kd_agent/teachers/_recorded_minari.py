"""A Minari dataset that lies on this machine, read as data.

Minari itself reads the arrays; what it would run is looked at first: it makes an environment where the metadata lack
spaces, and HDF5 files may lead to other files, or hold more than anybody can read.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

from kd_agent.environments import as_mapping, observation_specs
from kd_agent.errors import KDError
from kd_agent.policies import Array
from kd_agent.policies.safe_files import read_capped
from kd_agent.settings import MINARI
from kd_agent.teachers._recording import MAX_BYTES, Steps, count_states, one_a_state

PARAMS, SQUASHED, DRIVERS = "params", "squashed_params", "drivers"
"""Names within `infos` of the teacher's rows, of those of a Gaussian that goes through tanh, and of who acted."""
_METADATA = "metadata.json"
_DATA = "main_data.hdf5"
_MAX_METADATA = 4 << 20
_MAX_EPISODES = 1 << 20


def read_minari(source: str) -> tuple[Steps, str]:
    """What a dataset holds, and the SHA-256 of its files.

    Args:
        source: `minari:ID`.

    Raises:
        KDError: Minari is not installed, or the dataset is not here, damaged, or not of arrays.
    """
    name = source.removeprefix(MINARI)
    folder = dataset_folder(name, source)
    metadata, digest = _checked_metadata(folder, source)
    digest.update(_checked_data(folder / _DATA, source))
    try:
        storage = import_module("minari.dataset.minari_storage").MinariStorage.read(folder)
        spaces = storage.observation_space, storage.action_space
        specs = observation_specs(spaces[0])
        # What no float32 holds is refused below, with its place.
        with np.errstate(over="ignore"):
            episodes = list(_episodes(storage, range(int(metadata["total_episodes"]))))
    except KDError as error:
        raise KDError(f"{source}: {error}") from None
    except Exception as error:  # h5py, json and Minari raise all kinds on damage
        raise KDError(f"{source}: damaged dataset ({' '.join(str(error).split())[:120]})") from None
    if not episodes:
        raise KDError(f"{source}: holds no episodes")
    steps = _joined(episodes, list(specs), spaces, source)
    return steps, digest.hexdigest()


def recorded_environment(source: str) -> str | None:
    """The id of the environment that a dataset names; nothing is imported or made for it.

    Args:
        source: `minari:ID`.
    """
    folder = dataset_folder(source.removeprefix(MINARI), source)
    metadata, _ = _checked_metadata(folder, source)
    try:
        return str(json.loads(metadata["env_spec"])["id"])
    except (KeyError, TypeError, ValueError, RecursionError):
        return None


def dataset_folder(name: str, source: str) -> Path:
    """Where the data of a dataset lie on this machine.

    Args:
        name: Its id.
        source: What was typed, for messages.

    Raises:
        KDError: Minari is not installed, the id is none, or there is no such dataset here.
    """
    try:
        minari_dataset = import_module("minari.dataset.minari_dataset")
        root = import_module("minari.storage.datasets_root_dir").get_dataset_path()
    except ImportError:
        raise KDError(f"{source}: needs Minari: pip install 'minari[hdf5]'") from None
    try:
        minari_dataset.parse_dataset_id(name)
    except (ValueError, TypeError):
        wanted = "NAMESPACE/NAME-vN, a namespace of two letters at least"
        raise KDError(f"{source}: {name!r} is no id of a Minari dataset; expected {wanted}") from None
    folder = Path(root, name, "data")
    if not folder.is_dir():
        raise KDError(
            f"{source}: there is no such dataset in {root}; `minari download {name}` fetches a public one, "
            "MINARI_DATASETS_PATH names another folder"
        )
    return folder


def _checked_metadata(folder: Path, source: str) -> tuple[dict[str, Any], Any]:
    """A dataset's metadata, and a hash that has begun with them."""
    raw = read_capped(folder / _METADATA, _MAX_METADATA)
    try:
        metadata = json.loads(raw)
        episodes = int(metadata["total_episodes"])
    except (KeyError, TypeError, ValueError, RecursionError):
        raise KDError(f"{source}: damaged dataset ({_METADATA} is not what Minari writes)") from None
    for part in ("observation_space", "action_space"):
        # Without it Minari would make the environment that the file names, and so run it.
        if not isinstance(metadata.get(part), str):
            raise KDError(f"{source}: its {_METADATA} has no {part}, which a recording is read by")
    if metadata.get("data_format") != "hdf5":
        raise KDError(f"{source}: is of the format {metadata.get('data_format')!r}; hdf5 is what is read")
    if not 0 <= episodes <= _MAX_EPISODES:
        raise KDError(f"{source}: claims {episodes} episodes; {_MAX_EPISODES:,} are read at most")
    return metadata, hashlib.sha256(raw)


def _checked_data(path: Path, source: str) -> bytes:
    """The SHA-256 of the data; refused is what leads to other files, or unpacks to more than can be read."""
    h5py = import_module("h5py")
    raw = read_capped(path, MAX_BYTES)
    # A dataset of no episodes is an empty file, which HDF5 cannot open.
    if not raw:
        raise KDError(f"{source}: holds no episodes")
    total = 0
    try:
        with h5py.File(path, "r") as file:
            waiting = [file]
            while waiting:
                group = waiting.pop()
                for key in group:
                    if not isinstance(group.get(key, getlink=True), h5py.HardLink):
                        raise KDError(f"{source}: {group.name}/{key} leads elsewhere; a dataset lies in its own file")
                    member = group[key]
                    if isinstance(member, h5py.Group):
                        waiting.append(member)
                        continue
                    if member.external or member.is_virtual:
                        raise KDError(f"{source}: {member.name} lies in another file; a dataset lies in its own")
                    total += member.nbytes
    except KDError:
        raise
    except Exception as error:  # h5py raises all kinds on damage
        raise KDError(f"{source}: damaged dataset ({' '.join(str(error).split())[:120]})") from None
    if total > MAX_BYTES:
        raise KDError(f"{source}: unpacks to more than {MAX_BYTES >> 20} MiB")
    return hashlib.sha256(raw).digest()


def _episodes(storage: Any, which: Sequence[int]) -> Iterator[dict[str, Any]]:
    """Arrays of each episode, one row a step: the observation after the last step has no label."""
    for episode in storage.get_episodes(which):
        steps = len(episode["rewards"])
        infos = episode.get("infos") or {}
        observations = {key: array[:steps] for key, array in as_mapping(episode["observations"]).items()}
        row: dict[str, Any] = {name: np.asarray(episode[name]) for name in ("actions", "rewards")}
        row["ended"] = np.asarray(episode["terminations"] | episode["truncations"], bool)
        for name in (PARAMS, SQUASHED, DRIVERS):
            row[name] = np.asarray(infos[name])[:steps] if name in infos else None
        yield {**row, "observations": observations}


def _joined(
    episodes: Sequence[dict[str, Any]], keys: Sequence[str], spaces: tuple[gym.Space[Any], gym.Space[Any]], where: str
) -> Steps:
    """All episodes, one after the other."""
    observations = {key: np.concatenate([episode["observations"][key] for episode in episodes]) for key in keys}
    joined: dict[str, Array | None] = {}
    for name in ("actions", "rewards", "ended", PARAMS, SQUASHED, DRIVERS):
        parts = [episode[name] for episode in episodes]
        # What some of the episodes lack is told of none.
        joined[name] = None if any(part is None for part in parts) else np.concatenate(parts)
    count_states(observations, list(joined.items()), where)
    for name in ("rewards", "ended", DRIVERS):
        column = joined[name]
        joined[name] = None if column is None else one_a_state(column, name, where)
    lengths = np.array([len(episode["rewards"]) for episode in episodes])
    ended = joined["ended"]
    assert ended is not None
    starts = np.zeros(len(ended), bool)
    starts[(lengths.cumsum() - lengths)[lengths > 0]] = True
    drivers = joined[DRIVERS]
    return Steps(
        observations,
        joined["actions"],
        joined[PARAMS] if joined[SQUASHED] is None else joined[SQUASHED],
        joined["rewards"],
        starts,
        ended,
        None if drivers is None else np.asarray(drivers != 0),
        spaces,
        squashed=joined[SQUASHED] is not None,
    )
