"""Which VecNormalize statistics an agent gets: those that are named, or found where they may lie and fit.

Nothing is taken from where it merely lies without a word: a warning names the file.
"""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kd_agent.errors import KDError
from kd_agent.networks import Observations
from kd_agent.policies import Normalizer
from kd_agent.teachers._request import Request
from kd_agent.teachers._statistics import read_statistics
from kd_agent.teachers._statistics_places import near_places, own_places, places_above

Normalizers = Mapping[str, Normalizer]
"""Statistics by observation key; empty where observations are not normalised."""
_FAR = 100.0
"""An observation from here on lies far outside what networks are trained on raw."""


@dataclass(frozen=True)
class Evidence:
    """What an agent and its settings say of its normalisation.

    Attributes:
        agent: Its zip, or the folder that it was unpacked into.
        normalised: Whether it was trained under VecNormalize; None where nothing says.
        shapes: Shape of each observation that it sees, by key.
    """

    agent: Path
    normalised: bool | None
    shapes: Mapping[str, tuple[int, ...]]


def find_statistics(evidence: Evidence, request: Request) -> Normalizers | None:
    """The statistics of an agent; None where there are none.

    Args:
        evidence: What is known of it.
        request: How it is asked for.

    Raises:
        KDError: The file that is named does not fit; or it needs statistics and none or several fit.
    """
    if request.statistics is not None:
        return _named(Path(request.statistics), evidence)
    if evidence.normalised is False:
        _say_what_is_not_applied(evidence)
        return None
    own = own_places(evidence.agent)
    if own:
        statistics = _named(own[0], evidence)
        if not evidence.normalised:
            _say_what_is_taken(own[0], evidence)
        return statistics
    for places in (near_places, places_above):
        fitting = _fitting(places(evidence.agent), evidence)
        if len(fitting) > 1 and not request.allow_missing_statistics:
            names = ", ".join(str(path) for path in fitting)
            raise KDError(
                f"{evidence.agent}: several files of statistics fit it: {names}; --statistics FILE says which"
            )
        for path, statistics in fitting.items():
            if len(fitting) == 1:
                _say_what_is_taken(path, evidence)
                return statistics
    if evidence.normalised and not request.allow_missing_statistics:
        raise KDError(
            f"{evidence.agent}: trained under VecNormalize, but its statistics are missing "
            "(--statistics FILE, or --allow-missing-statistics)"
        )
    return None


def check_fit(statistics: Normalizers, shapes: Mapping[str, tuple[int, ...]], source: str) -> None:
    """Require statistics to be of observations that there are.

    Args:
        statistics: By key.
        shapes: Shape of each observation, by key.
        source: Their file, for the message.

    Raises:
        KDError: A key or a shape is another one.
    """
    for key, normalizer in statistics.items():
        if key not in shapes:
            raise KDError(f"{source}: statistics of {sorted(statistics)}, the observations are {sorted(shapes)}")
        if normalizer.mean.shape != shapes[key]:
            raise KDError(f"{source}: statistics of shape {normalizer.mean.shape} for {key!r} of {shapes[key]}")


class Doubt:
    """Warns once where an agent that may lack its statistics is shown what unnormalised networks are not fed.

    Args:
        agent: Its name.
    """

    def __init__(self, agent: str) -> None:
        self._agent = agent
        self._is_open = True

    def look(self, observations: Observations) -> None:
        """Look at a batch `[B, *O]` by key."""
        if not self._is_open:
            return
        for key, array in observations.items():
            numbers = np.asarray(array)
            # Bytes are images or categories, which networks scale or encode by themselves.
            if numbers.dtype.kind != "f" or not numbers.size:
                continue
            largest = float(np.abs(numbers).max())
            if largest > _FAR:
                self._is_open = False
                _warn(
                    f"{self._agent}: does not say whether it was trained under VecNormalize, no statistics lie beside "
                    f"it, and {key!r} reaches {largest:.3g}: without them it may act at random "
                    "(--statistics FILE, or --allow-missing-statistics if it has none)"
                )
                return


def _named(path: Path, evidence: Evidence) -> Normalizers:
    statistics = read_statistics(path)
    check_fit(statistics, evidence.shapes, str(path))
    return statistics


def _fitting(paths: Sequence[Path], evidence: Evidence) -> dict[Path, Normalizers]:
    """Those files that are statistics and fit; of several with one content the first."""
    found: dict[Path, Normalizers] = {}
    for path in paths:
        try:
            statistics = _named(path, evidence)
        except KDError:  # a pickle or archive of something else, or of another agent
            continue
        if not any(_equal(statistics, other) for other in found.values()):
            found[path] = statistics
    return found


def _equal(one: Normalizers, other: Normalizers) -> bool:
    if one.keys() != other.keys():
        return False
    for key, normalizer in one.items():
        same_mean = np.array_equal(normalizer.mean, other[key].mean)
        if not same_mean or not np.array_equal(normalizer.var, other[key].var):
            return False
    return True


def _say_what_is_taken(path: Path, evidence: Evidence) -> None:
    _warn(f"{evidence.agent}: takes {path} for its VecNormalize statistics (--statistics FILE for others)")


def _say_what_is_not_applied(evidence: Evidence) -> None:
    """Name the files that would fit an agent which was trained without."""
    fitting = _fitting([*own_places(evidence.agent), *near_places(evidence.agent)], evidence)
    for path, statistics in fitting.items():
        if statistics:
            _warn(
                f"{evidence.agent}: was not trained under VecNormalize: {path} belongs to another agent and is not "
                "applied (--statistics FILE applies it)"
            )


def _warn(message: str) -> None:
    warnings.warn(message, stacklevel=3)
