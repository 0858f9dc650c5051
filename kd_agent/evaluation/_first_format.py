"""What `result.json` of the first format says: a verdict by interquartile means, at looks that double."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from kd_agent.evaluation._written import Claim, Written
from kd_agent.evaluation.statistics import Floats, bootstrap_interval, iqm, iqm_interval


class WrittenFirst(Written):
    """As `Written`; of the random policy nothing but its IQM is written, KL and agreement are of cut episodes."""

    complete = False

    def returns(self, who: str) -> list[float]:
        """As written; of the random policy none are."""
        return [] if who == "random" else super().returns(who)

    @property
    def random_episodes(self) -> int:
        """As many as everybody's at the first look."""
        return self._episodes

    @property
    def scale(self) -> float:
        """|teacher - random|, of interquartile means."""
        return abs(float(iqm(self.returns("teacher"))) - float(self.random["iqm"]))

    @property
    def first_episodes(self) -> int:
        """All of the first look."""
        return self._episodes

    def looks(self) -> list[int]:
        """The first, each doubling of it, and the maximum."""
        looks = [self._episodes]
        while looks[-1] < self._max_episodes:
            looks.append(min(2 * looks[-1], self._max_episodes))
        return looks

    def claims(self) -> Iterator[Claim]:
        """Whether figures follow from returns, and the verdict from figures and settings."""
        for who in ("teacher", "student"):
            returns = self.returns(who)
            found = {"iqm": float(iqm(returns)), "iqm_ci": list(iqm_interval(returns))}
            yield self.says(f"{who}: the IQM follows from its {len(returns)} returns", found, self.result[who])
        yield self.says(
            f"the verdict's margin is config.yaml's, {self._margin:g} of |teacher - random|",
            {"margin": self._margin * self.scale},
            self._verdict,
        )
        episodes = len(self.returns("student"))
        fault = "" if episodes in self.looks() else f"none is after {episodes} episodes"
        yield self.claim("the verdict fell at a look of config.yaml's", fault)
        decision = self._verdict["decision"]
        yield self.says(f"the verdict, {decision}, follows from the returns", self._verdict_again(), self._verdict)

    def _verdict_again(self) -> dict[str, Any]:
        teacher, student = (np.array(self.returns(who)) for who in ("teacher", "student"))
        level = 1 - 0.05 / len(self.looks())
        low, high = _interval(teacher, student, level)
        allowed = self._margin * self.scale
        decision = "undecided"
        if len(teacher) > 1 and low >= -allowed:
            decision = "non-inferior"
        elif len(teacher) > 1 and high < -allowed:
            decision = "inferior"
        return {
            "decision": decision,
            "non_inferior": decision == "non-inferior",
            "episodes": len(teacher),
            "difference": float(iqm(student) - iqm(teacher)),
            "difference_ci": [low, high],
            "level": level,
            **self._compression(),
        }


def _interval(teacher: Floats, student: Floats, level: float) -> tuple[float, float]:
    """The paired bootstrap interval of the difference of interquartile means."""
    if len(teacher) < 2:
        point = float(_difference(teacher, student))
        return point, point
    return bootstrap_interval((teacher, student), _difference, level=level)


def _difference(teacher: Floats, student: Floats, axis: int = -1) -> Floats:
    return np.asarray(iqm(student, axis) - iqm(teacher, axis))
