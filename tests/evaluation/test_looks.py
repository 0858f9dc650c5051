"""When a verdict may fall, and how much of the error each look has."""

import pytest

from kd_agent.evaluation.looks import VALIDATION, VERDICT, Boundary, looks_of_verdict


def test_most_looks_cost_little_error_and_the_main_one_nearly_all() -> None:
    early = [(look, 0.0001) for look in range(20, 90, 10)]
    late = [(look, 0.0025) for look in (120, 160, 210, 270, 350, 460, 600, 780, 1000)]
    assert VERDICT.looks(90, 1000) == [*early, (90, 0.02), *late]
    assert VALIDATION.looks(60, 100) == [
        (20, 0.06),
        (30, 0.06),
        (40, 0.06),
        (50, 0.06),
        (60, 0.1),
        (80, 0.06),
        (100, 0.06),
    ]


@pytest.mark.parametrize(
    ("episodes", "most", "looks"),
    [
        (20, 20, [20]),
        (25, 25, [25]),
        (26, 26, [20, 26]),
        (6, 6, [6]),
        (6, 24, [6, 16, 24]),
        (30, 45, [20, 30, 40, 45]),
        (90, 50, [*range(20, 90, 10), 90]),
        (1, 12, [1, 11, 12]),
    ],
)
def test_looks_begin_and_end_where_they_are_to(episodes: int, most: int, looks: list[int]) -> None:
    found = Boundary(early=0.1, main=0.3, late=0.2).looks(episodes, most)
    assert [look for look, _ in found] == looks
    early = sum(look < episodes for look in looks)
    assert [error for _, error in found] == [0.1] * early + [0.3] + [0.2] * (len(looks) - early - 1)


def test_recorded_returns_are_looked_at_after_three_times_as_many_episodes() -> None:
    assert looks_of_verdict(90, 1000) == VERDICT.looks(90, 1000)
    unpaired = looks_of_verdict(90, 1000, paired=False)
    assert unpaired == VERDICT.looks(270, 1000)
    assert (270, 0.02) in unpaired
    assert looks_of_verdict(30, 60, paired=False)[-1] == (60, 0.02)
