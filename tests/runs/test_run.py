"""A run in progress: its settings with the plan in them, and the same run under another plan."""

from pathlib import Path

import pytest
from prepared_runs import begun
from recorder import TEACHER

from kd_agent.runs.plan import Plan
from kd_agent.settings import DistillConfig, resolve, to_yaml


def test_its_settings_are_those_that_were_asked_for_with_every_default_decided(tmp_path: Path) -> None:
    with begun(tmp_path / "run", margin=0.3, dropout=0.1) as run:
        settings = run.settings()
    assert (settings.margin, settings.dropout, settings.env) == (0.3, 0.1, run.config.env)
    for name in ("student", "loss", "rounds", "learning_rate"):
        assert getattr(run.config, name) is None or name == "rounds"
        assert getattr(settings, name) == getattr(run.plan, name)


def test_its_settings_make_the_same_plan_again(tmp_path: Path) -> None:
    """So does a resumed run, of which the file is all that is known."""
    with begun(tmp_path / "run", loss={"relation": 1.0}, hidden=[5, 4]) as run:
        path = tmp_path / "again.yaml"
        path.write_text(to_yaml(run.settings()))
        again = resolve(DistillConfig, {}, str(path))
        assert Plan.of(again, TEACHER, run.observed) == run.plan


def test_a_temperature_that_is_still_to_be_chosen_is_asked_for_again(tmp_path: Path) -> None:
    with begun(tmp_path / "run", temperature="auto") as run:
        assert run.plan.temperature == 1.0
        assert run.settings().temperature == "auto"
        assert run.planned(temperature=2.0).settings().temperature == "auto"


def test_another_plan_is_another_run_of_the_same_ledger(tmp_path: Path) -> None:
    with begun(tmp_path / "run") as run:
        other = run.planned(hidden=(3,), temperature=2.0)
        assert (other.plan.hidden, other.plan.temperature) == ((3,), 2.0)
        assert other.settings().hidden == (3,)
        assert run.plan.hidden == (8,)
        assert other.costs is run.costs
        assert other.folder is run.folder
        with pytest.raises(TypeError, match="hiden"):
            run.planned(hiden=(3,))


def test_seeds_differ_by_purpose_and_number_and_follow_from_the_runs(tmp_path: Path) -> None:
    found = []
    for name, seed in (("one", 3), ("two", 3), ("three", 4)):
        with begun(tmp_path / name, seed=seed) as run:
            found.append([run.seed("fit", number) for number in range(3)])
    assert found[0] == found[1]
    assert len(set(found[0])) == 3
    assert not set(found[0]) & set(found[2])
