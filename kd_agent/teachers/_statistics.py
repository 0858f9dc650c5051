"""VecNormalize statistics, found beside a teacher's zip."""

import io
import json
import math
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from kd_agent.errors import KDError
from kd_agent.policies import OBSERVATION, Normalizer
from kd_agent.policies.safe_files import read_capped

MAX_BYTES = 16 << 20
_NAMES = ("vecnormalize.npz", "vecnormalize.pkl", "vec_normalize.pkl")
_READER = Path(__file__).with_name("_unpickle.py")
_SECONDS = 20


def find_statistics(teacher: Path, statistics: str | None = None) -> Mapping[str, Normalizer] | None:
    """The statistics of a teacher by observation key; None where there are none.

    Args:
        teacher: Its zip; looked for are `<stem>.npz`, and a `vecnormalize` file in the folder `<stem>`, in
            the zip's own folder and, where that is an RL Zoo run, in the run's settings folder.
        statistics: The file to use instead.

    Raises:
        KDError: The file that is named or found is not usable.
    """
    if statistics is not None:
        return read_statistics(Path(statistics))
    # An .npz of the teacher's own name is ours, and was written for it alone.
    places = [teacher.with_suffix(".npz")]
    for folder in _folders(teacher):
        places += [folder / name for name in _NAMES]
    for path in places:
        if path.is_file():
            return read_statistics(path)
    return None


def _folders(teacher: Path) -> list[Path]:
    """Where statistics may lie, the likeliest place first."""
    folders = [teacher.with_suffix(""), teacher.parent]
    if teacher.stem.startswith(("best_model", "rl_model")):
        # RL Zoo names a run's settings folder by the environment, and its best model never by it.
        settings = sorted(teacher.parent.glob("*/config.yml"))
        folders += [path.parent for path in settings[:1]]
    return folders


def read_statistics(path: Path) -> Mapping[str, Normalizer]:
    """Statistics by key, from a `vecnormalize.pkl` or an `.npz` with `mean`, `var`, `clip` and `epsilon`.

    Empty where the file says that observations are not normalised.

    Raises:
        KDError: The file is missing, too large, damaged, or holds anything else.
    """
    raw = read_capped(path, MAX_BYTES)
    try:
        if not raw.startswith(b"PK"):
            return _from_document(_unpickle(raw))
        return {OBSERVATION: _from_npz(raw)}
    except KDError as error:
        raise KDError(f"{path}: {error}") from None
    except Exception as error:  # np.load, zipfile and zlib raise all kinds on damage
        raise KDError(f"{path}: not usable as statistics ({' '.join(str(error).split())[:120]})") from None


def write_statistics(path: Path, normalizer: Normalizer) -> None:
    """Write what `read_statistics` reads.

    Args:
        path: The `.npz` to write.
        normalizer: The statistics of a plain observation space.
    """
    np.savez(path, mean=normalizer.mean, var=normalizer.var, clip=normalizer.clip, epsilon=normalizer.epsilon)


def _from_npz(raw: bytes) -> Normalizer:
    with np.load(io.BytesIO(raw), allow_pickle=False) as archive:
        return _normalizer(archive["mean"], archive["var"], archive["clip"], archive["epsilon"])


def _unpickle(raw: bytes) -> dict[str, Any]:
    """What the reader in its own process makes of a pickle."""
    # -I and -S: neither the environment, the working folder nor installed packages can change what the reader is.
    command = [sys.executable, "-I", "-S", str(_READER)]
    try:
        done = subprocess.run(  # noqa: S603 - our own file
            command, input=raw, capture_output=True, timeout=_SECONDS, check=False
        )
        document = json.loads(done.stdout)
    except (subprocess.TimeoutExpired, OSError, ValueError):
        raise KDError("its pickle cannot be read") from None
    if "error" in document:
        raise KDError(f"not usable as statistics: {document['error']}")
    return dict(document)


def _from_document(document: Mapping[str, Any]) -> dict[str, Normalizer]:
    normalizers = {}
    for key, part in document["parts"].items():
        mean = np.reshape(part["mean"], part["shape"])
        var = np.reshape(part["var"], part["shape"])
        normalizers[key] = _normalizer(mean, var, document["clip"], document["epsilon"])
    return normalizers


def _normalizer(mean: Any, var: Any, clip: Any, epsilon: Any) -> Normalizer:
    clip = float(clip)
    epsilon = float(epsilon)
    if not (math.isfinite(clip) and math.isfinite(epsilon) and clip > 0 and epsilon >= 0):
        raise KDError(f"clip {clip} and epsilon {epsilon} are not usable")
    return Normalizer(np.asarray(mean, np.float64), np.asarray(var, np.float64), clip, epsilon)
