"""The search over temperature, loss and size: it goes on after a stop, and its best settings are a file to use."""

import json
from pathlib import Path
from typing import Any

import pytest
from samples import Agent, flags, settings

from kd_agent import KDError
from kd_agent.commands.cli import run
from kd_agent.settings import DistillConfig, SearchConfig, resolve
from kd_agent.studies import settings_search
from kd_agent.studies.settings_search import best_of, front, search_settings

pytest.importorskip("optuna")
SMALL = {"rounds": 2, "hidden": [4], "final_steps": 30, "trials": 8}


def config(agent: Agent, out: Path, **more: Any) -> SearchConfig:
    return resolve(SearchConfig, {**settings(agent, out), **SMALL, **more})


def trial(number: int, parameters: int, regret: float, decision: str = "undecided") -> dict[str, Any]:
    return {"number": number, "parameters": parameters, "regret": regret, "decision": decision}


def test_the_front_is_what_nothing_equals_or_beats_in_both_respects() -> None:
    trials = [trial(0, 50, 1.0), trial(1, 20, 1.0), trial(2, 20, 1.0), trial(3, 10, 30.0), trial(4, 60, 0.0)]
    assert [row["number"] for row in front(trials)] == [1, 3, 4]


def test_the_best_is_the_smallest_that_holds_and_else_the_one_that_loses_least() -> None:
    trials = [trial(0, 50, 1.0, "non-inferior"), trial(1, 20, 2.0, "non-inferior"), trial(2, 10, 30.0, "inferior")]
    assert best_of(trials)["number"] == 1
    assert best_of([trial(0, 10, 9.0), trial(1, 90, 4.0)])["number"] == 1


@pytest.fixture(scope="module")
def found(agents: dict[str, Agent], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A search and its result."""
    out = tmp_path_factory.mktemp("settings") / "run"
    return out, search_settings(config(agents["Discrete"], out))


def test_the_first_trial_is_the_run_s_own_and_the_others_differ(found: tuple[Path, dict[str, Any]]) -> None:
    out, result = found
    assert json.loads((out / "search.json").read_text()) == result
    trials = result["trials"]
    first = trials[0]
    assert (first["hidden"], first["loss"], first["temperature"]) == ([4], "kl", 1.0)
    assert len(trials) == 8
    assert len({(row["loss"], row["temperature"], *row["hidden"]) for row in trials}) == 8
    assert len({row["loss"] for row in trials}) > 1
    low, high = settings_search.TEMPERATURES
    assert all(low <= row["temperature"] <= high and row["parameters"] <= first["parameters"] for row in trials)


def test_the_best_settings_are_a_config_file(found: tuple[Path, dict[str, Any]], agents: dict[str, Agent]) -> None:
    out, result = found
    best = resolve(DistillConfig, {"env": agents["Discrete"].env_id}, str(out / "best.yaml"))
    assert list(best.hidden or ()) == result["best"]["hidden"]
    assert best.loss == {result["best"]["loss"]: 1.0}
    assert best.temperature == result["best"]["temperature"]


def test_a_search_that_was_stopped_loses_only_the_trial_in_progress(
    found: tuple[Path, dict[str, Any]], agents: dict[str, Agent], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried, calls = settings_search._tried, []

    def stop(*args: Any) -> dict[str, Any]:
        calls.append(args[-1])
        if len(calls) == 7:
            raise KeyboardInterrupt
        return tried(*args)

    monkeypatch.setattr(settings_search, "_tried", stop)
    with pytest.raises(KeyboardInterrupt):
        search_settings(config(agents["Discrete"], tmp_path / "run"))
    assert len(json.loads((tmp_path / "run" / "search.json").read_text())["trials"]) == 6
    assert search_settings(config(agents["Discrete"], tmp_path / "run")) == found[1]
    assert calls == [0, 1, 2, 3, 4, 5, 6, 6, 7]


def test_more_trials_go_on_from_those_there_are(
    found: tuple[Path, dict[str, Any]], agents: dict[str, Agent], tmp_path: Path
) -> None:
    given = config(agents["Discrete"], tmp_path / "run", trials=2)
    assert len(search_settings(given)["trials"]) == 2
    more = search_settings(config(agents["Discrete"], tmp_path / "run", trials=3))
    assert more["trials"] == found[1]["trials"][:3]
    with pytest.raises(KDError, match="was begun with seed = 0, not 1"):
        search_settings(config(agents["Discrete"], tmp_path / "run", trials=3, seed=1))


def test_the_command_prints_the_front(
    agents: dict[str, Agent], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = {**settings(agents["Discrete"], tmp_path / "run"), **SMALL, "trials": 2}
    assert run("search-settings", flags(given)) == 0
    assert "<- best" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"temperature": "auto"}, "--temperature auto"),
        ({"search_size": True}, "--search-size"),
        ({"student": "tree"}, "--leaves"),
    ],
)
def test_what_a_search_cannot_be_is_refused_before_anything_is_written(
    more: dict[str, Any], words: str, agents: dict[str, Agent], tmp_path: Path
) -> None:
    with pytest.raises(KDError, match=words):
        search_settings(config(agents["Discrete"], tmp_path / "run", **more))
    assert not (tmp_path / "run").exists()


def test_without_optuna_the_answer_is_what_to_install(
    agents: dict[str, Agent], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings_search, "find_spec", lambda name: None)
    with pytest.raises(KDError, match=r"pip install optuna"):
        search_settings(config(agents["Discrete"], tmp_path / "run"))
