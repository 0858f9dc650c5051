"""How closely a student agrees with a recording, on the episodes of it that no fit saw.

Letters: `S` states, `P` head parameters.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from kd_agent import plugins
from kd_agent.evaluation.agreement import EpisodesAgreement, agreement_of
from kd_agent.networks import PolicyOutput, Softening
from kd_agent.policies import Array, Policy
from kd_agent.rollouts.whole_episodes import Answers
from kd_agent.runs.seeds import seed_of
from kd_agent.teachers import RecordedTeacher

WHERE = "episodes held out of the recording"
"""What KL and agreement are measured on, as `result.json` says it."""


@dataclass(frozen=True)
class HeldOut:
    """What is measured there.

    Attributes:
        agreement: KL and agreement, over the held-out episodes.
        cross_entropy: Mean of -log q of the action that is the label (its mode), in nats; of continuous actions a
            density's.
    """

    agreement: EpisodesAgreement
    cross_entropy: float

    def figures(self) -> dict[str, Any]:
        """All of them by name, as JSON has them."""
        return {**self.agreement.figures(), "cross_entropy": self.cross_entropy, "agreement_on": WHERE}


def held_out_states(teacher: RecordedTeacher, seed: int) -> Array:
    """Which states of a recording a run holds out, `[S]`.

    Args:
        teacher: The recording.
        seed: The run's.
    """
    return teacher.recording.held_out(seed_of(seed, "held out"))


def measure_held_out(teacher: RecordedTeacher, student: Policy, seed: int) -> HeldOut:
    """Ask a student about the episodes that its run held out; nothing is played.

    Args:
        teacher: The recording.
        student: Who is asked.
        seed: The run's.
    """
    recording = teacher.recording
    chosen = held_out_states(teacher, seed)
    observations = {key: array[chosen] for key, array in recording.observations.items()}
    rows = _answers(student, observations, recording.starts[chosen])
    # Numbered anew: an interval over episodes is one over those that were held out.
    _, episode = np.unique(recording.episode[chosen], return_inverse=True)
    said = Answers(episode, recording.params[chosen], rows, steps=0)
    outputs = [PolicyOutput(torch.from_numpy(part)) for part in (said.student, said.teacher)]
    losses = plugins.load("losses", "ce").loss(*outputs, teacher.head, Softening())
    return HeldOut(agreement_of(teacher.head, said), float(losses.double().mean()))


def _answers(student: Policy, observations: dict[str, Array], starts: Array) -> Array:
    """A student's rows `[S, P]`; one with a memory sees state after state."""
    if not student.recurrent:
        return student.step_batch(observations, None, starts)[0]
    memory: Any = None
    rows = []
    for state in range(len(starts)):
        one = slice(state, state + 1)
        shown = {key: array[one] for key, array in observations.items()}
        row, memory = student.step_batch(shown, memory, starts[one])
        rows.append(row)
    return np.concatenate(rows)
