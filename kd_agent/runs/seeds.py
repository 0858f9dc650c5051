"""Where randomness comes from: one table of purposes, each with seeds of its own that follow from the run's seed."""

from collections.abc import Sequence


def seed_of(seed: int, purpose: str, number: int = 0) -> int:
    """The seed of one purpose in a run.

    Args:
        seed: The run's.
        purpose: What is random: "weights", "fit", "reservoir", "first look".
        number: Which of several: an attempt, a round, a fit.
    """
    return seed if purpose in ("reservoir", "first look") else seed * 1_000 + number


def collecting_seed(seed: int, purpose: str, number: int = 0) -> Sequence[int]:
    """Entropy of a round of collecting.

    Args:
        seed: The run's.
        purpose: "round" or "first look".
        number: The round's.
    """
    return (seed, number) if purpose == "round" else (seed,)
