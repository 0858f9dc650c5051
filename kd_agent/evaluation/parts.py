"""What a comparison comes to: a verdict, and the two parts that it is made of."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Part:
    """One of the two things that are compared.

    Attributes:
        difference: Student minus teacher, in units of return.
        difference_ci: Its bootstrap interval at `LEVEL`.
        bounds: What it may be at least and at most, each with the look's error, unseen failures counted.
        margin: The loss that counts as none.
        decision: "non-inferior", "inferior" or "undecided".
    """

    difference: float
    difference_ci: tuple[float, float]
    bounds: tuple[float, float]
    margin: float
    decision: str

    @property
    def non_inferior(self) -> bool:
        """Whether the loss is shown to be less than the margin."""
        return self.decision == "non-inferior"

    @property
    def room(self) -> float:
        """How far the difference lies from minus the margin; negative: beyond it."""
        return self.difference + self.margin


@dataclass(frozen=True)
class Verdict:
    """Outcome of a paired comparison.

    Attributes:
        decision: "non-inferior" where both parts are, "inferior" where one is, else "undecided".
        episodes: Number of paired episodes.
        mean: The mean return.
        lower_tail: The mean of the worst tenth of the episodes; of returns of two values there is no tail, and this is
            the mean once more.
        error: The error of this look.
        reasons: Why, a sentence each.
    """

    decision: str
    episodes: int
    mean: Part
    lower_tail: Part
    error: float
    reasons: tuple[str, ...]

    @property
    def non_inferior(self) -> bool:
        """Whether the student is shown to be as good as the teacher, up to the margins."""
        return self.decision == "non-inferior"

    @property
    def score(self) -> float:
        """How far the worse part is from being lost, in margins: 1 is the teacher's level, below 0 the loss counts."""
        if not self.margin > 0:
            return self.difference
        return min(part.room / part.margin for part in (self.mean, self.lower_tail))

    @property
    def difference(self) -> float:
        """Student mean minus teacher mean."""
        return self.mean.difference

    @property
    def difference_ci(self) -> tuple[float, float]:
        """Its interval."""
        return self.mean.difference_ci

    @property
    def margin(self) -> float:
        """The loss in mean return that counts as none."""
        return self.mean.margin
