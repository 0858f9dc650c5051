"""Whether a written file acts as the agent that it was written from, in a runtime of its own, where the agent has been.

Letters: `B` steps, `A` numbers of an action, `P` head parameters.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from kd_agent import plugins
from kd_agent.deployment.agents import Agent
from kd_agent.deployment.walk import Walk, answers, batches
from kd_agent.errors import KDError
from kd_agent.export import Played, RuntimeMissingError, Steps
from kd_agent.policies import MASKED, Array, HeadSpec, Policy, PolicyGraph
from kd_agent.teachers import load_teacher

TOLERANCE = 1e-5
"""How far a number of an action may lie off, as a share of its range.

Sums of floats depend on their order: NumPy's own answers lie up to 1e-6 off what float64 gives (SAC's 256 units).
"""
TIE = 1e-6
"""How near two choices lie, as a share of the row's largest number, where the order of sums decides between them."""


@dataclass(frozen=True)
class Parity:
    """How a file compares with its agent.

    Attributes:
        name: The file's.
        played: What it answered, and what ran it; None where nothing here can.
        reason: Why not.
        walked: Where the agent has been, and what it did.
        off: How far their actions lie apart, `[B]`, as `distances` has it.
        tied: Where they are two choices as good as each other, `[B]`.
        is_box: Whether actions are numbers of a range.
    """

    name: str
    walked: Walk
    played: Played | None = None
    reason: str = ""
    off: Array = field(default_factory=lambda: np.zeros(0))
    tied: Array = field(default_factory=lambda: np.zeros(0, bool))
    is_box: bool = False

    @property
    def alike(self) -> Array:
        """Where both do the same, `[B]`."""
        return np.asarray((self.off <= TOLERANCE) | self.tied)

    @property
    def holds(self) -> bool:
        """Whether nothing differs."""
        return bool(self.alike.all())

    def __str__(self) -> str:
        if self.played is None:
            return f"{self.name}: not checked: {self.reason}"
        same, total = int(self.alike.sum()), len(self.alike)
        notes = [self.played.runtime]
        if self.tied.any():
            notes.append(f"{self.tied.sum():,} of them a tie, where the order of sums decides")
        if self.is_box:
            notes.append(f"numbers differ by up to {self.off.max():.1e} of their range")
        where = f"{self.walked.kind} observations ({'; '.join(notes)})"
        if self.holds:
            return f"{self.name}: the same action on {same:,} of {total:,} {where}"
        first = int(np.argmin(self.alike))
        found = _shown(self.played.actions[first])
        expected = _shown(self.walked.actions[first])
        return (
            f"{self.name}: another action on {total - same:,} of {total:,} {where}; "
            f"at the first, number {first}, {found} instead of {expected}"
        )


def _shown(action: Array) -> str:
    """An action in a line."""
    return ", ".join(f"{number:.7g}" for number in np.ravel(action).astype(float))


def compare(agent: Agent, path: Path, to: str, walked: Walk) -> Parity:
    """Play a written file where its agent has been.

    Args:
        agent: The agent.
        path: The file.
        to: Its format.
        walked: Where the agent has been.

    Raises:
        KDError: Its runtime is there and cannot play it.
    """
    try:
        played = _played(agent, path, to, walked.steps)
    except RuntimeMissingError as error:
        return Parity(path.name, walked, reason=str(error))
    head = agent.graph.head
    found = np.asarray(played.actions, np.float64).reshape(walked.actions.shape)
    off = distances(head, found, walked.actions)
    tied = np.zeros(len(off), bool)
    if not head.is_gaussian and off.any():
        rows = _rows(agent.graph, walked.steps)
        # Both, or a program that acts otherwise than its agent would be held against itself.
        tied = (off > 0) & ties(head, rows, found) & ties(head, rows, walked.actions)
    return Parity(path.name, walked, played, off=off, tied=tied, is_box=head.is_gaussian)


def ties(head: HeadSpec, rows: Array, found: Array) -> Array:
    """Where every choice is as good as the greedy one but for rounding, `[B]`.

    Args:
        head: Of the actions, which can be listed.
        rows: Parameters, `[B, P]`.
        found: What was chosen, `[B, A]`.
    """
    # What a mask forbids is no measure of the others.
    allowance = TIE * np.where(np.abs(rows) < -MASKED, np.abs(rows), 0).max(axis=1)
    if head.kind == "bernoulli":
        lost = np.where(found == (rows > 0), 0, np.abs(rows))
        return np.asarray((lost <= allowance[:, None]).all(axis=1))
    tied = np.ones(len(rows), bool)
    for part, (logits, first) in enumerate(zip(head.split(rows), head.start, strict=True)):
        choice = np.asarray(found[:, part] - first, np.int64)
        known = (choice >= 0) & (choice < logits.shape[1])
        chosen = logits[np.arange(len(logits)), np.where(known, choice, 0)]
        tied &= known & (logits.max(axis=1) - chosen <= allowance)
    return tied


def distances(head: HeadSpec, found: Array, expected: Array) -> Array:
    """How far actions lie apart, `[B]`: the farthest number as a share of its range; of what is listed, 0 or 1.

    Args:
        head: Of the actions.
        found: `[B, A]`.
        expected: `[B, A]`.
    """
    if not head.is_gaussian:
        return np.asarray((found != expected).any(axis=1), np.float64)
    width = np.asarray(head.high) - np.asarray(head.low)
    # A side that is open has no range: there the action's own size stands for it.
    width = np.where(np.isfinite(width), width, np.maximum(np.abs(expected), 1))
    # A part that cannot move has a range of 0.
    apart = np.abs(found - expected) / np.maximum(width, np.finfo(np.float32).tiny)
    # What is no number is nowhere near.
    return np.asarray(np.nan_to_num(apart, nan=np.inf).max(axis=1))


def _played(agent: Agent, path: Path, to: str, steps: Steps) -> Played:
    """By the format's own `play`; what has none is read back as a teacher."""
    plugin = plugins.load("export", to)
    if hasattr(plugin, "play"):
        played: Played = plugin.play(path, agent.graph, steps)
        return played
    spaces = plugin.spaces(agent.graph) if hasattr(plugin, "spaces") else None
    try:
        teacher = load_teacher(str(path), env=spaces)
    except KDError as error:
        raise RuntimeMissingError(f"nothing here plays it ({error})") from None
    return Played(answers(teacher, teacher.recurrent, steps), "read back")


def _rows(graph: PolicyGraph, steps: Steps) -> Array:
    """The parameters that a program gives, `[B, P]`."""
    policy = Policy(graph)
    rows = []
    memory: Any = None
    for part in batches(steps, bool(graph.states)):
        row, memory = policy.step_batch(part.observations, memory, part.starts, part.masks)
        rows.append(row)
    return np.concatenate(rows)
