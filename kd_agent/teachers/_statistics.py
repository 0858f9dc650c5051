"""VecNormalize statistics from a file, without running anything in it."""

import io
import json
import math
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from kd_agent.errors import KDError
from kd_agent.policies import OBSERVATION, Normalizer
from kd_agent.policies.normalizer import UNBOUNDED
from kd_agent.policies.safe_files import read_capped

MAX_BYTES = 16 << 20
_READER = Path(__file__).with_name("_unpickle.py")
_SECONDS = 20


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
    # A few bytes may unpack to gigabytes: what the members declare is what is unpacked of them.
    declared = sum(member.file_size for member in zipfile.ZipFile(io.BytesIO(raw)).infolist())
    if declared > MAX_BYTES:
        raise KDError(f"not usable as statistics: it unpacks to more than {MAX_BYTES >> 20} MiB")
    with np.load(io.BytesIO(raw), allow_pickle=False) as archive:
        if any(name.startswith("observations") for name in archive.files):
            raise KDError("holds recorded data, not VecNormalize statistics; --teacher takes it")
        return normalizer_of(archive["mean"], archive["var"], archive["clip"], archive["epsilon"])


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
        normalizers[key] = normalizer_of(mean, var, document["clip"], document["epsilon"])
    return normalizers


def normalizer_of(mean: Any, var: Any, clip: Any, epsilon: Any) -> Normalizer:
    """VecNormalize's statistics of one observation.

    Args:
        mean: `[*O]`.
        var: `[*O]`.
        clip: Largest absolute value let through; infinite where everything is.
        epsilon: Added to the variance.

    Raises:
        KDError: They are no such numbers.
    """
    # VecNormalize(clip_obs=inf) clips nothing; a policy's file holds finite numbers alone.
    clip = min(float(clip), UNBOUNDED)
    epsilon = float(epsilon)
    if not (math.isfinite(epsilon) and clip > 0 and epsilon >= 0):
        raise KDError(f"clip {clip} and epsilon {epsilon} are not usable")
    return Normalizer(np.asarray(mean, np.float64), np.asarray(var, np.float64), clip, epsilon)
