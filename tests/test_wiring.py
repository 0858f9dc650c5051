"""The loop is wired as it is meant to be: who drives which round, what each fit sees, which attempt is kept."""

from pathlib import Path

import numpy as np
import pytest
from recorder import ATTEMPTS, GIVEN, OPEN, ROUNDS, TEACHER, Recorder, fingerprint, recorded, wavering

from kd_agent import load_policy
from kd_agent.runs.seeds import seed_of


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("wiring") / "run"


@pytest.fixture(scope="module")
def run(folder: Path) -> Recorder:
    """A whole run in which no attempt holds."""
    return recorded(folder, Recorder(OPEN, wavering))


def test_the_teacher_drives_first_and_less_from_round_to_round_and_no_extra_round(run: Recorder) -> None:
    assert [r.told["beta"] for r in run.rounds] == [1.0, 0.5, 0.0, 0.0] + [0.0] * (ATTEMPTS - 1)


def test_beta_falls_over_the_share_of_the_rounds_that_was_asked_for(tmp_path: Path) -> None:
    run = recorded(tmp_path / "run", beta_fraction=1.0, attempts=1)
    assert [r.told["beta"] for r in run.rounds] == [1.0, 0.75, 0.5, 0.25]


def test_who_acts_is_who_beta_says(run: Recorder) -> None:
    acted = [set(np.unique(r.rollout.driver)) for r in run.rounds]
    teacher, student = 0, 1
    assert student not in acted[0]
    assert student in acted[1]
    assert teacher in acted[1]
    assert all(teacher not in drivers for drivers in acted[2:])


def test_an_action_is_that_of_who_drives(run: Recorder) -> None:
    """The probe rewards the largest part of an observation with 1, any other choice with 0."""
    for r in run.rounds:
        states = r.rollout.obs["obs"].reshape(-1, 4)
        answers = [TEACHER({"obs": states}).params.numpy()]
        if r.policy:
            answers.append(r.policy.params({"obs": states}))
        for driver, answer in enumerate(answers):
            acted = r.rollout.driver.ravel() == driver
            right = answer.argmax(-1) == states.argmax(-1)
            np.testing.assert_array_equal(r.rollout.reward.ravel()[acted], right[acted])


def test_the_episodes_go_on_from_round_to_round_and_each_round_is_told_of_those_before(run: Recorder) -> None:
    """An episode of the probe has 50 steps, all rounds together have 18 + 3 * 2."""
    rollouts = [r.rollout for r in run.rounds]
    assert [rollout.episode_start.sum() for rollout in rollouts] == [4] + [0] * (len(rollouts) - 1)
    for number, r in enumerate(run.rounds):
        assert r.told["before"] == rollouts[:number]


def test_each_environment_plays_episodes_of_its_own(run: Recorder) -> None:
    states = run.rounds[0].rollout.obs["obs"][0]
    assert len(np.unique(states, axis=0)) == len(states) == 4


def test_the_asked_for_share_of_actions_is_random_in_every_round(run: Recorder) -> None:
    assert [r.told["exploration"] for r in run.rounds] == [0.25] * len(run.rounds)
    drivers = np.concatenate([r.rollout.driver.ravel() for r in run.rounds])
    assert 0.1 < np.mean(drivers == 2) < 0.4


def test_each_round_has_a_seed_of_its_own_that_follows_from_the_runs(run: Recorder) -> None:
    assert [r.told["seed"] for r in run.rounds] == [seed_of(3, "round", n) for n in range(ROUNDS + ATTEMPTS - 1)]
    first = [r.rollout.obs["obs"][0].tobytes() for r in run.rounds]
    assert len(set(first)) == len(first)


def test_an_episode_begins_where_the_last_one_has_ended(tmp_path: Path) -> None:
    """The probe's episodes have 50 steps."""
    run = recorded(tmp_path / "run", Recorder([]), env_steps=4 * 60, rounds=1, attempts=1)
    [collected] = run.rounds
    assert [np.flatnonzero(column).tolist() for column in collected.rollout.episode_start.T] == [[0, 50]] * 4


def test_the_budget_is_split_evenly_among_rounds_and_environments(run: Recorder) -> None:
    assert [r.told["steps"] for r in run.rounds] == [64 // (4 * ROUNDS)] * ROUNDS + [64 // (4 * 8)] * (ATTEMPTS - 1)
    assert {r.n_envs for r in run.rounds} == {4}
    assert run.result["cost"]["env_steps"] == 64 + 8 * (ATTEMPTS - 1)


def test_a_round_is_driven_by_the_student_of_the_fit_before_it(run: Recorder) -> None:
    fitted = [fit.after for fit in run.fits[: ROUNDS - 1]]
    assert [r.student for r in run.rounds[:ROUNDS]] == [None, *fitted]
    assert len(set(fitted)) == len(fitted)


def test_the_driver_is_fitted_on_from_round_to_round(run: Recorder) -> None:
    first, second, third = run.fits[: ROUNDS - 1]
    assert (second.before, third.before) == (first.after, second.after)


def test_a_fit_sees_the_states_of_all_rounds_so_far(run: Recorder) -> None:
    collected = [r.rollout for r in run.rounds]
    counts = [len(fit.rollouts) for fit in run.fits]
    assert counts == [1, 2, 3, 4, 5, 6, 7]
    for fit in run.fits:
        assert all(seen is made for seen, made in zip(fit.rollouts, collected, strict=False))


def test_every_state_is_labelled_by_the_teacher_whoever_drives(run: Recorder) -> None:
    for r in run.rounds:
        flat = {"obs": r.rollout.obs["obs"].reshape(-1, 4)}
        answer = TEACHER(flat)
        np.testing.assert_allclose(r.rollout.params.reshape(-1, 4), answer.params.numpy(), atol=1e-6)
        layer = answer.features[GIVEN["teacher_layer"]].numpy()
        np.testing.assert_allclose(r.rollout.layer.reshape(len(layer), -1), layer, atol=1e-6)


def test_fits_between_rounds_are_short_and_last_fits_long(run: Recorder) -> None:
    assert [fit.told["steps"] for fit in run.fits] == [7] * (ROUNDS - 1) + [11] * ATTEMPTS
    assert run.result["cost"]["gradient_steps"] == 7 * (ROUNDS - 1) + 11 * ATTEMPTS


def test_no_two_fits_have_the_same_seed_and_another_run_has_others(run: Recorder, tmp_path: Path) -> None:
    seeds = [fit.told["seed"] for fit in run.fits]
    assert len({*seeds, *(r.told["seed"] for r in run.rounds)}) == len(seeds) + len(run.rounds)
    other = recorded(tmp_path / "run", seed=4)
    assert not set(seeds) & {fit.told["seed"] for fit in other.fits}
    assert {fit.before for fit in run.fits}.isdisjoint(fit.before for fit in other.fits)
    assert run.rounds[0].rollout.obs["obs"].tobytes() != other.rounds[0].rollout.obs["obs"].tobytes()


def test_each_attempt_begins_from_initial_weights_of_its_own(run: Recorder) -> None:
    begun = [fit.before for fit in run.fits[ROUNDS - 1 :]]
    assert len(set(begun)) == ATTEMPTS
    drivers = {fit.after for fit in run.fits[: ROUNDS - 1]}
    assert drivers.isdisjoint(begun)


def test_before_each_further_attempt_the_best_so_far_drives_a_round(run: Recorder) -> None:
    attempts = [fit.after for fit in run.fits[ROUNDS - 1 :]]
    assert [r.student for r in run.rounds[ROUNDS:]] == [attempts[0], attempts[1], attempts[1]]


def test_the_best_attempt_is_saved_and_judged_not_the_last(run: Recorder, folder: Path) -> None:
    best = run.fits[ROUNDS].after
    assert fingerprint(load_policy(folder / "student.safetensors").graph) == best
    assert {play.who for play in run.verdicts()} == {best}


def test_the_exam_is_sat_by_every_attempt_on_as_many_episodes_as_asked_for(run: Recorder) -> None:
    attempts = [fit.after for fit in run.fits[ROUNDS - 1 :]]
    assert list(dict.fromkeys(play.who for play in run.validations())) == attempts
    for attempt in attempts:
        assert sum(len(play.seeds) for play in run.validations() if play.who == attempt) == 80


def test_the_seeds_of_exam_and_verdict_have_nothing_in_common(run: Recorder) -> None:
    exam = {seed for play in run.validations() for seed in play.seeds}
    verdict = {seed for play in run.verdicts() for seed in play.seeds}
    assert (len(exam), len(verdict)) == (80, 90)
    assert not exam & verdict


def test_the_teacher_plays_every_seed_that_a_student_plays_and_chance_does_too(run: Recorder) -> None:
    students = {seed for play in [*run.validations(), *run.verdicts()] for seed in play.seeds}
    greedy = [play for play in run.plays if play.who == fingerprint(TEACHER.graph) and play.deterministic]
    teacher = [seed for play in greedy for seed in play.seeds]
    assert set(teacher) == students
    assert len(teacher) == len(students)
    chance = [play.seeds for play in run.plays if play.who is None]
    assert all(set(seeds) <= students for seeds in chance)


def test_the_verdict_has_the_margin_and_the_episodes_that_were_asked_for(run: Recorder) -> None:
    verdict = run.result["verdict"]
    assert verdict["margin"] == pytest.approx(0.2 * 100)
    assert (verdict["decision"], verdict["episodes"]) == ("undecided", 90)
    assert [len(play.seeds) for play in run.verdicts()] == [20, 10, 10, 10, 10, 20, 10]


def test_a_clear_verdict_falls_at_the_first_look_that_lets_a_student_pass(tmp_path: Path) -> None:
    run = recorded(tmp_path / "run", Recorder([]), attempts=1)
    assert (run.result["verdict"]["decision"], run.result["verdict"]["episodes"]) == ("non-inferior", 60)


def test_attempts_end_when_one_holds_by_the_margin_that_was_asked_for(tmp_path: Path) -> None:
    run = recorded(tmp_path / "run", Recorder([10.0, 90.0]))
    assert len(run.fits) == ROUNDS - 1 + 2
    assert len(run.rounds) == ROUNDS + 1
    assert {play.who for play in run.verdicts()} == {run.fits[-1].after}
