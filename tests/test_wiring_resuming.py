"""A run that was stopped goes on as if it had not been, and its costs are those of all that was done, once."""

from pathlib import Path

import numpy as np
import pytest
from recorder import (
    ROUNDS,
    SCORES,
    SEAMS,
    TEACHER,
    Recorder,
    Stopped,
    a_teacher,
    fingerprint,
    recorded,
    wavering,
)

from kd_agent import KDError
from kd_agent.runs import Costs

VALIDATION, VERDICT = 10_000, 20_000
TEACHER_NAME = fingerprint(TEACHER.graph)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("resuming") / "run"


@pytest.fixture(scope="module")
def run(folder: Path) -> Recorder:
    """A whole run in which no attempt holds."""
    return recorded(folder)


@pytest.mark.parametrize("stopped_at", [2, ROUNDS + 1], ids=["between rounds", "between attempts"])
def test_a_stopped_run_goes_on_with_the_right_round_driver_and_data(
    stopped_at: int, run: Recorder, folder: Path, tmp_path: Path
) -> None:
    first = Recorder(SCORES, wavering, stop_at_round=stopped_at)
    with pytest.raises(Stopped):
        recorded(tmp_path / "run", first)
    missing = max(0, stopped_at - ROUNDS + 1)
    again = recorded(tmp_path / "run", Recorder(SCORES[missing:], wavering), resume=True)
    for found, expected in zip(again.rounds, run.rounds[stopped_at:], strict=True):
        assert (found.student, found.told["beta"]) == (expected.student, expected.told["beta"])
        assert found.told["seed"] == expected.told["seed"]
    fits = run.fits[stopped_at:]
    assert [len(fit.rollouts) for fit in again.fits] == [len(fit.rollouts) for fit in fits]
    assert [fit.before for fit in again.fits] == [fit.before for fit in fits]
    for found, expected in zip(again.fits[-1].rollouts, run.fits[-1].rollouts, strict=True):
        np.testing.assert_array_equal(found.obs["obs"], expected.obs["obs"])
    files = [(path / "student.safetensors").read_bytes() for path in (folder, tmp_path / "run")]
    assert files[0] == files[1]


def counts(recorder: Recorder) -> dict[str, int]:
    """What a run has cost, in steps."""
    return {name: steps for name, steps in recorder.result["cost"].items() if name.endswith("_steps")}


@pytest.mark.parametrize("stopped_at", [0, 2, ROUNDS + 1], ids=["at once", "between rounds", "between attempts"])
def test_a_run_that_was_stopped_costs_as_much_as_one_that_was_not(
    stopped_at: int, run: Recorder, tmp_path: Path
) -> None:
    with pytest.raises(Stopped):
        recorded(tmp_path / "run", Recorder(SCORES, wavering, stop_at_round=stopped_at))
    missing = max(0, stopped_at - ROUNDS + 1)
    again = recorded(tmp_path / "run", Recorder(SCORES[missing:], wavering), resume=True)
    assert counts(again) == counts(run)
    played = [seed for play in again.plays if play.who in (None, TEACHER_NAME) for seed in play.seeds]
    validated = [seed for seed in played if VALIDATION <= seed < VERDICT]
    # What teacher and random policy have played before they do not play again.
    assert len(validated) == (0 if missing else 20 + 20)


def test_a_finished_run_is_judged_again_and_nothing_else(run: Recorder, folder: Path) -> None:
    before = (folder / "student.safetensors").read_bytes()
    again = recorded(folder, Recorder([], wavering), resume=True)
    assert (again.rounds, again.fits) == ([], [])
    assert (folder / "student.safetensors").read_bytes() == before
    assert again.result["verdict"] == run.result["verdict"]


def test_a_run_does_not_go_on_under_other_settings_or_with_another_teacher(folder: Path, run: Recorder) -> None:
    with pytest.raises(KDError, match=r"was begun with margin = 0\.2, not 0\.3"):
        recorded(folder, Recorder([]), resume=True, margin=0.3)
    with pytest.raises(KDError, match="was begun with another teacher"):
        recorded(folder, Recorder([]), taught_by=a_teacher(seed=1), resume=True)
    with pytest.raises(KDError, match="holds a run already"):
        recorded(folder, Recorder([]))


def test_every_second_belongs_to_the_innermost_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(SEAMS["clock"], lambda: now)
    costs = Costs()
    now = 100.0
    with costs.timed("outer"):
        now += 1
        with costs.timed("inner"):
            now += 10
            with costs.timed("outer"):
                now += 100
            now += 20
        now += 2
        assert costs.to_json()["outer"] == 103
        now += 4
    now += 1_000
    assert costs.seconds == {"outer": 107, "inner": 30}
    with costs.timed("inner"):
        now += 5
    assert costs.seconds == {"outer": 107, "inner": 35}


def test_a_runs_stages_are_told_apart(run: Recorder) -> None:
    seconds = {name for name in run.result["cost"] if name.endswith("_s")}
    stages = {"teacher", "distill", "evaluate"}
    assert seconds == {f"{stage}_{clock}" for stage in stages for clock in ("s", "cpu_s")}


def test_a_ledger_is_restored_as_it_was_kept() -> None:
    costs = Costs()
    for steps in (3, 4):
        costs.add("collect_steps", steps)
    arrays = {"weights": np.zeros(2), **costs.arrays()}
    other = Costs()
    other.add("collect_steps", 1_000)
    other.add("selection_steps", 1_000)
    other.restore(arrays)
    assert other.counts == {**costs.counts, "selection_steps": 0}
    assert (other.of("collect_steps"), other.of("never"), list(arrays)) == (7, 0, ["weights"])
