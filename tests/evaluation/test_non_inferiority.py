"""The verdict on returns: against hand values, against exact binomial bounds and against chance."""

import re
from typing import Any

import numpy as np
import pytest
from scipy.stats import beta, binomtest

from kd_agent import KDError, compare
from kd_agent.evaluation.non_inferiority import FEWEST, FEWEST_TO_PASS, Verdict
from kd_agent.evaluation.statistics import lower_tail

RANDOM = np.zeros(20)


def noisy(mean: float, spread: float = 1.0, n: int = 100, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(mean, spread, n)


def successes(failed: int, n: int) -> np.ndarray:
    """1 for each episode but for the first few, which earn 0."""
    returns = np.ones(n)
    returns[:failed] = 0
    return returns


@pytest.mark.parametrize(
    ("student", "decision"),
    [
        (noisy(100) + 0.1, "non-inferior"),
        (noisy(100) + 50, "non-inferior"),
        (noisy(100) - 1, "non-inferior"),
        (noisy(100) - 5, "undecided"),
        (noisy(96, 30, seed=1), "undecided"),
        (noisy(100) - 15, "inferior"),
        (noisy(50, seed=1), "inferior"),
    ],
)
def test_the_verdict_has_three_outcomes(student: np.ndarray, decision: str) -> None:
    teacher = noisy(100)
    verdict = compare(teacher, student, RANDOM)
    assert verdict.decision == decision
    assert verdict.non_inferior == (decision == "non-inferior")
    assert verdict.episodes == 100
    assert verdict.margin == verdict.mean.margin == pytest.approx(0.05 * teacher.mean())
    assert verdict.lower_tail.margin == pytest.approx(10 * verdict.margin)
    assert verdict.difference == pytest.approx(student.mean() - teacher.mean())
    assert verdict.lower_tail.difference == pytest.approx(lower_tail(student) - lower_tail(teacher))
    for part in (verdict.mean, verdict.lower_tail):
        low, high = part.difference_ci
        assert part.bounds[0] <= low <= part.difference + 1e-9
        assert part.difference - 1e-9 <= high <= part.bounds[1]


def test_negative_returns_are_judged_by_their_distance_from_the_random_policy() -> None:
    teacher = noisy(-150)
    verdict = compare(teacher, teacher - 10, [-1200.0])
    assert verdict.decision == "non-inferior"
    assert verdict.margin == pytest.approx(0.05 * 1050, rel=0.01)
    assert compare(teacher, teacher - 120, [-1200.0]).decision == "inferior"


def test_identical_returns_are_non_inferior_once_there_are_enough_of_them() -> None:
    """Without a failure in n episodes one in 1 - 0.025^(1/n) may fail: that is 5 % at n = 72."""
    for returns in (noisy(100), np.full(100, 500.0)):
        verdict = compare(returns, returns, RANDOM)
        assert (verdict.decision, verdict.difference, verdict.difference_ci) == ("non-inferior", 0, (0, 0))
        assert compare(returns[:60], returns[:60], RANDOM).decision == "undecided"
        assert compare(returns[:85], returns[:85], RANDOM).decision == "non-inferior"


@pytest.mark.parametrize("error", [0.02, 0.1])
@pytest.mark.parametrize(("failed", "n"), [(0, 30), (1, 30), (4, 30), (0, 100), (3, 100), (25, 100)])
def test_of_two_values_the_lower_bound_is_the_exact_binomial_one(failed: int, n: int, error: float) -> None:
    """The bound that Clopper and Pearson's interval has, up to the error of 4999 random weights."""
    verdict = compare(successes(0, n), successes(failed, n), RANDOM, error=error)
    rate = verdict.mean.bounds[0] + 1
    assert beta(n - failed, failed + 1).cdf(rate) == pytest.approx(error, abs=4 * np.sqrt(error / 4999))
    exact = binomtest(n - failed, n).proportion_ci(1 - 2 * error, method="exact")
    assert rate == pytest.approx(exact.low, abs=0.01)


def test_the_scale_of_two_values_does_not_matter() -> None:
    plain = compare(successes(0, 100), successes(3, 100), RANDOM)
    scaled = compare(200 * successes(0, 100) - 100, 200 * successes(3, 100) - 100, [-100.0])
    assert scaled.mean.bounds == pytest.approx([200 * bound for bound in plain.mean.bounds])
    assert scaled.margin == pytest.approx(200 * plain.margin)


def test_returns_of_two_values_are_compared_by_the_rate_of_success_alone() -> None:
    verdict = compare(successes(0, 100), successes(12, 100), RANDOM)
    assert verdict.lower_tail == verdict.mean
    assert verdict.reasons[0].startswith("the success rate")
    third_value = np.append(successes(0, 99), 0.5)
    assert compare(third_value, successes(12, 100), RANDOM).lower_tail != verdict.mean


def test_the_other_way_round_bounds_are_mirrored() -> None:
    """Where both earn the same in the mean, and so one is what the other is measured against."""
    one = np.round(noisy(100, 30))
    other = np.random.default_rng(4).permutation(one)
    there, back = compare(one, other, RANDOM), compare(other, one, RANDOM)
    for first, second in ((there.mean, back.mean), (there.lower_tail, back.lower_tail)):
        assert first.bounds == pytest.approx((-second.bounds[1], -second.bounds[0]))
        assert first.difference_ci == pytest.approx((-second.difference_ci[1], -second.difference_ci[0]))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("crashes", [5, 10, 15, 20])
def test_who_crashes_is_never_non_inferior(crashes: int, seed: int) -> None:
    """Interquartile means do not see a crash in up to a quarter of the episodes."""
    rng = np.random.default_rng(seed)
    teacher, student = 250 + rng.normal(0, 10, 100), 250 + rng.normal(0, 10, 100)
    student[rng.permutation(100)[:crashes]] = -200
    verdict = compare(teacher, student, [-180.0])
    assert not verdict.non_inferior
    assert not compare(teacher, student, [-180.0], looks=3).non_inferior
    assert (verdict.decision == "inferior") == (crashes >= 15)


@pytest.mark.parametrize("n", [100, 400])
def test_a_loss_of_exactly_the_margin_in_every_episode_is_not_non_inferior(n: int) -> None:
    teacher = np.full(n, 100.0)
    assert not compare(teacher, np.full(n, 95.0), RANDOM).non_inferior
    assert not compare(teacher * 0.1, teacher * 0.095, RANDOM).non_inferior
    assert compare(teacher, np.full(n, 99.0), RANDOM).non_inferior


def test_pairs_count() -> None:
    teacher = noisy(100, 60)
    assert compare(teacher, teacher + noisy(0, 1, seed=2), RANDOM).decision == "non-inferior"
    shuffled = np.random.default_rng(3).permutation(teacher)
    assert compare(teacher, shuffled, RANDOM).decision == "undecided"


def test_a_better_mean_does_not_make_up_for_crashes() -> None:
    teacher = noisy(250, 10)
    student = noisy(400, 10, seed=1)
    student[::6] = -200
    verdict = compare(teacher, student, [-180.0])
    assert verdict.difference > 40
    assert verdict.mean.decision == "non-inferior"
    assert verdict.lower_tail.decision == verdict.decision == "inferior"
    assert verdict.reasons[0].startswith("the mean holds: ")
    assert verdict.reasons[1].startswith("the worst tenth is lost: ")


def test_a_better_tail_does_not_make_up_for_a_lower_mean() -> None:
    teacher, student = np.full(200, 100.0), np.full(200, 80.0)
    teacher[:20], student[:20] = 0, 10
    verdict = compare(teacher, student, RANDOM)
    assert verdict.lower_tail.decision == "non-inferior"
    assert verdict.mean.decision == verdict.decision == "inferior"
    assert verdict.reasons[0].startswith("the mean is lost: -17.0 [")
    assert verdict.reasons[1].startswith("the worst tenth holds: +10.0 [")
    assert len(verdict.reasons) == 2, "what is decided needs no more episodes"


def test_one_open_part_leaves_the_verdict_open() -> None:
    teacher = noisy(250, 10)
    student = noisy(300, 10, seed=1)
    student[:4] = -200
    verdict = compare(teacher, student, [-180.0])
    assert (verdict.mean.decision, verdict.lower_tail.decision) == ("non-inferior", "undecided")
    assert verdict.decision == "undecided"
    assert re.fullmatch(r"about [\d,]+ episodes would decide", verdict.reasons[-1])


def episodes_said(verdict: Verdict) -> int:
    return int(verdict.reasons[-1].split()[1].replace(",", ""))


def test_about_as_many_episodes_as_are_said_to_decide_do() -> None:
    teacher = np.full(40, 100.0)
    few = compare(teacher, teacher, RANDOM)
    assert few.decision == "undecided"
    enough = np.full(episodes_said(few), 100.0)
    assert 60 <= len(enough) <= 160
    assert compare(enough, enough, RANDOM).decision == "non-inferior"
    off, near = (compare(noisy(100), noisy(100) - loss, RANDOM) for loss in (3.0, 4.5))
    assert episodes_said(near) > episodes_said(off) > 100


def test_fewer_than_20_episodes_decide_nothing() -> None:
    for student in (np.full(FEWEST - 1, -900.0), np.full(FEWEST - 1, 900.0)):
        verdict = compare(np.full(FEWEST - 1, 100.0), student, RANDOM)
        assert (verdict.decision, verdict.reasons) == (
            "undecided",
            ("19 episodes decide nothing: at least 20 are needed",),
        )
    assert compare(np.full(FEWEST, 100.0), np.full(FEWEST, -900.0), RANDOM).decision == "inferior"
    assert compare([100.0], [100.0], [0.0]).difference == 0


@pytest.mark.parametrize("returns", [noisy(100), np.full(100, 500.0), np.ones(100)], ids=["noisy", "constant", "rate"])
def test_fewer_than_60_episodes_let_no_student_pass_and_say_how_many_would(returns: np.ndarray) -> None:
    """A failure in 5 % of the episodes is excluded at 95 % by 59 without one, and margins of 20 % hold long before."""
    for count in (30, FEWEST_TO_PASS - 1):
        few = compare(returns[:count], returns[:count], RANDOM, margin=0.2)
        assert few.mean.bounds[0] > -few.margin, "nothing but the number of episodes is missing"
        assert (few.decision, few.mean.decision, few.lower_tail.decision) == ("undecided",) * 3
        assert few.reasons[-1] == f"{count} episodes let no student pass: at least 60 are needed"
    enough = compare(returns[:FEWEST_TO_PASS], returns[:FEWEST_TO_PASS], RANDOM, margin=0.2)
    assert (FEWEST_TO_PASS, enough.decision) == (60, "non-inferior")
    assert compare(returns[:FEWEST], returns[:FEWEST] * 0.1, RANDOM, margin=0.2).decision == "inferior"


def test_a_teacher_that_earns_what_the_random_policy_earns_decides_nothing() -> None:
    returns = np.full(100, -200.0)
    for student in (returns, returns - 1, returns + 1):
        verdict = compare(returns, student, [-200.0])
        assert (verdict.decision, verdict.margin) == ("undecided", 0)
        assert verdict.reasons == ("the teacher earns what the random policy earns: a margin of 0 decides nothing",)
        assert verdict.score == verdict.difference


def test_a_teacher_that_is_worse_than_the_random_policy_is_the_first_reason() -> None:
    verdict = compare(noisy(-50), noisy(-50), RANDOM)
    assert verdict.decision == "non-inferior"
    assert verdict.reasons[0].startswith("the teacher is worse than the random policy")
    assert not compare(noisy(50), noisy(50), RANDOM).reasons[0].startswith("the teacher")


@pytest.mark.parametrize(
    ("teacher", "student", "random", "more", "words"),
    [
        ([1.0, 2.0], [1.0], [0.0], {}, "the teacher has 2 returns, the student 1"),
        ([], [], [0.0], {}, "the teacher's returns must be"),
        ([1.0], [], [0.0], {}, "the student's returns must be"),
        ([1.0], [1.0], [], {}, "the random policy's returns must be"),
        ([[1.0]], [1.0], [0.0], {}, "the teacher's returns must be"),
        (["a"], [1.0], [0.0], {}, "the teacher's returns must be"),
        ([1.0], (one for one in [1.0]), [0.0], {}, "the student's returns must be"),
        ([1.0], [1.0], [0.0], {"error": 2.0}, "error 2.0: a probability"),
        ([1.0], [1.0], [0.0], {"error": 0.0}, "error 0.0: a probability"),
        ([np.nan], [1.0], [0.0], {}, "the teacher's returns contain NaN"),
        ([1.0], [np.inf], [0.0], {}, "the student's returns contain NaN or infinity"),
        ([1.0], [1.0], [np.nan], {}, "the random policy's returns contain NaN"),
        ([1.0], [1.0], [0.0], {"margin": 0.0}, "margin 0.0"),
        ([1.0], [1.0], [0.0], {"margin": -0.1}, "margin -0.1"),
        ([1.0], [1.0], [0.0], {"margin": np.nan}, "margin nan"),
        ([1.0], [1.0], [0.0], {"looks": 0}, "looks 0"),
    ],
)
def test_returns_that_cannot_be_compared_are_refused_in_one_line(
    teacher: Any, student: Any, random: Any, more: Any, words: str
) -> None:
    with pytest.raises(KDError) as caught:
        compare(teacher, student, random, **more)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_margin_is_a_share_of_what_the_teacher_earns_beyond_the_random_policy() -> None:
    teacher = noisy(100)
    for share in (0.05, 0.2):
        verdict = compare(teacher, teacher - 12, np.full(3, 20.0), margin=share)
        assert verdict.margin == pytest.approx(share * (teacher.mean() - 20))
        assert verdict.non_inferior == (share == 0.2)


def test_looks_share_the_error_and_widen_the_bounds_alone() -> None:
    teacher, student = noisy(100), noisy(100, seed=1)
    once, thrice = compare(teacher, student, RANDOM), compare(teacher, student, RANDOM, looks=3)
    assert (once.error, thrice.error) == (0.025, pytest.approx(0.025 / 3))
    for one, three in ((once.mean, thrice.mean), (once.lower_tail, thrice.lower_tail)):
        assert three.bounds[0] < one.bounds[0]
        assert three.bounds[1] > one.bounds[1]
        assert three.difference_ci == one.difference_ci


def test_the_same_returns_have_the_same_verdict() -> None:
    teacher, student = noisy(100, 20), noisy(100, 20, seed=1)
    expected = compare(teacher, student, RANDOM)
    compare(noisy(1, n=50), noisy(1, n=50, seed=1), RANDOM)
    assert compare(teacher.tolist(), student.tolist(), RANDOM.tolist()) == expected


def test_the_score_is_that_of_the_worse_part_in_margins() -> None:
    teacher = noisy(100)
    assert compare(teacher, teacher, RANDOM).score == pytest.approx(1)
    margin = 0.05 * float(teacher.mean())
    assert compare(teacher, teacher - margin, RANDOM).score == pytest.approx(0)
    assert compare(teacher, teacher - 3 * margin, RANDOM).score == pytest.approx(-2)
    crashing = teacher + 20
    crashing[:10] = -100
    verdict = compare(teacher, crashing, RANDOM)
    assert verdict.score == pytest.approx(1 + verdict.lower_tail.difference / (10 * margin))
    assert verdict.score < 0 < verdict.mean.room


@pytest.mark.parametrize("failing", [False, True])
def test_a_student_at_the_margin_passes_rarely(failing: bool) -> None:
    """Whether the loss lies in every episode or in a failure of 5 % of them: 2.5 % at most, here with room for luck."""
    rng = np.random.default_rng(7)
    studies, passed = 120, 0
    for _ in range(studies):
        teacher, student = rng.normal(100, 5, (2, 90))
        student = np.where(rng.random(90) < 0.05, 0.0, student) if failing else student - 5
        passed += compare(teacher, student, RANDOM).non_inferior
    assert passed < 0.05 * studies


def test_a_loss_of_about_a_margin_is_out_of_reach() -> None:
    teacher = noisy(100)
    verdict = compare(teacher, teacher - 0.05 * teacher.mean() * 0.999, RANDOM)
    assert verdict.reasons[-1] == "the loss is about a margin: no number of episodes within reach would decide"


def test_recorded_returns_are_paired_with_none() -> None:
    """The order of a recording says nothing, and its number need not be the student's."""
    teacher, student = noisy(100, 10, 40), noisy(100, 10, 200, seed=1)
    verdict = compare(teacher, student, RANDOM, paired=False)
    assert verdict.non_inferior
    assert verdict.episodes == 200
    again = compare(teacher[::-1], student, RANDOM, paired=False)
    np.testing.assert_allclose(again.mean.bounds, verdict.mean.bounds, atol=0.3)
    assert verdict.difference == pytest.approx(student.mean() - teacher.mean())
    with pytest.raises(KDError, match="both must play the same episodes"):
        compare(teacher, student, RANDOM)


def test_independent_returns_leave_more_open_than_paired_ones() -> None:
    teacher = noisy(100, 30, 400)
    student = teacher - 2
    paired = compare(teacher, student, RANDOM)
    alone = compare(teacher, student, RANDOM, paired=False)
    assert paired.non_inferior
    assert alone.decision == "undecided"
    assert alone.difference == paired.difference
    assert alone.mean.bounds[0] < paired.mean.bounds[0] - 2
    low, high = alone.difference_ci
    # Of two means of 400 with a deviation of 30: 1.96 * 30 * sqrt(2 / 400) = 4.2 to each side.
    assert (high - low) / 2 == pytest.approx(4.2, abs=0.4)


def test_the_best_that_was_recorded_bounds_what_its_teacher_may_earn() -> None:
    """An episode more that is better widens the bound from below, and leaves the interval as it is."""
    teacher = np.append(np.full(29, 100.0), 110.0)
    better = np.append(np.full(29, 100.0), 160.0)
    student = np.full(100, 103.0)
    near = compare(teacher, student, RANDOM, paired=False).mean
    far = compare(better, student, RANDOM, paired=False).mean
    assert far.bounds[0] < near.bounds[0] - 5


@pytest.mark.parametrize(
    ("recorded", "played", "decision"), [(19, 200, "undecided"), (20, 59, "undecided"), (20, 60, "non-inferior")]
)
def test_few_recorded_or_played_episodes_decide_nothing(recorded: int, played: int, decision: str) -> None:
    verdict = compare(noisy(100, n=recorded), noisy(101, n=played, seed=1), RANDOM, paired=False, margin=0.2)
    assert verdict.decision == decision
    said = " ".join(verdict.reasons)
    assert ("19 recorded episodes decide nothing: at least 20 are needed" in said) == (recorded < FEWEST)


@pytest.mark.parametrize("recorded", [20, 100])
def test_a_student_worse_by_a_margin_seldom_passes_against_a_recording(recorded: int) -> None:
    rng = np.random.default_rng(0)
    passed = 0
    for _ in range(200):
        verdict = compare(rng.normal(100, 20, recorded), rng.normal(95, 20, 100), RANDOM, paired=False, error=0.025)
        passed += verdict.non_inferior
    # 2.5 % of 200 are 5; ten or more have a probability below 3 %.
    assert passed < 10
