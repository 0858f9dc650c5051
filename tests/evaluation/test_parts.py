"""A verdict's two parts: which of them leaves less room, in margins."""

import pytest

from kd_agent.evaluation.parts import Part, Verdict


def part(difference: float, margin: float, decision: str = "undecided") -> Part:
    return Part(difference, (difference - 1, difference + 1), (difference - 2, difference + 2), margin, decision)


def test_the_score_is_that_of_the_worse_part_in_its_own_margins() -> None:
    verdict = Verdict("undecided", 90, part(-1, 2), part(-15, 20), 0.02, ())
    assert verdict.score == pytest.approx(0.25)
    assert (verdict.difference, verdict.difference_ci, verdict.margin) == (-1, (-2, 0), 2)
    assert not verdict.non_inferior
    assert part(0, 1, "non-inferior").non_inferior


def test_without_a_margin_the_score_is_the_difference() -> None:
    assert Verdict("undecided", 90, part(-3, 0), part(-3, 0), 0.02, ()).score == -3
