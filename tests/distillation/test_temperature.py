"""A temperature that chooses itself: by held-out environments, with a reason, and as if it had been given."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from samples import Agent, settings, steps_of

from kd_agent import KDError, distill
from kd_agent.distillation import temperature
from kd_agent.distillation.dagger import Rounds
from kd_agent.evaluation.agreement import Agreement
from kd_agent.rollouts import Rollout
from kd_agent.runs.folder import RunFolder

SMALL = {"rounds": 2, "attempts": 1, "temperature": "auto"}


def test_the_best_is_chosen_by_what_was_asked_for() -> None:
    scores = {0.5: np.array([0.1, 0.2, 0.1]), 1.0: np.array([0.5, 0.6, 0.6]), 2.0: np.array([0.9, 0.9, 0.8])}
    assert temperature.choose(scores, "kl")[0] == 0.5
    chosen, reason = temperature.choose(scores, "agreement")
    assert chosen == 2.0
    assert "held-out agreement 0.8667 at 2, 0.5667 at 1" in reason
    assert "3 folds" in reason


def test_a_lead_within_a_standard_error_goes_to_one() -> None:
    noise = {0.5: np.array([0.2, 0.9, 0.1, 0.7]), 1.0: np.array([0.6, 0.3, 0.8, 0.3])}
    chosen, reason = temperature.choose(noise, "kl")
    assert chosen == 1.0
    assert "within a standard error" in reason
    same = {t: np.zeros(4) for t in temperature.CANDIDATES}
    assert temperature.choose(same, "kl")[0] == 1.0


def test_every_environment_is_scored_once_by_a_student_that_never_saw_it(
    agents: dict[str, Agent], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fitted: list[Sequence[Rollout]] = []
    scored: list[bytes] = []

    def fit(run: Any, student: Any, columns: Sequence[Rollout], **rest: Any) -> float:
        fitted.append(columns)
        return 0.0

    def agreement_on(teacher: Any, student: Any, column: Rollout) -> Agreement:
        mine = column.obs["obs"].tobytes()
        assert mine not in {other.obs["obs"].tobytes() for other in fitted[-1]}
        assert len(fitted[-1]) + 1 == 4
        scored.append(mine)
        return Agreement(0.0, 0.0, 1.0)

    monkeypatch.setattr(temperature, "fit", fit)
    monkeypatch.setattr(temperature, "agreement_on", agreement_on)
    distill(settings(agents["Discrete"], tmp_path / "run", **SMALL))
    assert len(scored) == 4 * len(temperature.CANDIDATES)
    assert len(set(scored)) == 4


@pytest.fixture
def sharp(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever was measured, the choice is 0.5."""
    monkeypatch.setattr(temperature, "choose", lambda scores, by: (0.5, f"by {by}"))


@pytest.mark.usefixtures("sharp")
def test_the_run_is_the_one_that_the_chosen_temperature_would_have_been(
    agents: dict[str, Agent], tmp_path: Path
) -> None:
    given = settings(agents["Discrete"], tmp_path / "auto", **SMALL, choose_by="agreement")
    result = distill(given)
    distill({**given, "temperature": 0.5, "out": str(tmp_path / "plain")})
    assert result["temperature"]["chosen"] == 0.5
    assert (result["temperature"]["by"], result["temperature"]["reason"]) == ("agreement", "by agreement")
    rows = result["temperature"]["candidates"]
    assert [row["temperature"] for row in rows] == list(temperature.CANDIDATES)
    assert all(row["kl"] >= 0 and 0 <= row["agreement"] <= 1 for row in rows)
    assert RunFolder(tmp_path / "auto").read_yaml("config.yaml")["temperature"] == 0.5
    assert "chose itself: by agreement" in (tmp_path / "auto" / "report.html").read_text()
    students = [(tmp_path / name / "student.safetensors").read_bytes() for name in ("auto", "plain")]
    assert students[0] == students[1]


@pytest.mark.usefixtures("sharp")
@pytest.mark.parametrize("moment", [0, 1])
def test_a_run_that_was_stopped_goes_on_with_the_same_choice(
    moment: int, agents: dict[str, Agent], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = settings(agents["Discrete"], tmp_path / "run", **{**SMALL, "rounds": 3})
    whole = distill({**given, "out": str(tmp_path / "whole")})
    fit = Rounds.fit

    def stop(*args: Any, **rest: Any) -> None:
        if rest["number"] == moment:
            raise KeyboardInterrupt
        fit(*args, **rest)

    with monkeypatch.context() as patch:
        patch.setattr(Rounds, "fit", stop)
        with pytest.raises(KeyboardInterrupt):
            distill(given)
    monkeypatch.setattr(temperature, "measured", lambda *args: pytest.fail("it was measured before"))
    result = distill({**given, "resume": True})
    assert result["temperature"] == whole["temperature"]
    assert steps_of(result) == steps_of(whole)
    students = [(tmp_path / name / "student.safetensors").read_bytes() for name in ("run", "whole")]
    assert students[0] == students[1]
    with pytest.raises(KDError, match=r"was begun with temperature = 0\.5, not 2\.0"):
        distill({**given, "resume": True, "temperature": 2.0})


def test_where_a_temperature_has_no_effect_nothing_is_measured(agents: dict[str, Agent], tmp_path: Path) -> None:
    record = distill(settings(agents["Box"], tmp_path / "run", **SMALL))["temperature"]
    assert (record["chosen"], record["candidates"]) == (1.0, [])
    assert "without effect" in record["reason"]


def test_one_environment_leaves_nothing_to_hold_out(agents: dict[str, Agent], tmp_path: Path) -> None:
    with pytest.raises(KDError, match="n_envs of 2 or more"):
        distill(settings(agents["Discrete"], tmp_path / "run", **{**SMALL, "n_envs": 1}))
    assert not (tmp_path / "run").exists()
