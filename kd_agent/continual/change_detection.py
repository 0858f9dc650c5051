"""Noticing that something got worse: Page's CUSUM over the normal scores of ranks.

Page 1954 (Continuous Inspection Schemes) sums up what falls short of a reference, and gives the alarm once the
sum passes a limit. What is summed are van der Waerden's (1952) normal scores of a value's rank among a reference
sample, which need no assumption about the distribution of returns, and let no single crash give the alarm.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtri

ALLOWANCE = 0.5
"""What a score may fall short by without counting; a fall by twice as much is found soonest."""
LIMIT = 8.0
"""Sum at which the alarm is given. With 50 reference values, and nothing changed: within 200 values an alarm in 3.5 %
of the cases (simulated in its tests); a fall below the whole reference is noticed after 5."""
RETURNS = 30
"""Episodes of a new reference of returns."""


class Cusum:
    """Watches one figure, of which more is better.

    Args:
        reference: Values `[n]` from before.

    Attributes:
        sum: How much the figure has fallen short of the reference of late.
    """

    def __init__(self, reference: ArrayLike) -> None:
        self._reference = np.sort(np.asarray(reference, np.float64))
        self.sum = 0.0

    def score(self, value: float) -> float:
        """Normal score of the value's rank in the reference, ties in the middle: 0 is as before."""
        low = np.searchsorted(self._reference, value, "left")
        high = np.searchsorted(self._reference, value, "right")
        # Half a rank in from either end: a value below all others is rare, not impossible.
        rank = (low + high) / 2 + 0.5
        return float(ndtri(rank / (len(self._reference) + 1)))

    def add(self, value: float) -> bool:
        """Take a value into account; whether the alarm is to be given."""
        # Never below 0: good times earn no credit against a fall that comes later.
        self.sum = max(0.0, self.sum - self.score(value) - ALLOWANCE)
        return self.sum > LIMIT


@dataclass
class Monitor:
    """Watches agreement and return, episode by episode.

    Attributes:
        agreement: Of the share of an episode's states with the teacher's greedy action.
        returns: Of its return; None while a new reference is being gathered.
        gathered: Returns of episodes since the last adaptation, until they are the new reference.
    """

    agreement: Cusum
    returns: Cusum | None
    gathered: list[float] = field(default_factory=list)

    @property
    def calm(self) -> bool:
        """Whether nothing has fallen short of late."""
        return self.agreement.sum == 0 and (self.returns is None or self.returns.sum == 0)

    def notice(self, agreement: float, score: float) -> list[str]:
        """Take an episode into account.

        Args:
            agreement: The share of its states with the teacher's greedy action.
            score: Its return.

        Returns:
            Which figures give the alarm, by name.
        """
        alarms = []
        if self.agreement.add(agreement):
            alarms.append("agreement")
        if self.returns is None:
            self._gather(score)
        elif self.returns.add(score):
            alarms.append("return")
        return alarms

    def recovered(self, agreements: list[float]) -> bool:
        """Whether recent episodes agree as those of the reference do, within what the monitor allows."""
        scores = list(map(self.agreement.score, agreements))
        return float(np.mean(scores)) >= -ALLOWANCE

    def begin_anew(self) -> None:
        """After an adaptation: agreement is watched as ever, returns against what they are in this world."""
        # A changed world may pay less however well one acts in it: its returns need a reference of their own.
        self.agreement.sum = 0.0
        self.returns = None
        self.gathered = []

    def _gather(self, score: float) -> None:
        self.gathered.append(score)
        if len(self.gathered) == RETURNS:
            self.returns = Cusum(self.gathered)
