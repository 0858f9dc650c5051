"""Where randomness comes from: one table of purposes, each with streams of its own that follow from the run's seed.

Streams are children of `numpy.random.SeedSequence(seed)`, told apart by purpose and number in their spawn key, as
`SeedSequence.spawn` does it: two of them never coincide, nor does one with what is seeded by the run's seed itself
(the teacher's training). Plain tuples of entropy will not do: `SeedSequence((0,))` and `SeedSequence((0, 0))` are the
same stream.
"""

import numpy as np

PURPOSES = (
    "round",  # collecting: who acts, random actions; number: the round
    "weights",  # a student's initial weights; number: the attempt
    "fit",  # order of the states and dropout; number: the fit
    "reservoir",  # which states are kept
    "agreement",  # the episodes on which KL and agreement are measured
    "first look",  # kickstarting: the teacher's states that normalise the student
    "sampler",  # searching settings; number: the trial
    "old world",  # following a drift: the episodes before
    "drift",  # the episodes in the world that drifts
    "sample",  # actions that are drawn in an evaluation; the seed is that of its first episode
    "episodes",  # the episodes of a run's rounds; number: the environment
    "lessons",  # those of a student that follows a teacher in training; number: the environment
    "parity",  # the episodes, or the random observations, on which a written file is held against its agent
    "reinforcement",  # PPO that goes on from a student
    "questions",  # which states a teacher is asked about under a label budget; number: the round
    "held out",  # which episodes of a recording no fit sees
)
"""What may be random. New purposes go to the end: a place in the table is a stream."""


def seed_of(seed: int, purpose: str, number: int = 0) -> int:
    """The seed of one purpose in a run, of 63 bits.

    Args:
        seed: The run's.
        purpose: One of `PURPOSES`.
        number: Which of several.
    """
    child = np.random.SeedSequence(seed, spawn_key=(PURPOSES.index(purpose), number))
    # Without the highest bit, because torch takes seeds as signed numbers.
    return int(child.generate_state(1, np.uint64)[0] >> 1)
