"""A temperature that chooses itself is measured on states held out, and is the run's from then on."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from recorder import GIVEN, ROUNDS, SCORES, SEAMS, Recorder, Stopped, recorded

from kd_agent import load_policy
from kd_agent.evaluation.agreement import Agreement
from kd_agent.rollouts import Rollout

FOLDS, CANDIDATES = 4, 5


class Measured:
    """Stands in for the measuring of a candidate: KL falls with the temperature here, and so does agreement."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._noise = np.random.default_rng(0)
        self.columns: list[bytes] = []

    def __call__(self, teacher: Any, policy: Any, column: Rollout) -> Agreement:
        fit = self._recorder.fits[-1]
        shown = {rollout.obs["obs"].tobytes() for rollout in fit.rollouts}
        assert column.obs["obs"].tobytes() not in shown
        self.columns.append(column.obs["obs"].tobytes())
        worth = 1 / fit.objective.softening.temperature + 1e-4 * self._noise.random()
        return Agreement(kl=worth, kl_uniform=1.0, agreement=worth)


def temperatures(recorder: Recorder) -> list[float]:
    return [fit.objective.softening.temperature for fit in recorder.fits]


@pytest.mark.parametrize(("by", "chosen"), [("kl", 4.0), ("agreement", 0.25)])
def test_an_automatic_temperature_is_chosen_by_what_was_asked_for_on_states_held_out(
    by: str, chosen: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = Recorder(SCORES)
    measured = Measured(recorder)
    monkeypatch.setattr(SEAMS["agreement"], measured)
    recorded(tmp_path / "run", recorder, temperature="auto", choose_by=by, attempts=1)
    tried, used = recorder.fits[:-ROUNDS], temperatures(recorder)[-ROUNDS:]
    assert used == [chosen] * ROUNDS
    assert len(tried) == FOLDS * CANDIDATES == len(measured.columns)
    assert set(temperatures(recorder)[:-ROUNDS]) == {0.25, 0.5, 1.0, 2.0, 4.0}
    assert {fit.told["steps"] for fit in tried} == {GIVEN["final_steps"] // 10}
    assert {len(fit.rollouts) for fit in tried} == {FOLDS - 1}
    assert len(set(measured.columns)) == FOLDS
    assert (recorder.result["temperature"]["chosen"], recorder.result["temperature"]["by"]) == (chosen, by)
    kept = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    provenance = load_policy(tmp_path / "run" / "student.safetensors").graph.provenance
    assert kept["temperature"] == provenance["config"]["temperature"] == chosen


def test_a_run_whose_temperature_is_fixed_measures_none(tmp_path: Path) -> None:
    assert "temperature" not in recorded(tmp_path / "run", attempts=1).result


def test_a_stopped_run_goes_on_at_the_temperature_that_it_has_chosen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = Recorder(SCORES, stop_at_round=2)
    monkeypatch.setattr(SEAMS["agreement"], Measured(first))
    with pytest.raises(Stopped):
        recorded(tmp_path / "run", first, temperature="auto")
    again = recorded(tmp_path / "run", Recorder(SCORES), temperature="auto", attempts=GIVEN["attempts"], resume=True)
    assert set(temperatures(again)) == {4.0}
    assert again.result["temperature"]["chosen"] == 4.0


def test_a_run_that_is_stopped_before_it_has_chosen_asks_again_and_measures_only_what_it_does_not_know(
    tmp_path: Path,
) -> None:
    first = Recorder(SCORES, stop_at_round=0)
    with pytest.raises(Stopped):
        recorded(tmp_path / "run", first, temperature="auto")
    assert yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())["temperature"] == "auto"
    known = {"chosen": 2.0, "by": "kl", "reason": "measured before", "candidates": []}
    (tmp_path / "run" / "temperature.json").write_text(json.dumps(known))
    again = recorded(tmp_path / "run", Recorder(SCORES), temperature="auto", resume=True)
    assert set(temperatures(again)) == {2.0}
    assert again.result["temperature"] == known
