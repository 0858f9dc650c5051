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
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

from kd_agent.environments import as_mapping
from kd_agent.errors import KDError
from kd_agent.policies import OBSERVATION, Array
from kd_agent.policies.safe_files import read_capped
from kd_agent.teachers._recording import Steps, count_states

MAX_BYTES = 1 << 30
"""Bytes of a recording, as a file and unpacked: ten million states of 20 numbers, or 37,000 images."""
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


def read_npz(path: Path) -> tuple[Steps, str]:
    """What an `.npz` holds, and its SHA-256.

    Raises:
        KDError: The file is missing, too large, damaged, or holds anything else.
    """
    raw = read_capped(path, MAX_BYTES)
    try:
        with np.load(io.BytesIO(raw), allow_pickle=False) as archive:
            _check_size(raw, archive.files)
            arrays = _arrays(archive)
    except KDError as error:
        raise KDError(f"{path}: {error}") from None
    except Exception as error:  # np.load, zipfile and zlib raise all kinds on damage
        raise KDError(f"{path}: not usable as recorded data ({' '.join(str(error).split())[:120]})") from None
    return _steps(arrays, str(path)), hashlib.sha256(raw).hexdigest()


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
        if name == _OBSERVATIONS or name.startswith(f"{_OBSERVATIONS}/") or name in ("squashed", *_BOUNDS):
            found[name] = archive[name]
    for name, spellings in _OPTIONAL.items():
        there = [spelling for spelling in spellings if spelling in archive.files]
        if len(there) > 1:
            raise KDError(f"holds {there[0]} and {there[1]}, which are two names of one thing")
        if there:
            found[name] = archive[there[0]]
    if not any(name.startswith(_OBSERVATIONS) for name in found):
        shown = ", ".join(sorted(archive.files)[:8]) or "nothing"
        raise KDError(f"holds no observations (but {shown}); expected observations, and actions or params")
    return found


def _steps(arrays: Mapping[str, Array], where: str) -> Steps:
    observed = {
        name.partition("/")[2] or OBSERVATION: array for name, array in arrays.items() if name.startswith(_OBSERVATIONS)
    }
    others = [(name, arrays.get(name)) for name in _OPTIONAL]
    states = count_states(observed, others, where)
    ended = _flags(arrays, "terminations", states, where) | _flags(arrays, "truncations", states, where)
    starts, ended = _boundaries(arrays, ended, states, where)
    drivers = arrays.get("drivers")
    squashed = bool(np.any(arrays.get("squashed", False)))
    told = _told_actions(arrays, where)
    spaces, notes = _inferred(observed, arrays, told, squashed=squashed) if states else ((gym.Space(), gym.Space()), ())
    return Steps(
        as_mapping(observed),
        arrays.get("actions"),
        arrays.get("params"),
        arrays.get("rewards"),
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
    flags = arrays[name]
    if flags.shape not in ((states,), (states, 1)) or flags.dtype.kind not in "fiub":
        raise KDError(f"{where}: {name} have shape {flags.shape} and type {flags.dtype}, expected ({states},) flags")
    return np.asarray(flags.reshape(states) != 0)


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
    parts = {key: _observation_space(array) for key, array in observed.items()}
    shown: gym.Space[Any] = gym.spaces.Dict(parts)
    if list(parts) == [OBSERVATION]:
        shown = parts[OBSERVATION]
    if told:
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
    note = f"note: the recording does not say what its actions are; they are taken for those of {actions}"
    return (shown, actions), (note,)


def _observation_space(array: Array) -> gym.Space[Any]:
    shape = array.shape[1:]
    if array.dtype.kind in "iu" and not shape:
        return gym.spaces.Discrete(int(array.max()) + 1)
    if array.dtype == np.uint8:
        return gym.spaces.Box(0, 255, shape, np.uint8)
    if array.dtype.kind in "iub":
        return gym.spaces.Box(int(array.min()), int(array.max()), shape, np.int64)
    return gym.spaces.Box(-np.inf, np.inf, shape, np.float32)


def _action_space(actions: Array) -> gym.Space[Any]:
    shape = actions.shape[1:]
    if actions.dtype.kind == "b" and shape:
        return gym.spaces.MultiBinary(shape[0] if len(shape) == 1 else shape)
    if actions.dtype.kind in "iub" and shape in ((), (1,)):
        return gym.spaces.Discrete(int(actions.max()) + 1)
    if actions.dtype.kind in "iub":
        return gym.spaces.MultiDiscrete(actions.astype(np.int64).max(axis=0) + 1)
    low, high = actions.min(axis=0), actions.max(axis=0)
    # A part that never moved still needs a range: the stated density is a share of it.
    high = np.where(high > low, high, low + 1)
    return gym.spaces.Box(np.float32(low), np.float32(high), dtype=np.float32)


def _space_of_params(params: Array, *, squashed: bool) -> gym.Space[Any]:
    if squashed:
        return gym.spaces.Box(-1, 1, (params.shape[-1] // 2,), np.float32)
    return gym.spaces.Discrete(int(params.shape[-1]))
