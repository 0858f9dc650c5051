"""A label budget is never exceeded, its questions go where a committee disagrees, and a run of it can go on."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fixed_teachers import Fixed, good
from prepared_runs import begun, problem
from samples import HEADS, PROBES, TINY, Agent, steps_of

from kd_agent import KDError, distill, load_policy
from kd_agent.commands import cli
from kd_agent.distillation import label_budget
from kd_agent.distillation.label_budget import LabelBudget, choose, disagreement, play_off
from kd_agent.networks import Teacher
from kd_agent.policies import Array, Policy
from kd_agent.rollouts.rollout import STUDENT, TEACHER

ENV = PROBES["Discrete"]
SETTINGS: dict[str, Any] = {**TINY, "env": ENV, "label_budget": 41, "n_envs": 2}


class Counting(Fixed):
    """Knows the probe's best action, and counts the states that it is asked about."""

    def __init__(self) -> None:
        super().__init__("counting", lambda x: 20 * x)
        self.asked = 0

    def __call__(self, observations: Any, state: Any = None, episode_start: Any = None) -> Any:
        self.asked += len(observations["obs"])
        return super().__call__(observations, state, episode_start)


@pytest.mark.parametrize(("budget", "rounds"), [(6, 3), (41, 3), (41, 1), (100, 5)])
def test_a_budget_is_asked_and_not_exceeded(budget: int, rounds: int, tmp_path: Path) -> None:
    teacher = Counting()
    with begun(tmp_path / "run", teacher, label_budget=budget, rounds=rounds, n_envs=2) as run:
        teacher.asked = 0
        collected = LabelBudget().collect(run)
        collected.close()
        learnt_from = sum(rollout.driver.size for rollout in collected.data[0])
        # A single round is the teacher's, in two environments: one question of an odd number is left over.
        assert teacher.asked == learnt_from == collected.asked == budget - (rounds == 1)
        assert run.costs.of("questions") == learnt_from


def test_all_that_asks_for_labels_is_counted_and_the_validation_does_not_ask(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the first question to the verdict, fits and their validation included."""
    teacher, asked = Counting(), list[int]()
    collect, judge = LabelBudget.collect, LabelBudget.final_fit

    def counted(strategy: Any, run: Any) -> Any:
        teacher.asked = 0
        return collect(strategy, run)

    def finished(strategy: Any, rounds: Any) -> Any:
        fitted = judge(strategy, rounds)
        asked.append(teacher.asked)
        return fitted

    monkeypatch.setattr(LabelBudget, "collect", counted)
    monkeypatch.setattr(LabelBudget, "final_fit", finished)
    result = distill({**SETTINGS, "out": str(tmp_path / "run")}, teacher)
    assert asked == [41]
    assert result["cost"]["questions"] == result["label_budget"]["questions"] == 41
    assert result["cost"]["env_steps"] == result["cost"]["collect_steps"] >= 2 / 3 * TINY["env_steps"]
    assert result["cost"]["validation_steps"] > 0


def test_the_teacher_drives_the_first_round_and_a_share_of_the_others(tmp_path: Path) -> None:
    with begun(tmp_path / "run", good(scale=20), label_budget=90, n_envs=2) as run:
        collected = LabelBudget().collect(run)
        collected.close()
    first, *others = collected.data[0]
    assert [rollout.driver.size for rollout in collected.data[0]] == [30, 30, 30]
    assert set(first.driver.ravel()) <= {TEACHER, 2}
    for rollout in others:
        assert 1 <= (rollout.driver == TEACHER).sum() <= 30 / 4
        assert (rollout.driver == STUDENT).sum() >= 30 * 3 / 4


def test_labels_are_the_teachers_answers(tmp_path: Path) -> None:
    teacher = good(scale=20)
    with begun(tmp_path / "run", teacher, label_budget=60, n_envs=2) as run:
        collected = LabelBudget().collect(run)
        collected.close()
    for rollout in collected.data[0]:
        states = rollout.obs["obs"].reshape(-1, 4)
        np.testing.assert_allclose(rollout.params.reshape(-1, 4), teacher({"obs": states}).params, atol=1e-5)


def test_a_committee_is_fitted_from_different_weights_in_different_orders(tmp_path: Path) -> None:
    with begun(tmp_path / "run", good(scale=20), label_budget=60, n_envs=2) as run:
        collected = LabelBudget().collect(run)
        members = [student.policy() for student in collected.committee()]
        collected.close()
    rows = [member.params(np.ones((1, 4), np.float32)) for member in members]
    assert len(members) == label_budget.COMMITTEE == 3
    assert not np.allclose(rows[0], rows[1])
    assert not np.allclose(rows[1], rows[2])


class Says(Policy):
    """Says the rows that it is told."""

    def __init__(self, rows: Any) -> None:
        self.rows = np.float32(rows)

    def step_batch(self, observations: Any, state: Any, starts: Any, action_masks: Any = None) -> tuple[Array, None]:
        return self.rows[observations["obs"][:, 0].astype(int)], None


def test_disagreement_is_the_root_of_the_mean_kl_of_two_members() -> None:
    head = HEADS["diag_gaussian"]
    # Two members of two parts and standard deviations of 1: KL is half the square of the distance.
    one, other = Says([[0, 0, 0, 0], [1, 0, 0, 0]]), Says([[0, 0, 0, 0], [3, 0, 0, 0]])
    states = {"obs": np.float32([[0], [1], [1]])}
    np.testing.assert_allclose(disagreement(head, [one, other], states), [0, np.sqrt(2), np.sqrt(2)], atol=1e-6)
    third = Says([[0, 0, 0, 0], [3, 0, 0, 0]])
    # Of the three pairs one agrees.
    np.testing.assert_allclose(disagreement(head, [one, other, third], states)[1], np.sqrt(4 / 3), atol=1e-6)


def test_a_committee_votes_in_chunks_as_it_does_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = torch.randn(10, 4, generator=torch.Generator().manual_seed(0)).numpy()
    members = [Says(rows), Says(rows[::-1].copy())]
    states = {"obs": np.arange(10, dtype=np.float32)[:, None]}
    whole = disagreement(HEADS["categorical"], members, states)
    monkeypatch.setattr(label_budget, "_CHUNK", 3)
    np.testing.assert_array_equal(disagreement(HEADS["categorical"], members, states), whole)


def test_states_are_chosen_in_proportion_to_doubt_and_each_once() -> None:
    doubt = np.array([0.0, 1.0, 1.0, 3.0])
    firsts = np.bincount([choose(doubt, 1, seed)[0] for seed in range(2000)], minlength=4) / 2000
    np.testing.assert_allclose(firsts, doubt / 5, atol=0.04)
    for seed in range(20):
        assert sorted(choose(doubt, 4, seed)) == [0, 1, 2, 3]
        assert len(choose(doubt, 9, seed)) == 4
    without_doubt = {tuple(choose(np.zeros(4), 2, seed)) for seed in range(50)}
    assert len(without_doubt) > 6


@pytest.mark.parametrize(("attempts", "expected"), [(1, [16]), (2, [16, 16]), (3, [16, 16, 8]), (5, [16, 8, 4, 16, 4])])
def test_the_better_half_plays_on_until_one_is_left(
    attempts: int, expected: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    merits = [5.0, 3.0, 2.0, 4.0, 1.0][:attempts]
    seeds: list[int] = []

    def play(episodes: Any, player: Any, name: str, count: int, after: int) -> list[float]:
        seeds.extend(range(after, after + count))
        return [player] * count

    monkeypatch.setattr(label_budget.Episodes, "play", play)
    with begun(tmp_path / "run", good(), label_budget=60, n_envs=2, exam_episodes=16, attempts=attempts) as run:
        played: Any = play_off(run, merits)  # type: ignore[arg-type]
    assert [len(own) for own in played] == expected
    assert all(set(own) <= {merit} for own, merit in zip(played, merits, strict=True))
    assert set(seeds) == set(range(max(expected)))


def test_a_run_that_was_stopped_anywhere_goes_on_to_the_same_bits_at_the_same_cost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class StoppedError(Exception):
        """Ends a run."""

    def settings(name: str, **more: Any) -> dict[str, Any]:
        return {**SETTINGS, "out": str(tmp_path / name), **more}

    whole = distill(settings("whole"), good())
    expected = (tmp_path / "whole" / "student.safetensors").read_bytes()
    save = label_budget.Rounds.save
    for moment in (1, 2, 3, 4, 5, 6):
        saved: list[str] = []

        def counted(rounds: Any, name: str, *rest: Any, moment: int = moment, saved: Any = saved) -> None:
            save(rounds, name, *rest)
            saved.append(name)
            if len(saved) == moment:
                raise StoppedError

        with monkeypatch.context() as patch:
            patch.setattr(label_budget.AskedRounds, "save", counted)
            with pytest.raises(StoppedError):
                distill(settings(f"stopped-{moment}"), good())
        again = distill(settings(f"stopped-{moment}", resume=True), good())
        assert (tmp_path / f"stopped-{moment}" / "student.safetensors").read_bytes() == expected
        assert again["label_budget"] == whole["label_budget"]
        assert steps_of(again) == steps_of(whole)
        assert again["cost"]["questions"] == 41


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"label_budget": 0}, "label_budget: "),
        ({"label_budget": -3}, "label_budget: "),
        ({"label_budget": "many"}, "label_budget: "),
        (
            {"label_budget": 1},
            "--label-budget 1: 3 questions are the fewest (one in each round and environment, 3 x 1)",
        ),
        ({"label_budget": 5, "n_envs": 2}, "6 questions are the fewest (one in each round and environment, 3 x 2)"),
        ({"label_budget": 481}, "--label-budget 481: in 480 environment steps there are no more states to ask about"),
        ({"label_budget": 60, "student": "gru"}, "a gru is not fitted to"),
        ({"label_budget": 60, "grow": True}, "--label-budget and --grow do not go together"),
        ({"label_budget": 60, "search_size": True}, "--label-budget and --search-size do not go together"),
        ({"label_budget": 60, "then_ppo": 100}, "--label-budget and --then-ppo do not go together"),
        ({"label_budget": 60, "then_ppo": 100, "seeds": 2}, "--label-budget and --then-ppo do not go together"),
        ({"label_budget": 60, "temperature": "auto"}, "--label-budget and --temperature auto do not go together"),
    ],
    ids=str,
)
def test_a_budget_that_cannot_be_kept_is_refused_in_one_line(
    given: dict[str, Any], said: str, tmp_path: Path, agents: dict[str, Agent]
) -> None:
    base = {name: value for name, value in TINY.items() if name != "n_envs"}
    teacher = str(agents["Discrete"].path)
    with pytest.raises(KDError) as caught:
        distill({**base, "env": ENV, "teacher": teacher, "out": str(tmp_path / "run"), **given})
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_each_of_several_seeds_has_a_budget_of_its_own(tmp_path: Path) -> None:
    result = distill({**SETTINGS, "seeds": 2, "seed": 5, "out": str(tmp_path / "run")}, good())
    assert result["label_budget"]["questions"] == 41
    assert result["cost"]["questions"] == 2 * 41
    scores = {one["seed"]: one["score"] for one in result["seeds"]}
    # The better by what it earns.
    assert result["kept_seed"] == max(scores, key=lambda seed: scores[seed])
    assert scores[result["kept_seed"]] == max(fit["mean"] for fit in result["label_budget"]["fits"])


@pytest.mark.parametrize("given", [{"label_budget": 5, "rounds": 6}, {"label_budget": 200_000}], ids=str)
def test_a_budget_that_cannot_be_kept_is_refused_before_a_teacher_is_trained(
    given: dict[str, Any], tmp_path: Path
) -> None:
    with pytest.raises(KDError, match=r"^--label-budget \d"):
        distill({"env": ENV, "out": str(tmp_path / "run"), "quiet": True, **given})
    assert not (tmp_path / "run").exists()


class Recurrent(Fixed):
    """Has a memory."""

    recurrent = True


def test_a_teacher_that_must_see_every_step_is_refused(tmp_path: Path) -> None:
    forgetful: Teacher = Recurrent("recurrent", lambda x: x)
    with pytest.raises(KDError, match="recurrent has a memory, and a --label-budget asks about single states"):
        problem(tmp_path / "run", forgetful, label_budget=60, student="mlp")


@pytest.mark.parametrize("kind", ["mlp", "tree"])
def test_every_kind_of_student_that_learns_from_single_states_is_taught(kind: str, tmp_path: Path) -> None:
    given = {**SETTINGS, "student": kind, "label_budget": 120, "final_steps": 300, "batch_size": 64}
    if kind == "tree":
        del given["hidden"], given["final_steps"], given["round_steps"]
    result = distill({**given, "out": str(tmp_path / "run")}, good(scale=20))
    policy = load_policy(tmp_path / "run" / "student.safetensors")
    assert policy.graph.provenance["config"]["label_budget"] == 120
    assert result["student"]["agreement"] > 0.6


def test_the_command_line_takes_it(agents: dict[str, Agent], tmp_path: Path) -> None:
    words = ["distill", "--env", ENV, "--teacher", str(agents["Discrete"].path), "--label-budget", "30", "--quiet"]
    small = ["--env-steps", "300", "--final-steps", "20", "--attempts", "1", "--episodes", "2", "--max-episodes", "2"]
    assert cli.main([*words, *small, "--out", str(tmp_path / "run")]) == 0
    assert load_policy(tmp_path / "run" / "student.safetensors").graph.provenance["config"]["label_budget"] == 30
    page = (tmp_path / "run" / "report.html").read_text()
    assert "made of 30 answers of the teacher" in page
    assert "<td>questions to the teacher</td><td>30</td>" in page
