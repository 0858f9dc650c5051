"""When a comparison is made while episodes come in, and how much of its error each look may spend."""

from dataclasses import dataclass

from kd_agent.evaluation.non_inferiority import FEWEST

_EVERY = 10
_APART = 5
"""An early look nearer than this to the main one would be for nothing."""
_GROWTH = 1.3


@dataclass(frozen=True)
class Boundary:
    """The errors of the looks of a sequence: nearly all of it is spent at one look, where most students are decided.

    Attributes:
        early: Error at each look before the main one, where only a bad student is to be decided.
        main: Error at the main look.
        late: Error at each look after it.
    """

    early: float
    main: float
    late: float

    def looks(self, episodes: int, max_episodes: int) -> list[tuple[int, float]]:
        """When a comparison is made while episodes come in: numbers of episodes, increasing, each with its error.

        Before the main look, from 20 episodes on and every 10, none but a bad student can be decided; after it come
        looks at a third more episodes each.

        Args:
            episodes: Those of the main look.
            max_episodes: Those of the last look.
        """
        looks = [(look, self.early) for look in range(FEWEST, episodes - _APART, _EVERY)]
        looks.append((episodes, self.main))
        last = episodes
        while last < max_episodes:
            last = min(max(_EVERY * round(last * _GROWTH / _EVERY), last + _EVERY), max_episodes)
            looks.append((last, self.late))
        return looks


VERDICT = Boundary(early=0.0001, main=0.02, late=0.0025)
"""Together 2.5 % at most, by simulation on recorded returns (benchmarks/verdict.py). A student that fails in 5 % of its
episodes, which costs a whole margin, shows no failure in 76 with a probability of .02: the main look cannot come before
that, and at 90 leaves room for the differences of single episodes."""
UNPAIRED = 3
"""Times as many episodes before the main look against recorded returns, which are paired with none: what the student
owes to chance, and the failures that nobody has seen yet, are small then beside what the recording owes to chance."""
VALIDATION = Boundary(early=0.06, main=0.1, late=0.06)
"""A validation chooses and proves nothing: it may err more often, and so is made in fewer episodes."""


def looks_of_verdict(episodes: int, max_episodes: int, *, paired: bool = True) -> list[tuple[int, float]]:
    """After how many episodes a verdict may fall, each with its error.

    Args:
        episodes: Those of the main look.
        max_episodes: Those of the last look.
        paired: Whether the teacher plays the same episodes; else they are `UNPAIRED` times as many.
    """
    main = episodes if paired else min(UNPAIRED * episodes, max_episodes)
    return VERDICT.looks(main, max_episodes)
