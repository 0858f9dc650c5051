"""Paired comparisons: everybody plays the same numbered episodes, the teacher plays none twice, and all is booked."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from prepared_runs import begun
from samples import PROBES

from kd_agent.environments import recipe_of
from kd_agent.evaluation import comparison
from kd_agent.evaluation.comparison import Episodes, PairedComparison, compare_recorded
from kd_agent.evaluation.non_inferiority import compare
from kd_agent.networks import Origin
from kd_agent.rollouts.evaluate import Evaluation
from kd_agent.runs import Costs, Reporter
from kd_agent.teachers import RecordedTeacher, Recording


class Paid:
    """Earns a wage in every episode, and a bonus by its seed."""

    def __init__(self, wage: float, bonus: float = 0.0) -> None:
        self.wage, self.bonus = wage, bonus

    def predict(self, *observations: Any, **more: Any) -> Any:
        raise AssertionError("nobody acts here")


TEACHER = Paid(100.0)
LENGTH = 10


class Ground:
    """Stands in for playing: writes down who played which seeds."""

    def __init__(self) -> None:
        self.played: list[tuple[Any, list[int]]] = []
        self.greedily: list[bool] = []

    def evaluate(
        self, player: Any, recipe: Any, *, seeds: Iterable[int], head: Any, deterministic: bool, advance: Any
    ) -> Evaluation:
        seeds = list(seeds)
        self.greedily.append(deterministic)
        self.played.append((player, seeds))
        if player is None:
            earned = [0.0 for _ in seeds]
        else:
            earned = [player.wage + player.bonus * (-1) ** seed for seed in seeds]
        return Evaluation(np.array(earned), np.full(len(seeds), LENGTH))

    def seeds_of(self, player: Any) -> list[int]:
        return [seed for who, seeds in self.played if who is player for seed in seeds]


@pytest.fixture
def ground(monkeypatch: pytest.MonkeyPatch) -> Ground:
    found = Ground()
    monkeypatch.setattr(comparison, "evaluate", found.evaluate)
    return found


def episodes(costs: Costs | None = None, purpose: str = "verdict_steps") -> Episodes:
    recipe = recipe_of(PROBES["Discrete"])
    return Episodes(recipe, first_seed=500, reporter=Reporter(quiet=True), costs=costs, purpose=purpose)


def compared(random_episodes: int = 4, **more: Any) -> PairedComparison:
    return PairedComparison(episodes(**more), TEACHER, margin=0.05, random_episodes=random_episodes)


def test_an_episode_has_the_same_seed_whoever_plays_it(ground: Ground) -> None:
    numbered = episodes()
    assert numbered.play(Paid(1.0, 0.5), "one", 3) == [1.5, 0.5, 1.5]
    assert numbered.play(Paid(2.0), "other", 2, after=3) == [2.0, 2.0]
    assert [seeds for _, seeds in ground.played] == [[500, 501, 502], [503, 504]]
    assert numbered.steps == 5 * LENGTH


def test_actions_are_greedy_unless_samples_are_asked_for(ground: Ground) -> None:
    numbered = episodes()
    numbered.play(TEACHER, "the teacher", 2)
    numbered.play(TEACHER, "the teacher, sampled", 2, deterministic=False)
    compared().verdict([100.0] * 4)
    assert ground.greedily == [True, False, True, True]


def test_no_episodes_are_not_played(ground: Ground) -> None:
    assert episodes().play(TEACHER, "the teacher", 0) == []
    assert ground.played == []


def test_steps_are_booked_under_their_purpose(ground: Ground) -> None:
    costs = Costs()
    compared(costs=costs, purpose="validation_steps").verdict([100.0] * 6)
    assert costs.of("validation_steps") == (6 + 4) * LENGTH
    assert costs.of("verdict_steps") == 0


def test_the_teacher_plays_each_episode_once(ground: Ground) -> None:
    paired = compared()
    assert paired.teacher_returns(4) == [100.0] * 4
    assert paired.teacher_returns(2) == [100.0] * 2
    assert paired.teacher_returns(7) == [100.0] * 7
    assert ground.seeds_of(TEACHER) == list(range(500, 507))


def test_the_random_policy_plays_once_and_only_where_it_is_needed(ground: Ground) -> None:
    paired = compared()
    paired.teacher_returns(4)
    assert ground.seeds_of(None) == []
    for _ in range(2):
        paired.verdict([100.0] * 4)
    assert ground.seeds_of(None) == [500, 501, 502, 503]


def test_what_was_played_before_is_not_played_again(ground: Ground) -> None:
    before = compared()
    expected = before.verdict([99.0] * 6)
    count = len(ground.played)
    costs = Costs()
    again = compared(costs=costs)
    again.restore(*before.played())
    assert again.verdict([99.0] * 6) == expected
    assert len(ground.played) == count
    assert costs.of("verdict_steps") == 0
    again.teacher_returns(8)
    assert ground.played[-1] == (TEACHER, [506, 507])


def test_a_restored_comparison_does_not_share_its_lists(ground: Ground) -> None:
    before = compared()
    before.verdict([99.0] * 4)
    again = compared()
    again.restore(*before.played())
    again.teacher_returns(9)
    assert len(before.played()[0]) == 4


def test_a_verdict_is_on_the_episodes_that_the_player_played(ground: Ground) -> None:
    paired = compared()
    paired.teacher_returns(99)
    verdict = paired.verdict([100.0] * 90)
    assert (verdict.decision, verdict.episodes, verdict.margin) == ("non-inferior", 90, 5.0)
    assert verdict.error == 0.025
    assert paired.verdict([50.0] * 30).decision == "inferior"


def test_a_comparison_has_the_margin_and_the_error_that_it_was_given(ground: Ground) -> None:
    paired = PairedComparison(episodes(), TEACHER, margin=0.2, random_episodes=4)
    verdict = paired.verdict([88.0] * 60, error=0.01)
    assert (verdict.margin, verdict.error) == (20.0, 0.01)
    assert verdict.decision == "non-inferior"
    assert paired.verdict([88.0] * 60, error=0.001).decision == "undecided"


LOOKS = [(20, 0.006), (40, 0.02), (90, 0.025), (120, 0.006)]


def test_a_clear_verdict_falls_at_the_first_look_that_decides(ground: Ground) -> None:
    returns, verdict = compared().play_until_decided(Paid(20.0), "the student", LOOKS)
    assert (len(returns), verdict.decision, verdict.episodes, verdict.error) == (20, "inferior", 20, 0.006)
    student = Paid(100.0)
    returns, verdict = compared().play_until_decided(student, "the student", LOOKS)
    assert (len(returns), verdict.decision, verdict.episodes, verdict.error) == (90, "non-inferior", 90, 0.025)
    assert ground.seeds_of(student) == list(range(500, 590))


def test_an_open_verdict_is_played_on_to_the_last_look(ground: Ground) -> None:
    student = Paid(95.0, 40.0)
    returns, verdict = compared().play_until_decided(student, "the student", LOOKS)
    assert (len(returns), verdict.decision, verdict.episodes) == (120, "undecided", 120)
    assert ground.seeds_of(student) == list(range(500, 620))
    assert ground.seeds_of(TEACHER) == list(range(500, 620))


def test_who_falls_a_margin_behind_the_best_is_not_looked_at_further(ground: Ground) -> None:
    looks = [(look, 0.001) for look in (20, 40, 60)]
    student = Paid(97.0)
    _, verdict = compared().play_until_decided(student, "the student", looks)
    assert (verdict.episodes, verdict.decision) == (60, "undecided")
    assert verdict.score == pytest.approx(0.4)
    for rival, played in ((1.3, 60), (1.5, 20)):
        returns, _ = compared().play_until_decided(student, "the student", looks, rival=rival)
        assert len(returns) == played


def test_the_episodes_of_a_run_are_those_of_its_environment_and_booked_there(ground: Ground, tmp_path: Any) -> None:
    with begun(tmp_path / "run") as run:
        of_run = Episodes.of(run, first_seed=7, purpose="selection_steps")
        assert of_run.play(TEACHER, "the teacher", 2) == [100.0, 100.0]
        assert run.costs.of("selection_steps") == 2 * LENGTH
        assert ground.played == [(TEACHER, [7, 8])]


@pytest.mark.parametrize("sampled", [True, False, None])
def test_the_episodes_of_a_run_are_played_by_samples_where_that_is_asked_for(
    sampled: bool | None, ground: Ground, tmp_path: Path
) -> None:
    with begun(tmp_path / "run", sampled=sampled) as run:
        found = PairedComparison(Episodes.of(run, first_seed=500), TEACHER, margin=0.05, random_episodes=2)
        found.verdict(found.episodes.play(Paid(99.0), "the student", 4))
    assert ground.greedily == [not sampled] * 3


def recording(returns: list[float]) -> RecordedTeacher:
    """A recording of episodes that earned so much."""
    data = Recording({}, np.zeros((0, 4), np.float32), np.zeros(0, bool), tuple(returns), "actions")
    spaces = gym.spaces.Box(-1, 1, (4,)), gym.spaces.Discrete(4)
    return RecordedTeacher(data, spaces, Origin("data.npz", "0" * 64, "recording", None))


def against(returns: list[float]) -> PairedComparison:
    reporter = Reporter(quiet=True)
    episodes = Episodes(recipe_of(PROBES["Discrete"]), first_seed=0, reporter=reporter)
    return PairedComparison(episodes, recording(returns), margin=0.1, random_episodes=20)


def test_a_recording_does_not_play_and_is_paired_with_nobody(ground: Ground) -> None:
    comparison = against([100.0 + number for number in range(30)])
    student = Paid(130.0)
    looks = [(60, 0.02), (90, 0.02)]
    returns, verdict = comparison.play_until_decided(student, "the student", looks)
    assert verdict.non_inferior
    assert len(returns) == verdict.episodes == 60
    assert len(comparison.teacher_returns(60)) == 30
    assert verdict.difference == pytest.approx(130 - 114.5)
    assert {who for who, _ in ground.played} == {None, student}


def test_against_few_recorded_episodes_no_more_are_played_than_could_matter(ground: Ground) -> None:
    comparison = against([100.0] * 19)
    assert not comparison.decidable
    returns, verdict = comparison.play_until_decided(Paid(100.0), "the student", [(20, 0.1), (60, 0.1), (90, 0.1)])
    assert (len(returns), verdict.decision) == (60, "undecided")
    assert against([100.0] * 20).decidable


def test_a_recording_that_chance_explains_lets_no_student_pass(ground: Ground) -> None:
    """The random policy earns 0 in every episode; so does the recording, up to noise."""
    chance = [1.0 + 4.0 * (-1) ** number for number in range(40)]
    comparison = against(chance)
    assert not comparison.decidable
    verdict = comparison.verdict([500.0] * 100)
    assert compare(chance, [500.0] * 100, [0.0] * 20, margin=0.1, paired=False).non_inferior
    assert verdict.decision == "undecided"
    assert "not shown to be better than chance" in verdict.reasons[0]
    assert compare_recorded([100.0] * 40, [500.0] * 100, [0.0] * 20, margin=0.1, error=0.02).non_inferior
