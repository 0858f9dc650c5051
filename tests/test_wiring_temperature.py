"""A temperature that chooses itself is measured on states held out, and is the run's from then on."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from recorder import ROUNDS, SCORES, SEAMS, Recorder, recorded

from kd_agent.evaluation.agreement import Agreement
from kd_agent.networks import Teacher
from kd_agent.rollouts.collect import Rollout


@pytest.mark.parametrize(("by", "chosen"), [("kl", 4.0), ("agreement", 0.25)])
def test_an_automatic_temperature_is_chosen_by_what_was_asked_for_on_states_held_out(
    by: str, chosen: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """KL falls with the temperature here, and so does agreement."""
    recorder = Recorder(SCORES)
    noise = np.random.default_rng(0)

    def agreement_on(teacher: Teacher, policy: Any, column: Rollout) -> Agreement:
        fit = recorder.fits[-1]
        shown = {rollout.obs["obs"].tobytes() for rollout in fit.rollouts}
        assert column.obs["obs"].tobytes() not in shown
        worth = 1 / fit.objective.softening.temperature + 1e-4 * noise.random()
        return Agreement(kl=worth, kl_uniform=1.0, agreement=worth)

    monkeypatch.setattr(SEAMS["agreement"], agreement_on)
    recorded(tmp_path / "run", recorder, temperature="auto", choose_by=by, attempts=1)
    assert [fit.objective.softening.temperature for fit in recorder.fits[-ROUNDS:]] == [chosen] * ROUNDS
    tried = {fit.objective.softening.temperature for fit in recorder.fits[:-ROUNDS]}
    assert {0.25, 1.0, 4.0} <= tried
