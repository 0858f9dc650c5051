"""Recorded data in an `.npz`: arrays by the names that follow, one state after the other.

Letters: `S` states, `P` head parameters, `*A` shape of an action, `*O` shape of an observation.

    observations             [S, *O]; or observations/KEY for each key of a Dict
    actions                  [S, *A]
    params, or logits        [S, P], the distributions; they are the labels where both are there
    rewards                  [S]
    terminations, terminals  [S], the step ended its episode
    truncations, timeouts    [S], the step was its episode's last, by a limit
    episode_starts           [S], the observation is the first of an episode
    drivers                  [S], who acted: 0 is the teacher
    squashed                 true where params are those of a Gaussian that goes through tanh
    action_low, action_high  [*A], the bounds of continuous actions
"""

import hashlib
import io
import zipfile
from collections.abc import Mapping
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

from kd_agent.environments import as_mapping
from kd_agent.errors import KDError
from kd_agent.policies import OBSERVATION, Array
from kd_agent.policies.safe_files import read_capped
from kd_agent.teachers._recording import MAX_BYTES, Steps, count_states, one_a_state
from kd_agent.teachers._request import Spaces

_OBSERVATIONS = "observations"
_OPTIONAL = {
    "actions": ("actions",),
    "params": ("params", "logits"),
    "rewards": ("rewards",),
    "terminations": ("terminations", "terminals"),
    "truncations": ("truncations", "timeouts"),
    "episode_starts": ("episode_starts",),
    "drivers": ("drivers",),
}
"""Names that an array may have, by what it is here; those behind the first are D4RL's, or usual elsewhere."""
_BOUNDS = ("action_low", "action_high")
_STATISTICS = {"mean", "var", "clip", "epsilon"}
_MOST_CATEGORIES = 1 << 16
"""Whole numbers up to this are taken for choices where no environment says so; each is a number of every label."""
_SHOWN = 8
"""Names of arrays that a message lists."""


def read_npz(path: Path, spaces: Spaces | None) -> tuple[Steps, str]:
    """What an `.npz` holds, and its SHA-256.

    Args:
        path: The file.
        spaces: Observation and action space; None: as the arrays suggest them.

    Raises:
        KDError: The file is missing, too large, damaged, or holds anything else.
    """
    raw = read_capped(path, MAX_BYTES)
    try:
        with np.load(io.BytesIO(raw), allow_pickle=False) as archive:
            _check_size(raw, archive.files)
            arrays = _arrays(archive)
            unread = sorted(set(archive.files) - _names_read(archive.files))
    except KDError as error:
        raise KDError(f"{path}: {error}") from None
    except Exception as error:  # np.load, zipfile and zlib raise all kinds on damage
        raise KDError(f"{path}: not usable as recorded data ({' '.join(str(error).split())[:120]})") from None
    steps = _steps(arrays, spaces, str(path))
    if unread:
        notes = (f"note: what {', '.join(unread[:_SHOWN])} of {path} may mean is not known; not read", *steps.notes)
        steps = replace(steps, notes=notes)
    return steps, hashlib.sha256(raw).hexdigest()


def _check_size(raw: bytes, names: list[str]) -> None:
    """Refuse what would unpack to more than a recording may have: a few bytes of zip may declare gigabytes."""
    if _STATISTICS.issubset(names):
        raise KDError("holds VecNormalize statistics, not recorded data; --statistics takes it")
    declared = sum(member.file_size for member in zipfile.ZipFile(io.BytesIO(raw)).infolist())
    if declared > MAX_BYTES:
        raise KDError(f"not usable as recorded data: it unpacks to more than {MAX_BYTES >> 20} MiB")


def _arrays(archive: Any) -> dict[str, Array]:
    """The arrays that have a meaning here, by the first of their names; what else there is stays unread."""
    found: dict[str, Array] = {}
    for name in archive.files:
        if _is_observation(name) or name in ("squashed", *_BOUNDS):
            found[name] = archive[name]
    for name, spellings in _OPTIONAL.items():
        there = [spelling for spelling in spellings if spelling in archive.files]
        if len(there) > 1:
            raise KDError(f"holds {there[0]} and {there[1]}, which are two names of one thing")
        if there:
            found[name] = archive[there[0]]
    if not any(map(_is_observation, found)):
        shown = ", ".join(sorted(archive.files)[:_SHOWN]) or "nothing"
        raise KDError(f"holds no observations (but {shown}); expected observations, and actions or params")
    return found


def _is_observation(name: str) -> bool:
    return name == _OBSERVATIONS or name.startswith(f"{_OBSERVATIONS}/")


def _names_read(names: list[str]) -> set[str]:
    known = {"squashed", *_BOUNDS, *chain(*_OPTIONAL.values())}
    return {name for name in names if name in known or _is_observation(name)}


def _steps(arrays: Mapping[str, Array], known: Spaces | None, where: str) -> Steps:
    observed = {name.partition("/")[2] or OBSERVATION: array for name, array in arrays.items() if _is_observation(name)}
    others = [(name, arrays.get(name)) for name in _OPTIONAL]
    states = count_states(observed, others, where)
    ended = _flags(arrays, "terminations", states, where) | _flags(arrays, "truncations", states, where)
    starts, ended = _boundaries(arrays, ended, states, where)
    rewards, drivers = (
        one_a_state(arrays[name], name, where) if name in arrays else None for name in ("rewards", "drivers")
    )
    squashed = bool(np.any(arrays.get("squashed", False)))
    notes: tuple[str, ...] = ()
    spaces = known or (gym.Space(), gym.Space())
    told = _told_actions(arrays, where)
    if known is None and states:
        try:
            spaces, notes = _inferred(observed, arrays, told, squashed=squashed)
        except KDError as error:
            raise KDError(f"{where}: {error}") from None
    return Steps(
        as_mapping(observed),
        arrays.get("actions"),
        arrays.get("params"),
        rewards,
        starts,
        ended,
        None if drivers is None else np.asarray(drivers != 0),
        spaces,
        squashed,
        notes,
    )


def _flags(arrays: Mapping[str, Array], name: str, states: int, where: str) -> Array:
    """Flags `[S]`; none set where there are none."""
    if name not in arrays:
        return np.zeros(states, bool)
    return np.asarray(one_a_state(arrays[name], name, where) != 0)


def _boundaries(arrays: Mapping[str, Array], ended: Array, states: int, where: str) -> tuple[Array, Array]:
    """Where episodes begin, and where they came to their end."""
    starts = np.zeros(states, bool)
    starts[:1] = True
    starts[1:] = ended[:-1]
    if "episode_starts" not in arrays:
        return starts, ended
    told = _flags(arrays, "episode_starts", states, where)
    if not {"terminations", "truncations"} & set(arrays):
        # Nothing else says how an episode ended: one was over where the next began.
        ended = np.append(told[1:], False)[:states]
    elif states and not told[0]:
        # Its beginning is not there: what it earned is not all in the file.
        ended = ended.copy()
        ended[: int(np.argmax(np.append(told[1:] | ended[:-1], True))) + 1] = False
    return starts | told, ended


def _told_actions(arrays: Mapping[str, Array], where: str) -> gym.Space[Any] | None:
    """The action space that the bounds say; None where there are none."""
    there = [arrays[name] for name in _BOUNDS if name in arrays]
    if not there:
        return None
    shape = arrays["actions"].shape[1:] if "actions" in arrays else there[0].shape
    fit = all(bound.dtype.kind in "fiu" and bound.shape == shape for bound in there)
    if len(there) < 2 or not fit or not np.all(there[0] < there[1]):
        raise KDError(
            f"{where}: action_low and action_high are no bounds of actions; expected shape {shape}, low < high"
        )
    low, high = (bound.astype(np.float32) for bound in there)
    return gym.spaces.Box(low, high, dtype=np.float32)


def _inferred(
    observed: Mapping[str, Array], arrays: Mapping[str, Array], told: gym.Space[Any] | None, *, squashed: bool
) -> tuple[tuple[gym.Space[Any], gym.Space[Any]], tuple[str, ...]]:
    """Spaces as the arrays suggest them where they do not tell, and a line that says so."""
    parts = {key: _observation_space(array, f"observations {key!r}") for key, array in observed.items()}
    shown: gym.Space[Any] = gym.spaces.Dict(parts)
    if list(parts) == [OBSERVATION]:
        shown = parts[OBSERVATION]
    if told is not None:
        return (shown, told), ()
    if "actions" in arrays:
        actions = _action_space(arrays["actions"])
        width = arrays.get("params", np.empty(0)).shape[-1]
        if isinstance(actions, gym.spaces.Discrete) and width > actions.n:
            # Nobody took the last actions, but the distributions know of them.
            actions = gym.spaces.Discrete(width)
    elif "params" in arrays:
        actions = _space_of_params(arrays["params"], squashed=squashed)
    else:
        return (shown, gym.Space()), ()
    # A space of several axes is printed over several lines.
    taken = " ".join(str(actions).split())
    note = f"note: the recording does not say what its actions are; they are taken for those of {taken}"
    return (shown, actions), (note,)


def _observation_space(array: Array, name: str) -> gym.Space[Any]:
    shape = array.shape[1:]
    if array.dtype.kind in "iu" and not shape:
        _check_categories(array, name)
        return gym.spaces.Discrete(int(array.max()) + 1)
    if array.dtype == np.uint8:
        return gym.spaces.Box(0, 255, shape, np.uint8)
    if array.dtype.kind in "iub":
        if array.max() > np.iinfo(np.int64).max:
            raise KDError(f"{name} go up to {array.max()}, more than int64 holds; --env says what they are")
        return gym.spaces.Box(int(array.min()), int(array.max()), shape, np.int64)
    return gym.spaces.Box(-np.inf, np.inf, shape, np.float32)


def _action_space(actions: Array) -> gym.Space[Any]:
    shape = actions.shape[1:]
    if actions.dtype.kind == "b" and shape:
        return gym.spaces.MultiBinary(shape[0] if len(shape) == 1 else shape)
    if actions.dtype.kind in "iub":
        _check_categories(actions, "actions")
    if actions.dtype.kind in "iub" and shape in ((), (1,)):
        return gym.spaces.Discrete(int(actions.max()) + 1)
    if actions.dtype.kind in "iub":
        return gym.spaces.MultiDiscrete(actions.astype(np.int64).max(axis=0) + 1)
    low, high = np.float32(actions.min(axis=0)), np.float32(actions.max(axis=0))
    # A part that never moved still needs a range: the stated density is a share of it.
    high = np.float32(np.where(high > low, high, low + np.maximum(1, 1e-3 * np.abs(low))))
    return gym.spaces.Box(low, high, dtype=np.float32)


def _check_categories(array: Array, name: str) -> None:
    """Refuse whole numbers that are hardly choices: negative ones, and those of a million."""
    least, most = int(array.min()), int(array.max())
    if least < 0 or most >= _MOST_CATEGORIES:
        raise KDError(
            f"{name} are whole numbers from {least} to {most}, and those from 0 to {_MOST_CATEGORIES - 1} are taken "
            "for choices; --env says what they are"
        )


def _space_of_params(params: Array, *, squashed: bool) -> gym.Space[Any]:
    if params.ndim != 2 or (squashed and params.shape[1] % 2):
        expected = "means and log standard deviations" if squashed else "numbers"
        raise KDError(f"params have shape {params.shape}, expected a row of {expected} a state")
    if squashed:
        return gym.spaces.Box(-1, 1, (params.shape[-1] // 2,), np.float32)
    return gym.spaces.Discrete(int(params.shape[-1]))
