"""What a verdict is worth: a teacher that is no better than chance, or better where it samples, is said first."""

from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
from prepared_runs import begun
from recorder import TEACHER, Recorder, fingerprint, recorded
from samples import PROBES

from kd_agent.evaluation import EVALUATION_SEED, verdict_episodes
from kd_agent.evaluation.references import References

ENV = PROBES["Discrete"]
CHANCE = "WARNING: the teacher is not shown to be better than chance: "


def references(
    teacher: list[float], otherwise: list[float] | None = None, random: list[float] | None = None, play: str = "greedy"
) -> References:
    return References(ENV, play, teacher, otherwise or teacher, random or [0.0, 1.0] * 10)


@pytest.mark.parametrize(
    ("teacher", "better"),
    [
        ([100.0, 99.0] * 10, True),
        ([1.0, 0.0] * 10, False),
        ([0.0] * 20, False),
        ([-50.0, -51.0] * 10, False),
        ([0.0, 1.2] * 10, False),
        ([100.0], False),
    ],
)
def test_a_teacher_is_better_than_the_random_policy_where_that_is_shown(teacher: list[float], better: bool) -> None:
    found = references(teacher)
    assert found.better_than_random == found.figures()["better_than_random"] == better
    assert any(line.startswith(CHANCE) for line in found.lines()) != better


def test_equal_constant_returns_are_no_better() -> None:
    assert not references([-200.0] * 20, random=[-200.0] * 40).better_than_random
    assert references([-199.0] * 20, random=[-200.0] * 40).better_than_random


@pytest.mark.parametrize(
    ("play", "other", "advice"), [("greedy", "sampled", "try --sampled"), ("sampled", "greedy", "leave --sampled out")]
)
def test_a_teacher_that_is_better_played_the_other_way_is_warned_of(play: str, other: str, advice: str) -> None:
    found = references([40.0, 42.0] * 10, [60.0, 64.0] * 10, play=play)
    assert found.lines() == [f"WARNING: the teacher plays worse {play} (41.0) than {other} (62.0): {advice}"]
    assert (found.figures()["better_otherwise"], found.figures()["mean_otherwise"]) == (True, 62.0)
    assert not references([40.0, 42.0] * 10, [40.0, 43.0] * 10).better_otherwise
    assert not references([60.0, 64.0] * 10, [40.0, 42.0] * 10).better_otherwise


def test_chance_comes_first_and_weakness_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gym.spec(ENV), "reward_threshold", 101.0)
    found = references([-5.0, -6.0] * 10, [50.0, 60.0] * 10)
    assert [line.split(":")[1].split()[2:4] for line in found.lines()] == [
        ["is", "not"],
        ["plays", "worse"],
        ["is", "weak"],
    ]
    assert found.lines()[0] == CHANCE + "mean -5.5, the random policy 0.5"
    assert found.lines()[2] == f"WARNING: the teacher is weak: mean -5.5, {ENV} counts as solved from 101"
    assert found.figures().items() >= {"weak": True, "reward_threshold": 101.0}.items()
    assert not references([102.0, 103.0] * 10).weak


def test_where_the_environment_has_no_threshold_nobody_is_weak() -> None:
    found = references([100.0, 99.0] * 10)
    assert found.lines() == []
    assert found.figures().items() >= {"weak": False, "reward_threshold": None}.items()


@pytest.mark.parametrize("sampled", [False, True])
def test_the_three_play_the_first_seeds_of_the_verdict_and_the_teacher_both_ways(
    sampled: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = Recorder(sampled=120.0)
    recorder.install(monkeypatch)
    with begun(tmp_path / "run", episodes=90, max_episodes=120, sampled=sampled) as run:
        found = References.of(run, verdict_episodes(run))
    teacher, otherwise = (120.0, 100.0) if sampled else (100.0, 120.0)
    assert (found.teacher, found.otherwise, found.random) == ([teacher] * 20, [otherwise] * 20, [0.0] * 40)
    assert (found.env_id, found.play) == (ENV, "sampled" if sampled else "greedy")
    first = list(range(EVALUATION_SEED, EVALUATION_SEED + 20))
    played = [(play.who, play.deterministic, play.seeds) for play in recorder.plays]
    name = fingerprint(TEACHER.graph)
    assert played[:2] == [(name, not sampled, first), (name, sampled, first)]
    assert played[2][0] is None


def worthless(tmp_path: Path, earned: float) -> Recorder:
    """A run under a teacher that earns this, where the random policy earns 0 and the student as much as the teacher."""
    recorder = Recorder([], lambda seed: earned, teachers={fingerprint(TEACHER.graph): earned})
    return recorded(tmp_path / "run", recorder, attempts=1)


@pytest.mark.parametrize("earned", [-100.0, 0.0])
def test_a_run_under_a_worthless_teacher_says_so_before_its_verdict(earned: float, tmp_path: Path) -> None:
    run = worthless(tmp_path, earned)
    judged = [line for line in run.lines if line.startswith(("WARNING", "non-inferior", "undecided"))]
    assert judged[0].startswith(CHANCE)
    assert judged[-1].startswith(f"{run.result['verdict']['decision']} to a teacher that is no better than chance: ")
    assert run.result["teacher"]["better_than_random"] is False
    assert not run.result.shown_to_be_good


def test_a_good_student_of_a_good_teacher_is_shown_to_be_good(tmp_path: Path) -> None:
    run = worthless(tmp_path, 100.0)
    assert run.result["teacher"]["better_than_random"] is True
    assert run.result.shown_to_be_good
    assert not any(line.startswith("WARNING") for line in run.lines)
    bad: Any = recorded(tmp_path / "bad", Recorder([], lambda seed: 10.0), attempts=1).result
    assert not bad.shown_to_be_good
