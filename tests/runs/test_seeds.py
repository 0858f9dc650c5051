"""Seeds: a stream for each purpose and number, none of them another's."""

from itertools import product

import numpy as np
import pytest

from kd_agent.runs.seeds import PURPOSES, seed_of


def test_no_two_purposes_numbers_or_runs_share_a_stream() -> None:
    cases = list(product(range(5), PURPOSES, range(50)))
    streams = {seed_of(*case) for case in cases}
    roots = {int(np.random.default_rng(seed).integers(2**63)) for seed in range(5)}
    first_draws = {int(np.random.default_rng(seed).integers(2**63)) for seed in streams}
    assert len(streams) == len(cases) == len(first_draws)
    assert not first_draws & roots, "nor that of the run's seed itself, from which the teacher is trained"


def test_streams_that_plain_tuples_of_entropy_would_confuse_are_apart() -> None:
    confused = [np.random.SeedSequence(entropy).generate_state(1)[0] for entropy in ((0,), (0, 0))]
    assert confused[0] == confused[1]
    assert seed_of(0, "round", 0) != seed_of(0, "agreement", 0) != seed_of(0, "round", 1)


def test_a_seed_is_the_same_in_every_process_and_version() -> None:
    assert seed_of(0, "round") == 1317536309490288386
    assert seed_of(7, "fit", 3) == 8340754979647278024


@pytest.mark.parametrize("purpose", PURPOSES)
def test_seeds_serve_numpy_and_torch(purpose: str) -> None:
    assert 0 <= seed_of(2**31 - 1, purpose, 10**6) < 2**63


def test_an_unknown_purpose_is_a_fault_of_the_code() -> None:
    with pytest.raises(ValueError, match="not in tuple"):
        seed_of(0, "luck")
