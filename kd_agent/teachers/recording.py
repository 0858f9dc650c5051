"""Recorded data in the place of a teacher: actions or distributions, in an `.npz` or a Minari dataset.

Nobody stands behind it who could be asked: it labels the states that are in it, and no others.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from kd_agent.environments import check_same, observation_specs
from kd_agent.errors import KDError
from kd_agent.networks import Observations, Origin, PolicyOutput, State, Teacher, head_for
from kd_agent.policies import Array
from kd_agent.settings import MINARI, names_recording
from kd_agent.teachers._recorded_minari import read_minari, recorded_environment
from kd_agent.teachers._recorded_npz import read_npz
from kd_agent.teachers._recording import Recording, Steps, recording_of
from kd_agent.teachers._request import Request, Spaces

RECORDING = "recording"
"""What an origin calls the algorithm of a recording's teacher, which nobody knows."""


class RecordedTeacher(Teacher):
    """What somebody did, and nobody who could be asked.

    Args:
        recording: The states and their labels.
        spaces: Observation and action space.
        origin: Where it comes from.
        squashed: Whether a Box's labels are those of a Gaussian that goes through tanh.

    Attributes:
        recording: The same.
        spaces: The same.
    """

    unread = "it is a recording"

    def __init__(self, recording: Recording, spaces: Spaces, origin: Origin, *, squashed: bool = False) -> None:
        self.recording = recording
        self.spaces = spaces
        self.origin = origin
        self.observations = observation_specs(spaces[0])
        self.head = head_for(spaces[1], squashed=squashed)

    def __call__(
        self, observations: Observations, state: State = None, episode_start: Array | None = None
    ) -> PolicyOutput:
        """Refuse to label what was not recorded.

        Args:
            observations: As `Teacher` has it, and so for the others.
            state: The memory.
            episode_start: Where it begins anew.

        Raises:
            KDError: Always.
        """
        raise self.refusal()

    def refusal(self) -> KDError:
        """What is said to whoever would ask it."""
        return KDError(
            f"{self.origin.source}: a recording answers only for what was recorded, and cannot be asked about other "
            "states; distil it alone, and go on with the student"
        )

    def first_label(self) -> PolicyOutput:
        """The label of the first state, for checks of what labels look like."""
        return PolicyOutput(torch.from_numpy(self.recording.params[:1]))


def accepts(source: Any) -> bool:
    """Whether this plug-in reads `source`."""
    return isinstance(source, str) and names_recording([source])


def load(source: str, request: Request) -> RecordedTeacher:
    """Read recorded data.

    Args:
        source: Path of an `.npz`, or `minari:ID`.
        request: How it is asked for; of its settings, only the spaces concern a recording.

    Raises:
        KDError: It is missing, damaged or empty, or does not fit the spaces.
    """
    is_minari = source.startswith(MINARI)
    steps, digest = read_minari(source) if is_minari else read_npz(Path(source), request.env)
    spaces = request.env or steps.spaces
    # An .npz says nothing of its spaces, which are then the environment's.
    check_same(steps.spaces[1], spaces[1], f"{source}: the recorded actions", bounds=False)
    if not len(steps.starts):
        raise KDError(f"{source}: holds no states")
    if steps.actions is None and steps.params is None:
        raise KDError(f"{source}: holds neither actions nor params, of which one is a label")
    squashed = steps.squashed and steps.params is not None
    head = head_for(spaces[1], squashed=squashed)
    steps = replace(steps, observations=_as_observed(steps, spaces, source))
    recording = recording_of(steps, head.spec, source)
    return RecordedTeacher(recording, spaces, Origin(source, digest, RECORDING, None), squashed=squashed)


def environment_of(source: str) -> str | None:
    """The id of the environment that a recording names; None where it names none. Nothing is imported for it.

    Args:
        source: Path of an `.npz`, or `minari:ID`.
    """
    return recorded_environment(source) if source.startswith(MINARI) else None


def _as_observed(steps: Steps, spaces: Spaces, source: str) -> dict[str, Array]:
    """Recorded observations `[S, *O]` by key, as those of a space.

    Raises:
        KDError: They are not.
    """
    observed = {}
    for key, spec in observation_specs(spaces[0]).items():
        if key not in steps.observations:
            there = ", ".join(steps.observations)
            raise KDError(f"{source}: holds no observation {key!r}, but {there}")
        array = steps.observations[key]
        if array.shape[1:] != spec.shape:
            raise KDError(f"{source}: observations {key!r} have shape {array.shape[1:]}, expected {spec.shape}")
        if spec.categories and (array.min() < 0 or (array >= np.asarray(spec.categories)).any()):
            raise KDError(f"{source}: observations {key!r} name categories beyond the {spec.categories} that there are")
        if array.dtype.kind == "f" and np.dtype(spec.dtype).kind != "f":
            raise KDError(f"{source}: observations {key!r} are {array.dtype}, expected {spec.dtype}")
        if np.dtype(spec.dtype).kind in "iu":
            least, most = int(array.min()), int(array.max())
            held = np.iinfo(spec.dtype)
            if least < held.min or most > held.max:
                raise KDError(
                    f"{source}: observations {key!r} are from {least} to {most}, expected {spec.dtype}, "
                    f"{held.min} to {held.max}"
                )
        observed[key] = array.astype(spec.dtype, copy=False)
    return observed
