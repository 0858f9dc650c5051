"""How often the verdict on a student of recorded data errs, whose teacher plays no more.

    OMP_NUM_THREADS=1 nice -n 10 python benchmarks/recorded_verdict.py --studies 2000

As benchmarks/verdict.py, whose pools and students these are, but for the pairing: the teacher's 20, 50 or 200 recorded
episodes are drawn once for all looks of a study, and the student's are drawn from the pool anew. Counted is how many
students that are worse by a margin pass, and how many equal ones do.
"""

import argparse
import json
from typing import Any

import numpy as np
from verdict import AT_MARGIN, EPISODES, MARGIN, MOST, Pool, _lower, pools, student_of

from kd_agent.evaluation.looks import looks_of_verdict
from kd_agent.evaluation.non_inferiority import FEWEST_TO_PASS, _weights
from kd_agent.evaluation.statistics import TAIL, weighted_tails

RECORDED = (20, 50, 200)
KINDS = (*AT_MARGIN, "equal")


def passed(pool: Pool, teachers: Any, students: Any) -> Any:
    """Which students `[C]` pass at one of the looks, by the bounds of `compare(..., paired=False)`.

    Args:
        pool: Where both are drawn from.
        teachers: The recorded returns `[C, m]`.
        students: Returns `[C, n]`, of which each look takes the first.
    """
    means = teachers.mean(axis=1)
    scale = np.abs(means - pool.random)
    margin = MARGIN * scale
    lost = means - scale
    own = np.column_stack([teachers, teachers.max(axis=1)])
    of_teacher = _weights(own.shape[1], seed=2)
    teacher_means = of_teacher @ own.T
    found = np.zeros(len(teachers), bool)
    for look, error in looks_of_verdict(EPISODES, MOST, paired=False):
        if look < FEWEST_TO_PASS:
            continue
        open_ones = np.flatnonzero(~found)
        earned = np.column_stack([students[open_ones, :look], lost[open_ones]])
        weights = _weights(look + 1)
        differences = (weights.astype(np.float32) @ earned.T.astype(np.float32)) - teacher_means[:, open_ones]
        holds = _lower(differences, error) + margin[open_ones] > 0
        # The tail is the dearer part: it is looked at where the mean holds.
        for place in np.flatnonzero(holds):
            study = open_ones[place]
            tails = weighted_tails(weights, earned[place]) - weighted_tails(of_teacher, own[study])
            found[study] = _lower(tails, error) + margin[study] / TAIL > 0
    return found


def measured(pool: Pool, kind: str, recorded: int, count: int) -> float:
    """Share of the studies that pass.

    Args:
        pool: Where returns are drawn from.
        kind: How the student is worse.
        recorded: Episodes of the recording.
        count: Studies.
    """
    rng = np.random.default_rng(recorded)
    found = []
    for part in np.array_split(np.arange(count), -(-count // 200)):
        teachers = pool.draw(rng, len(part) * recorded).reshape(len(part), recorded)
        # Made of episodes of its own, and not of those that were recorded.
        others = pool.draw(rng, len(part) * MOST).reshape(len(part), MOST)
        found.append(passed(pool, teachers, student_of(pool, kind, others, rng)))
    return float(np.mean(np.concatenate(found)))


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=2000, help="of each kind from each pool")
    parser.add_argument("--pool", help="this one alone")
    arguments = parser.parse_args()
    for name, pool in pools():
        if arguments.pool not in (None, name):
            continue
        for kind in KINDS:
            shares = {str(m): measured(pool, kind, m, arguments.studies) for m in RECORDED}
            print(json.dumps({"pool": name, "kind": kind, "non_inferior": shares}), flush=True)


if __name__ == "__main__":
    main()
