"""A validation plays no more than it must, decides at an error of its own, and keeps what is best."""

from pathlib import Path
from typing import Any

import pytest
from recorder import GIVEN, ROUNDS, SEAMS, TEACHER, Recorder, original, recorded, wavering

from kd_agent.runs.seeds import seed_of

VALIDATION, VERDICT = 10_000, 20_000
EARLY = (20, 30, 40, 50)
"""Looks that only a bad student can fall at."""
PLAIN: dict[str, Any] = {"loss": "kl", "teacher_layer": None, "student_layer": None}


def episodes_of_attempts(run: Recorder) -> list[int]:
    attempts = [fit.after for fit in run.fits[ROUNDS - 1 :]]
    return [sum(len(play.seeds) for play in run.validations() if play.who == attempt) for attempt in attempts]


def test_a_validation_ends_where_the_return_is_held_or_the_best_is_out_of_reach(tmp_path: Path) -> None:
    """The margin is 20: 79 is within it of 82.5, 62.2 is not, and 100 is what the teacher earns."""
    run = recorded(tmp_path / "run", Recorder([82.5, 79.0, 62.2, 100.0]))
    assert episodes_of_attempts(run) == [80, 80, 20, 60]
    assert {play.who for play in run.verdicts()} == {run.fits[-1].after}


def test_a_single_attempt_is_not_validated(tmp_path: Path) -> None:
    run = recorded(tmp_path / "run", Recorder([]), attempts=1)
    assert run.on_seeds(VALIDATION) == []
    assert run.result["cost"]["validation_steps"] == 0


def test_a_single_attempt_of_several_sizes_is(tmp_path: Path) -> None:
    recorder = Recorder(by_policy=lambda policy: 100.0)
    run = recorded(tmp_path / "run", recorder, attempts=1, search_size=True, hidden=[1], **PLAIN)
    final = [fit.after for fit in run.fits if fit.told["steps"] == GIVEN["final_steps"]]
    assert len(final) == 1
    assert sum(len(play.seeds) for play in run.validations() if play.who == final[0]) == 60


def test_the_random_policy_plays_episodes_of_its_own_number_in_a_validation_and_in_a_verdict(tmp_path: Path) -> None:
    run = recorded(tmp_path / "run", attempts=2, episodes=20, max_episodes=30)
    chance = [play.seeds for play in run.plays if play.who is None]
    assert chance == [list(range(VALIDATION, VALIDATION + 20)), list(range(VERDICT, VERDICT + 30))]


def test_every_comparison_has_the_error_of_its_look(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both look at 20 episodes and every 10 up to 60, where most of the error is spent, and then less often."""
    told: list[tuple[int, float, float]] = []
    compare = original("compare")

    def spied(teacher: Any, student: Any, chance: Any, *, margin: float, error: float) -> Any:
        told.append((len(student), error, margin))
        return compare(teacher, student, chance, margin=margin, error=error)

    monkeypatch.setattr(SEAMS["compare"], spied)
    recorded(tmp_path / "run", Recorder([82.5, 79.0], wavering), attempts=2)
    validation = [*((look, 0.06, 0.2) for look in EARLY), (60, 0.1, 0.2), (80, 0.06, 0.2)]
    verdict = [*((look, 0.0001, 0.2) for look in EARLY), (60, 0.02, 0.2), (80, 0.0025, 0.2), (90, 0.0025, 0.2)]
    assert told == [*validation, *validation, *verdict]


def test_what_was_played_is_booked_as_what_it_was_played_for(tmp_path: Path) -> None:
    """An episode has 10 steps."""
    run = recorded(tmp_path / "run")
    played = {first: 10 * sum(len(play.seeds) for play in run.on_seeds(first)) for first in (VALIDATION, VERDICT)}
    cost = run.result["cost"]
    assert (cost["validation_steps"], cost["verdict_steps"]) == (played[VALIDATION], played[VERDICT])
    assert cost["selection_steps"] == 0
    named = cost["collect_steps"] + cost["agreement_steps"]
    assert cost["all_env_steps"] == named + played[VALIDATION] + played[VERDICT]
    assert cost["env_steps"] == cost["collect_steps"]


def test_agreement_is_measured_where_the_judged_student_goes_on_states_of_its_own(tmp_path: Path) -> None:
    run = recorded(tmp_path / "run", attempts=1)
    [judged] = {play.who for play in run.verdicts()}
    # Of 63 bits those that environments take.
    seed = seed_of(0, "agreement") >> 33
    asked = {"episodes": 2, "states": 32, "first_seed": seed, "deterministic": True}
    assert run.agreements == [{**asked, "teacher": TEACHER, "student": judged}]
    student = run.result["student"]
    assert run.result["cost"]["agreement_steps"] == student["agreement_steps"] >= 32
