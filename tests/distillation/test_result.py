"""What a distillation returns: the content of result.json that knows its folder, its student and its verdict."""

import copy
import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from samples import PROBES, Agent, settings

from kd_agent import KDError, distill, load_policy
from kd_agent.distillation.outcome import Result, TasksResult

FIGURES: dict[str, Any] = {
    "env": "CartPole-v1",
    "teacher": {"mean": 500.0, "lower_tail": 490.0, "parameters": 12_345, "better_than_random": True},
    "student": {"mean": 499.5, "lower_tail": 470.0, "parameters": 67},
    "verdict": {
        "decision": "non-inferior",
        "non_inferior": True,
        "episodes": 100,
        "difference": -0.5,
        "difference_ci": [-1.0, 0.25],
        "margin": 20.0,
        "lower_tail": {"difference": -20.0, "margin": 200.0},
    },
}


def test_the_result_of_a_run_is_the_content_of_its_file(runs: dict[str, Any]) -> None:
    folder, result = runs["Discrete"]
    content = json.loads((folder / "result.json").read_text())
    assert isinstance(result, Result)
    assert result == content
    assert json.loads(json.dumps(result)) == content
    assert {**result} == content


def test_it_knows_its_folder_its_student_and_its_verdict(runs: dict[str, Any]) -> None:
    folder, result = runs["Discrete"]
    assert result.path == folder
    assert result.student_file == folder / "student.safetensors"
    assert result.verdict == result["verdict"]
    batch = np.random.default_rng(0).normal(size=(9, 4)).astype(np.float32)
    saved = load_policy(folder / "student.safetensors")
    assert np.array_equal(result.policy.params(batch), saved.params(batch))


def test_a_run_without_a_named_folder_says_where_it_is(
    agents: dict[str, Agent], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    given = settings(agents["Discrete"], tmp_path)
    del given["out"]
    result = distill(given)
    assert result.path == Path("runs") / PROBES["Discrete"].replace("/", "-") / "1"
    assert json.loads((result.path / "result.json").read_text()) == result


def test_it_reads_well(tmp_path: Path) -> None:
    assert repr(Result(FIGURES, tmp_path)).splitlines() == [
        "Result",
        "  environment: CartPole-v1",
        "  verdict: non-inferior after 100 episodes",
        "  mean: 499.5, teacher 500.0",
        "  worst tenth: 470.0, teacher 490.0",
        "  difference: -0.5 [-1.0, 0.2], margin 20.0",
        "  difference of the worst tenth: -20.0, margin 200.0",
        "  parameters: 67, teacher 12,345",
        f"  run folder: {tmp_path}",
    ]


def test_a_notebook_shows_a_table_in_which_nothing_is_markup() -> None:
    page = Result({**FIGURES, "env": "<script>x</script>"}, Path("a&b"))._repr_html_()
    assert page.count("<tr>") == 8
    assert "<script>" not in page
    assert "&lt;script&gt;" in page
    assert "a&amp;b" in page


@pytest.mark.parametrize(
    ("non_inferior", "better", "good"), [(True, True, True), (True, False, False), (False, True, False)]
)
def test_a_student_is_good_where_it_holds_and_its_teacher_beats_chance(
    non_inferior: bool, better: bool, good: bool
) -> None:
    figures = copy.deepcopy(FIGURES)
    figures["verdict"]["non_inferior"], figures["teacher"]["better_than_random"] = non_inferior, better
    assert Result(figures, Path("run")).shown_to_be_good is good


def test_copies_and_pickles_keep_the_folder(tmp_path: Path) -> None:
    result = Result(FIGURES, tmp_path)
    for other in (copy.copy(result), copy.deepcopy(result), pickle.loads(pickle.dumps(result))):
        assert other == result
        assert other.path == tmp_path


def test_a_run_of_several_tasks_has_a_verdict_for_each(tmp_path: Path) -> None:
    content = {
        "tasks": {"CartPole-v1": FIGURES, "Acrobot-v1": {**FIGURES, "verdict": {"decision": "undecided"}}},
        "parameters": {"total": 761, "shared": 272},
    }
    result = TasksResult(content, tmp_path)
    assert {task: verdict["decision"] for task, verdict in result.verdict.items()} == {
        "CartPole-v1": "non-inferior",
        "Acrobot-v1": "undecided",
    }
    assert repr(result).splitlines() == [
        "TasksResult",
        "  CartPole-v1: non-inferior, mean 499.5, teacher 500.0",
        "  Acrobot-v1: undecided, mean 499.5, teacher 500.0",
        "  parameters: 761, of which 272 are shared",
        f"  run folder: {tmp_path}",
    ]


def test_a_student_that_is_gone_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(KDError, match="no such file"):
        _ = Result(FIGURES, tmp_path).policy


def test_a_teacher_of_unknown_size_can_be_shown_too() -> None:
    unknown = {**FIGURES, "teacher": {**FIGURES["teacher"], "parameters": None}}
    assert "parameters: 67, teacher size unknown" in repr(Result(unknown, Path("runs/1")))
