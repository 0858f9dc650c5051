"""The validation: how often it looks, what it says of a student, and when there is nothing to choose."""

from pathlib import Path
from typing import Any

import pytest
from prepared_runs import begun
from recorder import TEACHER, Recorder, fingerprint
from samples import make_student

from kd_agent.distillation.dagger import collect_rounds
from kd_agent.distillation.validation import VALIDATION_SEED, Grade, Validation
from kd_agent.evaluation import EVALUATION_SEED
from kd_agent.evaluation.teacher_selection import SELECTION_SEED

LENGTH = 10
"""Steps of an episode that the recorder plays."""


def test_a_validation_looks_every_10_episodes_up_to_60_and_errs_less_afterwards(tmp_path: Path) -> None:
    early = [(look, 0.06) for look in (20, 30, 40, 50)]
    for total, expected in (
        (100, [*early, (60, 0.1), (80, 0.06), (100, 0.06)]),
        (60, [*early, (60, 0.1)]),
        (8, [(8, 0.1)]),
    ):
        with begun(tmp_path / str(total), attempts=2, exam_episodes=total) as run:
            assert Validation(run).looks == expected


def test_a_validation_judges_by_both_parts_of_the_verdict_and_scores_the_worse(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At an error of 0.1, which 60 episodes have, they are enough; at that of another look they are not."""
    Recorder().install(monkeypatch)
    with begun(tmp_path / "run", attempts=2, exam_episodes=100) as run:
        validation = Validation(run)
        assert validation.decision([99.0] * 60) == "non-inferior"
        assert validation.decision([99.0] * 61) == "undecided"
        assert validation.verdict([99.0] * 60).decision == "undecided"
        assert validation.decision([100.0] * 50) == "undecided"
        crashing = [115.0] * 50 + [-20.0] * 10
        assert validation.decision(crashing) == "inferior"
        assert validation.verdict(crashing).score == pytest.approx((50 - 120) / 50)


def test_a_grade_is_the_verdicts_score_and_its_returns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Recorder(by_policy=lambda policy: 97.5).install(monkeypatch)
    with begun(tmp_path / "run", attempts=2, exam_episodes=80) as run:
        student = collect_rounds([run]).new_students(0)[0]
        grade = Validation(run).grade(student, 0)
    assert grade.score == pytest.approx(0.5)
    assert (grade.holds, list(grade.returns)) == (False, [97.5] * 80)


def graded(folder: Path, earned: float, rival: float | None = None, **more: Any) -> tuple[Grade, Recorder, float]:
    """The grade of a student that earns this in every episode, what was played for it, and the steps it cost."""
    recorder = Recorder(by_policy=lambda policy: earned)
    with pytest.MonkeyPatch.context() as patch:
        recorder.install(patch)
        with begun(folder, **{"attempts": 2, "exam_episodes": 40, **more}) as run:
            grade = Validation(run).grade(make_student(TEACHER.head, hidden=(5,)), 0, rival)
            return grade, recorder, run.costs.of("validation_steps")


def test_who_is_at_the_teachers_level_holds_where_all_episodes_leave_it_open(tmp_path: Path) -> None:
    """40 episodes let nobody pass."""
    assert graded(tmp_path / "level", 100.0)[0].holds
    assert not graded(tmp_path / "below", 99.9)[0].holds
    assert graded(tmp_path / "shown", 99.9, exam_episodes=60)[0].holds
    # Three margins behind the best so far it is not looked at to the end, so that nothing is known.
    behind, _, _ = graded(tmp_path / "behind", 100.0, rival=3.0)
    assert (behind.score, behind.holds, len(behind.returns)) == (pytest.approx(1), False, 20)


def test_teacher_and_random_policy_play_the_validations_own_seeds_and_are_paid_for(tmp_path: Path) -> None:
    for total, random in ((40, 20), (8, 8)):
        grade, recorder, steps = graded(tmp_path / str(total), 99.0, exam_episodes=total)
        assert list(grade.returns) == [99.0] * total
        played: dict[str | None, list[int]] = {}
        for play in recorder.plays:
            played[play.who] = played.get(play.who, []) + play.seeds
        assert played.pop(None) == list(range(VALIDATION_SEED, VALIDATION_SEED + random))
        assert fingerprint(TEACHER.graph) in played
        assert list(played.values()) == [list(range(VALIDATION_SEED, VALIDATION_SEED + total))] * 2
        assert steps == LENGTH * (2 * total + random)


def test_the_seeds_are_neither_those_of_a_verdict_nor_those_of_a_selection() -> None:
    assert SELECTION_SEED < VALIDATION_SEED < EVALUATION_SEED


def test_the_margin_is_the_runs(tmp_path: Path) -> None:
    assert graded(tmp_path / "narrow", 95.0)[0].score == pytest.approx(0)
    assert graded(tmp_path / "wide", 95.0, margin=0.2)[0].score == pytest.approx(0.75)


def test_of_one_attempt_there_is_nothing_to_choose_unless_sizes_are(tmp_path: Path) -> None:
    grade, recorder, steps = graded(tmp_path / "one", 10.0, attempts=1)
    assert (grade, recorder.plays, steps) == (Grade(0.0, holds=True), [], 0)
    of_a_search, recorder, _ = graded(tmp_path / "search", 10.0, attempts=1, search_size=True)
    assert not of_a_search.holds
    assert recorder.plays
