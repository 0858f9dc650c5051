"""The search for the smallest size: what a rung drops, what the verdict decides, and going on after a stop."""

from pathlib import Path
from typing import Any

import pytest
from samples import Agent, settings, steps_of

from kd_agent import distill, load_policy
from kd_agent.distillation import size_search
from kd_agent.distillation.size_search import Score, survivors
from kd_agent.networks import Student
from kd_agent.runs import Run

SEARCH = {"search_size": True, "hidden": [4], "attempts": 1, "exam_episodes": 60, "rounds": 2, "margin": 1e6,
          "episodes": 60, "max_episodes": 60}  # fmt: skip
"""Everything holds the teacher's return by such a margin, so that the smallest size that the rungs leave is taken."""


def scored(*figures: tuple[float, str]) -> list[Score]:
    """Sizes of 1, 2, ... units and parameters with these scores and decisions."""
    return [Score((n,), n, 1, 10, [0.0, 0.0], decision, score) for n, (score, decision) in enumerate(figures, 1)]


def units(scores: list[Score]) -> list[int]:
    return [score.hidden[0] for score in scores]


def test_a_size_that_a_smaller_one_beats_is_dropped_and_the_largest_never() -> None:
    field = scored((1, "undecided"), (5, "non-inferior"), (5, "non-inferior"), (6, "undecided"), (4, "undecided"))
    assert units(survivors(field)) == [1, 2, 4, 5]


def test_what_is_shown_to_be_inferior_is_dropped_though_it_is_the_smallest() -> None:
    field = scored((1, "inferior"), (2, "inferior"), (5, "undecided"), (6, "undecided"), (7, "undecided"))
    assert units(survivors(field)) == [3, 4, 5]


def test_at_most_half_are_dropped_and_the_useless_in_both_respects_first() -> None:
    field = scored((3, "inferior"), (2, "inferior"), (9, "undecided"), (8, "undecided"), (7, "undecided"))
    assert units(survivors(field)) == [1, 3, 5]
    assert units(survivors([*field[:1], *field[2:]])) == [3, 5]


def test_a_field_in_which_more_parameters_mean_more_return_goes_on_whole() -> None:
    field = scored(*((float(n), "undecided") for n in range(5)))
    assert survivors(field) == field


@pytest.fixture(scope="module")
def found(agents: dict[str, Agent], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A search and its result."""
    out = tmp_path_factory.mktemp("search") / "run"
    return out, distill(settings(agents["Discrete"], out, **SEARCH))


def test_the_result_is_the_chosen_size_and_the_front_is_all_that_was_tried(found: tuple[Path, dict[str, Any]]) -> None:
    out, result = found
    search, policy = result["search"], load_policy(out / "student.safetensors")
    assert search["judged"][-1] == {"hidden": search["chosen"], "decision": "non-inferior"}
    assert policy.graph.provenance["config"]["hidden"] == search["chosen"]
    rows = {tuple(row["hidden"]): row for row in search["front"]}
    assert set(rows) == {(), (1,), (2,), (3,), (4,)}
    assert [row["parameters"] for row in search["front"]] == sorted(row["parameters"] for row in search["front"])
    chosen = rows[tuple(search["chosen"])]
    assert chosen["parameters"] == result["student"]["parameters"] == policy.num_parameters
    assert (chosen["rung"], chosen["holds"]) == (size_search.LAST, True)
    smaller = [row for row in search["front"] if row["parameters"] < chosen["parameters"]]
    assert all(row["rung"] < size_search.LAST for row in smaller)


def test_the_report_shows_the_front(found: tuple[Path, dict[str, Any]]) -> None:
    page = (found[0] / "report.html").read_text()
    assert "Size and score" in page
    assert page.count("<svg") == 2


def test_the_gradient_steps_of_all_fits_are_counted(found: tuple[Path, dict[str, Any]]) -> None:
    _, result = found
    assert result["cost"]["gradient_steps"] >= 20 + 5 * (60 >> 3) + 60


def test_where_the_verdict_refuses_the_next_larger_size_is_judged(
    agents: dict[str, Agent], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    judge = size_search.judge_student

    def strict(run: Run, student: Student) -> dict[str, Any]:
        result = judge(run, student)
        if run.plan.hidden != (4,):
            result["verdict"] |= {"non_inferior": False, "decision": "inferior"}
        return result

    monkeypatch.setattr(size_search, "judge_student", strict)
    result = distill(settings(agents["Discrete"], tmp_path / "run", **SEARCH))
    judged = result["search"]["judged"]
    assert len(judged) >= 2
    assert [one["decision"] for one in judged] == ["inferior"] * (len(judged) - 1) + ["non-inferior"]
    assert result["search"]["chosen"] == [4]
    assert load_policy(tmp_path / "run" / "student.safetensors").num_parameters == result["student"]["parameters"]


def test_what_the_validation_leaves_open_the_verdict_decides(
    agents: dict[str, Agent], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decisions = iter(["inferior", "undecided"])
    monkeypatch.setattr(size_search.Validation, "decision", lambda validation, attempt: next(decisions))
    result = distill(settings(agents["Discrete"], tmp_path / "run", **SEARCH))
    fitted = [row for row in result["search"]["front"] if row["rung"] == size_search.LAST]
    assert [row["decision"] for row in fitted] == ["inferior", "undecided"]
    assert result["search"]["judged"] == [{"hidden": fitted[1]["hidden"], "decision": "non-inferior"}]
    assert result["student"]["parameters"] == fitted[1]["parameters"]


@pytest.mark.parametrize("moment", [3, 8])
def test_a_search_that_was_stopped_goes_on_to_the_same_bytes_and_measures_nothing_twice(
    moment: int,
    found: tuple[Path, dict[str, Any]],
    agents: dict[str, Agent],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given, measure, calls = settings(agents["Discrete"], tmp_path / "run", **SEARCH), size_search._measured, []

    def stop(*args: Any) -> Score:
        calls.append(args[-2:])
        if len(calls) == moment:
            raise KeyboardInterrupt
        return measure(*args)

    monkeypatch.setattr(size_search, "_measured", stop)
    with pytest.raises(KeyboardInterrupt):
        distill(given)
    result = distill({**given, "resume": True})
    assert len(calls) == len(set(calls)) + 1
    assert result["search"] == found[1]["search"]
    assert steps_of(result) == steps_of(found[1])
    assert (tmp_path / "run" / "student.safetensors").read_bytes() == (found[0] / "student.safetensors").read_bytes()


def test_a_search_that_was_stopped_after_a_verdict_goes_on_at_the_same_cost(
    agents: dict[str, Agent], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A verdict that is made again is not counted twice."""
    judge, stopped = size_search.judge_student, [False]

    def strict(run: Run, student: Student) -> dict[str, Any]:
        if run.plan.hidden == (4,) and stopped == [False] and "broken" in run.folder.path.name:
            stopped[0] = True
            raise KeyboardInterrupt
        result = judge(run, student)
        if run.plan.hidden != (4,):
            result["verdict"] |= {"non_inferior": False, "decision": "inferior"}
        return result

    monkeypatch.setattr(size_search, "judge_student", strict)
    given = settings(agents["Discrete"], tmp_path / "broken", **SEARCH)
    whole = distill({**given, "out": str(tmp_path / "whole")})
    with pytest.raises(KeyboardInterrupt):
        distill(given)
    result = distill({**given, "resume": True})
    assert stopped == [True]
    assert result["search"] == whole["search"]
    assert steps_of(result) == steps_of(whole)
    assert whole["cost"]["verdict_steps"] > 0
