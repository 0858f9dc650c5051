"""Attempts at the last fit: they stop when one holds, the best is kept, and a stopped run goes on in between."""

from pathlib import Path
from typing import Any

import pytest
from fixed_teachers import good
from samples import Agent, settings

from kd_agent import distill
from kd_agent.distillation import dagger
from kd_agent.distillation.dagger import collect_round
from kd_agent.distillation.final_fits import Attempt, Grade
from kd_agent.rollouts.collect import Rollout

SEVERAL = {"attempts": 3, "exam_episodes": 8, "hidden": [1], "rounds": 2, "final_steps": 1, "margin": 1e-4}
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
    assert result["cost"]["exam_steps"] >= 50 * 8


def test_an_attempt_that_holds_is_the_last(agent: Agent, tmp_path: Path) -> None:
    given = settings(agent, tmp_path / "run", attempts=5, exam_episodes=8, margin=1e6)
    assert attempts_made(distill(given), given) == 1


def test_a_single_attempt_sits_no_exam(agent: Agent, tmp_path: Path) -> None:
    assert distill(settings(agent, tmp_path / "run", attempts=1))["cost"]["exam_steps"] == 0


def test_the_best_of_all_attempts_is_kept() -> None:
    tried = [Attempt([], number, [Grade(score, False)], number + 1) for number, score in enumerate((1.0, 3.0, 2.0))]
    best: Attempt | None = None
    for attempt in tried:
        best = attempt.or_better(best)
    assert best is not None
    assert (best.number, best.score, best.tried) == (1, 3.0, 3)


def test_a_run_stopped_between_attempts_goes_on_to_the_same_bytes(
    agent: Agent, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, broken = ({**settings(agent, tmp_path / name, **SEVERAL), "teacher": ()} for name in ("whole", "broken"))
    finished = distill(whole, good())

    def stop_in_the_last_round(*args: Any) -> Rollout:
        if args[-1] == 3:
            raise KeyboardInterrupt
        return collect_round(*args)

    monkeypatch.setattr(dagger, "collect_round", stop_in_the_last_round)
    with pytest.raises(KeyboardInterrupt):
        distill(broken, good())
    monkeypatch.undo()
    resumed = distill({**broken, "resume": True}, good())
    counts = [name for name in finished["cost"] if name.endswith("_steps")]
    assert [resumed["cost"][name] for name in counts] == [finished["cost"][name] for name in counts]
    students = [(tmp_path / name / "student.safetensors").read_bytes() for name in ("whole", "broken")]
    assert students[0] == students[1]
