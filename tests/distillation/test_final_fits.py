"""Attempts at the last fit: they stop when one holds, the best is kept, and a stopped run goes on in between."""

from pathlib import Path
from typing import Any

import pytest
from fixed_teachers import good
from prepared_runs import begun
from recorder import Recorder
from samples import Agent, settings, steps_of

from kd_agent import distill
from kd_agent.distillation import dagger
from kd_agent.distillation.collecting import collect_round
from kd_agent.distillation.dagger import collect_rounds
from kd_agent.distillation.final_fits import Attempt, final_fits
from kd_agent.distillation.validation import Grade, Validation
from kd_agent.rollouts import Rollout

SEVERAL = {"attempts": 3, "exam_episodes": 20, "hidden": [1], "rounds": 2, "final_steps": 1, "margin": 1e-4}
"""One unit after one step cannot hold the return of a teacher that knows all, so that all attempts are made."""


@pytest.fixture
def agent(agents: dict[str, Agent]) -> Agent:
    return agents["Discrete"]


def attempts_made(result: dict[str, Any], given: dict[str, Any]) -> float:
    spent = result["cost"]["gradient_steps"] - (given["rounds"] - 1) * given["round_steps"]
    return spent / given["final_steps"]


def test_attempts_go_on_while_none_holds_and_each_sees_one_more_round(agent: Agent, tmp_path: Path) -> None:
    given = {**settings(agent, tmp_path / "run", **SEVERAL), "teacher": ()}
    result = distill(given, good())
    assert attempts_made(result, given) == 3
    rounds = sorted((tmp_path / "run" / "checkpoint").glob("round-*.npz"))
    assert len(rounds) == 2 + 2
    assert result["cost"]["validation_steps"] >= 50 * 20


def test_an_attempt_that_holds_is_the_last(agent: Agent, tmp_path: Path) -> None:
    given = settings(agent, tmp_path / "run", attempts=5, exam_episodes=20, margin=1e6)
    assert attempts_made(distill(given), given) == 1


def test_the_best_of_all_attempts_is_kept() -> None:
    tried = [Attempt([], number, [Grade(score, False)], number + 1) for number, score in enumerate((1.0, 3.0, 2.0))]
    best: Attempt | None = None
    for attempt in tried:
        best = attempt.or_better(best)
    assert best is not None
    assert (best.number, best.score, best.tried) == (1, 3.0, 3)


def attempt(number: int, *grades: Grade) -> Attempt:
    return Attempt([], number, grades, number + 1)


def test_of_one_task_the_higher_score_wins_whoever_holds() -> None:
    first, later = attempt(0, Grade(5.0, True)), attempt(1, Grade(4.0, False))
    assert later.or_better(first).number == 0
    assert attempt(1, Grade(6.0, False)).or_better(first).number == 1


def test_of_two_alike_the_earlier_attempt_at_one_task_wins_and_the_later_at_several() -> None:
    """A later one was fitted to more states; scores of one task tell it, those of several have different units."""
    one = Grade(5.0, False)
    assert attempt(1, one).or_better(attempt(0, one)).number == 0
    assert attempt(1, one, one).or_better(attempt(0, one, one)).number == 1


def test_of_several_tasks_the_one_that_holds_in_more_wins_whatever_the_scores() -> None:
    holding = attempt(0, Grade(1.0, True), Grade(1.0, False))
    none = attempt(1, Grade(99.0, False), Grade(99.0, False))
    assert none.or_better(holding).number == 0
    both = attempt(2, Grade(0.0, True), Grade(0.0, True))
    assert both.or_better(holding).number == 2
    assert (holding.holding, holding.holds) == (1, False)
    assert (both.holding, both.holds) == (2, True)


def test_the_winner_knows_how_many_attempts_there_were_and_how_long_it_has_been_the_best() -> None:
    best = attempt(0, Grade(5.0, False))
    for number in (1, 2, 3):
        best = attempt(number, Grade(1.0, False)).or_better(best)
    assert (best.number, best.tried, best.stale) == (0, 4, 3)
    assert attempt(4, Grade(6.0, False)).or_better(best).stale == 0
    assert attempt(0, Grade(1.0, False)).or_better(None).tried == 1


def fitted(tmp_path: Path, scores: list[float], patience: int | None = None, **more: Any) -> tuple[Attempt, Recorder]:
    """The best of attempts that earn this, where the teacher earns 100."""
    recorder = Recorder(scores)
    with pytest.MonkeyPatch.context() as patch:
        recorder.install(patch)
        settings = {"rounds": 1, "env_steps": 32, "attempts": 6, "exam_episodes": 60, **more}
        with begun(tmp_path / "run", **settings) as run:
            rounds = collect_rounds([run])
            return final_fits(rounds, [Validation(run)], patience=patience), recorder


def test_patience_ends_when_so_many_attempts_in_a_row_are_no_better(tmp_path: Path) -> None:
    best, recorder = fitted(tmp_path, [88.0, 90.0, 86.0, 87.0, 92.0], patience=2)
    assert (best.number, best.tried) == (1, 4)
    # In margins of 5: 10 are missing, of which the first 5 do not count.
    assert best.score == pytest.approx(-1)
    assert len(recorder.fits) == 4


def test_with_patience_one_fit_that_is_far_off_is_enough(tmp_path: Path) -> None:
    assert fitted(tmp_path / "far", [84.0], patience=2)[0].tried == 1
    assert fitted(tmp_path / "near", [86.0] * 3, patience=2)[0].tried == 3
    assert fitted(tmp_path / "none", [10.0] * 6)[0].tried == 6


def test_who_falls_behind_the_best_by_more_than_the_margin_plays_no_more(tmp_path: Path) -> None:
    """The third is not shown to be inferior yet when it has fallen behind; without a rival it plays on."""
    _, recorder = fitted(tmp_path, [94.5, 93.5, 89.0], attempts=3)
    assert episodes_of(recorder) == [60, 60, 20]
    _, alone = fitted(tmp_path / "alone", [89.0], attempts=2, patience=0)
    assert episodes_of(alone)[0] > 20


def episodes_of(recorder: Recorder) -> list[int]:
    return [sum(len(play.seeds) for play in recorder.validations() if play.who == fit.after) for fit in recorder.fits]


def test_a_run_stopped_between_attempts_goes_on_to_the_same_bytes(
    agent: Agent, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, broken = ({**settings(agent, tmp_path / name, **SEVERAL), "teacher": ()} for name in ("whole", "broken"))
    uninterrupted = distill(whole, good())

    def stop_in_the_last_round(*args: Any) -> Rollout:
        if len(args[-1]) == 3:
            raise KeyboardInterrupt
        return collect_round(*args)

    monkeypatch.setattr(dagger, "collect_round", stop_in_the_last_round)
    with pytest.raises(KeyboardInterrupt):
        distill(broken, good())
    monkeypatch.undo()
    result = distill({**broken, "resume": True}, good())
    students = [(tmp_path / name / "student.safetensors").read_bytes() for name in ("whole", "broken")]
    assert students[0] == students[1]
    assert steps_of(result) == steps_of(uninterrupted)
