"""What `result.json` says of one student, and whether its figures follow from one another; nothing is played."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kd_agent.evaluation.looks import looks_of_verdict
from kd_agent.evaluation.non_inferiority import FEWEST, compare
from kd_agent.evaluation.parts import Verdict
from kd_agent.evaluation.statistics import failures, scores, worst_episodes
from kd_agent.evaluation.verdict import EVALUATION_SEED, verdict_figures

TOLERANCE = 1e-6
"""Relative difference within which figures that are computed again are the same: sums in another order differ."""
_SHOWN = 60
"""Characters of a wrong value that a fault shows."""


@dataclass(frozen=True)
class Claim:
    """Something that a run folder says.

    Attributes:
        text: What.
        fault: What is otherwise; "": it holds.
    """

    text: str
    fault: str = ""

    @property
    def holds(self) -> bool:
        """Whether it is so."""
        return not self.fault

    def __str__(self) -> str:
        return f"holds: {self.text}" if self.holds else f"DOES NOT HOLD: {self.text}: {self.fault}"


class Written:
    """What is written of one student, in the second format.

    Args:
        result: `result.json`, or what it says of one student of several.
        settings: `config.yaml`.
        name: What tells the student from others; "": there are none.

    Attributes:
        result: As given.
        settings: As given.
        teacher: What is written of the teacher.
        student: Of the student.
        random: Of the random policy.
        complete: Whether all that is written can be measured again.
        paired: Whether the teacher played the student's episodes.
    """

    complete = True
    paired = True

    def __init__(self, result: Mapping[str, Any], settings: Mapping[str, Any], name: str = "") -> None:
        self.result = result
        self.settings = settings
        self._name = name
        self.teacher = dict(result["teacher"])
        self.student = dict(result["student"])
        self.random = dict(result["random"])
        self._verdict = dict(result["verdict"])
        self._margin = float(settings["margin"])
        self._episodes = int(settings["episodes"])
        self._max_episodes = int(settings["max_episodes"])

    def returns(self, who: str) -> list[float]:
        """The returns that are written of "teacher", "student" or "random"."""
        return [float(score) for score in self.result[who]["returns"]]

    @property
    def sampled(self) -> bool:
        """Whether actions were sampled; older results do not say, for then there was no such play."""
        return bool(self.result.get("play") == "sampled")

    @property
    def random_episodes(self) -> int:
        """Those that the random policy played."""
        return len(self.returns("random"))

    @property
    def scale(self) -> float:
        """|teacher - random|, by which margins are measured."""
        return abs(float(np.mean(self.returns("teacher"))) - float(np.mean(self.returns("random"))))

    @property
    def first_episodes(self) -> int:
        """Those that the teacher played before there was a student to be judged."""
        return min(FEWEST, self._max_episodes)

    def looks(self) -> list[int]:
        """After how many episodes the verdict might fall."""
        return list(self._errors())

    def _errors(self) -> dict[int, float]:
        """The error of the look after so many episodes."""
        return dict(looks_of_verdict(self._episodes, self._max_episodes, paired=self.paired))

    def stops(self, enough: int | None) -> list[int]:
        """After how many episodes there was a look, the last included.

        Args:
            enough: No further than the first look that has so many; None: all.
        """
        played = len(self.returns("student"))
        stops = [look for look in self.looks() if look < played] + [played]
        if enough is None:
            return stops
        return [stop for number, stop in enumerate(stops) if not number or stops[number - 1] < enough]

    def claim(self, text: str, fault: str = "") -> Claim:
        """A claim about this student.

        Args:
            text: What is claimed.
            fault: What is otherwise.
        """
        prefix = f"{self._name}: " if self._name else ""
        return Claim(f"{prefix}{text}", fault)

    def says(self, text: str, found: Mapping[str, Any], told: Mapping[str, Any]) -> Claim:
        """The claim that what was found is what is told.

        Args:
            text: What is claimed.
            found: Values by name.
            told: The same, and perhaps more.
        """
        return self.claim(text, first_difference(found, told))

    def claims(self) -> Iterator[Claim]:
        """Whether figures follow from returns, and the verdict from figures and settings."""
        for who in ("teacher", "student", "random"):
            returns = self.returns(who)
            text = f"{who}: mean, IQM, worst tenth and the others follow from its {len(returns)} returns"
            yield self.says(text, self._scores(who, returns), self.result[who])
        yield self.says(
            f"the verdict's margin is config.yaml's, {self._margin:g} of |teacher - random|",
            {"margin": self._margin * self.scale},
            self._verdict,
        )
        yield self._look_claim()
        decision = self._verdict["decision"]
        yield self.says(f"the verdict, {decision}, follows from the returns", self._verdict_again(), self._verdict)

    def _scores(self, who: str, returns: Sequence[float]) -> dict[str, Any]:
        found = scores(returns)
        if who == "student":
            found["failures"] = failures(returns, self.returns("teacher"))
            found["worst"] = worst_episodes(returns, EVALUATION_SEED)
        return found

    def _look_claim(self) -> Claim:
        episodes = len(self.returns("student"))
        errors = self._errors()
        text = "the verdict fell at a look of config.yaml's, with the error of that"
        if episodes not in errors:
            return self.claim(text, f"none is after {episodes} episodes")
        found = {
            "episodes": episodes,
            "error": errors[episodes],
            "looks": sum(look <= episodes for look in errors),
        }
        return self.says(text, found, self._verdict)

    def _verdict_again(self) -> dict[str, Any]:
        return {**self.verdict_on(self.returns("student")), **self._compression()}

    def verdict_on(self, students: Any) -> dict[str, Any]:
        """The figures of the verdict on returns, with the error that is written.

        Args:
            students: `[n]` of the student, or `[K, n]` of several.
        """
        error = float(self._verdict["error"])
        found = verdict_figures(self.compare(students, error))
        # Words, which another version may choose otherwise.
        del found["reasons"]
        return found

    def compare(self, students: Any, error: float) -> Verdict:
        """The verdict on returns, paired with the teacher's.

        Args:
            students: `[n]` of the student, or `[K, n]` of several.
            error: Of the look.
        """
        return compare(self.returns("teacher"), students, self.returns("random"), margin=self._margin, error=error)

    def _compression(self) -> dict[str, Any]:
        parameters = self.teacher["parameters"]
        return {"compression": None if parameters is None else parameters / self.student["parameters"]}


def cost_claim(costs: Mapping[str, Any]) -> Claim:
    """Whether costs can be costs: steps whole numbers, seconds numbers, none of them negative.

    Args:
        costs: What is written, by name.
    """
    text = f"costs: {sum(name.endswith('_steps') for name in costs)} counts of steps, none negative, all whole"
    for name, value in costs.items():
        whole = type(value) is int
        number = whole or (type(value) is float and math.isfinite(value) and not name.endswith("_steps"))
        if not number or value < 0:
            return Claim(text, f"{name} is {str(value)[:_SHOWN]}")
    return Claim(text)


def first_difference(found: Mapping[str, Any], told: Mapping[str, Any]) -> str:
    """The first of some values that is told otherwise, in words; "": all are told as they were found.

    Args:
        found: Values by name.
        told: The same, and perhaps more.
    """
    for name, value in found.items():
        if name not in told:
            return f"{name} is not written"
        if not _same(value, told[name]):
            return f"{name} is written as {str(told[name])[:_SHOWN]}, found as {str(value)[:_SHOWN]}"
    return ""


def _same(found: Any, told: Any) -> bool:
    if isinstance(found, Mapping):
        return isinstance(told, Mapping) and not first_difference(found, told)
    if isinstance(found, list | tuple):
        return isinstance(told, list | tuple) and len(found) == len(told) and all(map(_same, found, told))
    numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in (found, told))
    if numbers:
        return math.isclose(found, told, rel_tol=TOLERANCE, abs_tol=TOLERANCE)
    return type(found) is type(told) and found == told
