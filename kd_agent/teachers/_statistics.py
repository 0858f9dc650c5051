"""VecNormalize statistics, found beside a teacher's zip."""

import io
from pathlib import Path

import numpy as np

from kd_agent.errors import KDError
from kd_agent.files import read_capped
from kd_agent.normalizer import Normalizer

MAX_BYTES = 16 << 20


def find_statistics(teacher: Path, given: str | None = None) -> Normalizer | None:
    """The statistics of a teacher, from `given` or from the usual places; None where there are none."""
    if given is not None:
        return read_statistics(Path(given))
    beside = teacher.with_suffix("")
    for path in (teacher.with_suffix(".npz"), beside / "vecnormalize.npz", teacher.parent / "vecnormalize.npz"):
        if path.is_file():
            return read_statistics(path)
    return None


def read_statistics(path: Path) -> Normalizer:
    """Statistics from an `.npz` with `mean`, `var`, `clip` and `epsilon`; KDError where that fails."""
    raw = read_capped(path, MAX_BYTES)
    try:
        with np.load(io.BytesIO(raw), allow_pickle=False) as archive:
            values = {key: archive[key] for key in ("mean", "var", "clip", "epsilon")}
    except (ValueError, OSError, EOFError, KeyError) as error:
        raise KDError(f"{path}: not usable as normalisation statistics ({error})") from None
    return Normalizer(values["mean"], values["var"], float(values["clip"]), float(values["epsilon"]))


def write_statistics(path: Path, normalizer: Normalizer) -> None:
    """Write what `read_statistics` reads."""
    np.savez(path, mean=normalizer.mean, var=normalizer.var, clip=normalizer.clip, epsilon=normalizer.epsilon)
