"""A student that follows a training: the labels are always the present teacher's, and the student goes on and on."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from recorder import GIVEN, Recorder, Stopped, recorded
from samples import PROBES

from kd_agent import load_policy, load_teacher
from kd_agent.rollouts import RunningEpisodes
from kd_agent.runs.seeds import seed_of

TRAINING = {"total_steps": 192, "n_envs": 2, "n_steps": 32, "batch_size": 32, "n_epochs": 1, "hidden": [6],
            "eval_episodes": 2, "eval_every": 64, "learning_rate": 0.05}  # fmt: skip
LESSONS = 3
ONLINE: dict[str, Any] = {"realtime": True, "training": TRAINING, "loss": "kl", "teacher_layer": None,
                          "student_layer": None, "attempts": 3, "env": PROBES["Discrete"]}  # fmt: skip
SCORES = [10.0, 30.0, 20.0]


def followed(folder: Path, recorder: Recorder, **more: Any) -> Recorder:
    recorder.trains = True
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        return recorded(folder / "run", recorder, taught_by=None, **ONLINE, **more)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("online")


@pytest.fixture(scope="module")
def closed() -> list[RunningEpisodes]:
    """What the run has closed."""
    return []


@pytest.fixture(scope="module")
def run(folder: Path, closed: list[RunningEpisodes]) -> Recorder:
    """A whole run; the second of three attempts is the best, and the first of them is the follower."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RunningEpisodes, "close", lambda episodes: closed.append(episodes))  # noqa: PLW0108 - a method
        return followed(folder, Recorder(SCORES))


def test_each_lesson_is_driven_by_the_student_of_the_last_and_shows_new_states(run: Recorder) -> None:
    lessons = run.rounds[:LESSONS]
    fitted = [fit.after for fit in run.fits]
    assert [r.student for r in lessons] == [None, fitted[0], fitted[1]]
    assert [r.told["steps"] for r in lessons] == [64 // (8 * 4)] * LESSONS
    assert {r.told["beta"] for r in lessons} == {0.0}
    assert {r.told["exploration"] for r in lessons} == {0.25}
    assert [r.told["seed"] for r in lessons] == [seed_of(GIVEN["seed"], "round", n) for n in range(LESSONS)]


def test_lessons_go_on_in_their_episodes_and_the_rounds_after_them_in_others(
    run: Recorder, closed: list[RunningEpisodes]
) -> None:
    """An episode has 50 steps, a lesson 2."""
    starts = [r.rollout.episode_start.sum() for r in run.rounds]
    assert starts == [4, 0, 0] + [4, 0]
    first, after = (run.rounds[number].rollout.obs["obs"][0] for number in (0, LESSONS))
    assert len(np.unique(np.concatenate([first, after]), axis=0)) == 8
    assert {*map(id, closed)} == {id(r.episodes) for r in run.rounds}


def test_one_student_is_fitted_on_and_on_to_all_states_so_far(run: Recorder) -> None:
    first, second, third, final, *_ = run.fits
    assert [second.before, third.before, final.before] == [first.after, second.after, third.after]
    assert [fit.rollouts[0].driver.size for fit in (first, second, third)] == [8, 16, 24]
    assert [fit.told["steps"] for fit in run.fits] == [7] * LESSONS + [11] * 3
    assert len({fit.told["seed"] for fit in run.fits[:LESSONS]}) == LESSONS


def test_the_labels_of_a_lesson_are_the_present_teachers(run: Recorder) -> None:
    for fit, collected in zip(run.fits, run.rounds[:LESSONS], strict=False):
        [states] = fit.rollouts
        answer = collected.teacher({"obs": states.obs["obs"][0]}).params.numpy()
        np.testing.assert_allclose(states.params[0], answer, atol=1e-6)
    [first, second] = (fit.rollouts[0] for fit in run.fits[:2])
    assert np.abs(second.params[0, : first.driver.size] - first.params[0]).max() > 1e-3


def test_the_final_fit_goes_on_with_the_follower_under_the_finished_teachers_labels(
    run: Recorder, folder: Path
) -> None:
    [zip_file] = folder.glob("runs/teachers/*/teacher.zip")
    teacher = load_teacher(str(zip_file))
    final = run.fits[LESSONS]
    first, rest = final.rollouts[:2]
    assert (first.driver.size, rest.driver.size) == (8, 24)
    np.testing.assert_array_equal(first.obs["obs"][0], run.rounds[0].rollout.obs["obs"].reshape(-1, 4))
    for states in (first, rest):
        np.testing.assert_allclose(states.params[0], teacher({"obs": states.obs["obs"][0]}).params.numpy(), atol=1e-6)


def test_the_follower_is_the_first_attempt_and_the_best_of_all_is_kept(run: Recorder, folder: Path) -> None:
    follower, *others = (fit.after for fit in run.fits[LESSONS:])
    assert [r.student for r in run.rounds[LESSONS:]] == [follower, others[0]]
    assert [len(fit.rollouts) for fit in run.fits[LESSONS:]] == [2, 3, 4]
    assert {play.who for play in run.verdicts()} == {others[0]}
    assert load_policy(folder / "run" / "student.safetensors").graph.provenance["teacher_algo"] == "PPO"


def test_the_timeline_is_told_and_what_was_spent_on_following_too(run: Recorder, folder: Path) -> None:
    rows = run.result["realtime"]
    assert [row["env_steps"] for row in rows] == [64, 128, 192]
    assert json.loads((folder / "run" / "realtime.json").read_text())["realtime"] == rows
    assert rows[0]["agreement_before"] == 0.0
    assert all(0 <= row["agreement"] <= 1 for row in rows)
    collected = [r.rollout.driver.size for r in run.rounds]
    assert collected[:LESSONS] == [8] * LESSONS
    assert run.result["cost"]["env_steps"] == sum(collected)
    assert run.result["cost"]["gradient_steps"] == LESSONS * 7 + 3 * 11
    assert {"teacher_s", "follow_s", "distill_s", "evaluate_s"} <= set(run.result["cost"])


def test_a_stopped_run_goes_on_from_the_follower_to_the_same_bytes(run: Recorder, folder: Path, tmp_path: Path) -> None:
    with pytest.raises(Stopped):
        followed(tmp_path, Recorder(SCORES, stop_at_round=LESSONS + 1))
    again = followed(tmp_path, Recorder(SCORES[2:]), resume=True)
    assert [len(fit.rollouts) for fit in again.fits] == [4]
    assert again.result["cost"]["env_steps"] == run.result["cost"]["env_steps"]
    files = [load_policy(path / "run" / "student.safetensors").graph for path in (folder, tmp_path)]
    for one, other in zip(*(graph.ops for graph in files), strict=True):
        for name, tensor in one.tensors.items():
            np.testing.assert_array_equal(tensor, other.tensors[name])


def test_a_teacher_trained_earlier_is_distilled_in_rounds_of_its_own(folder: Path, run: Recorder) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        late = recorded(folder / "late", Recorder(SCORES, trains=True), taught_by=None, **ONLINE)
    assert late.result["realtime"] == []
    assert [r.told["beta"] for r in late.rounds[:4]] == [1.0, 0.5, 0.0, 0.0]


def test_ppo_goes_on_from_a_student_that_followed_the_training(tmp_path: Path) -> None:
    run = followed(tmp_path, Recorder(by_policy=lambda policy: 100.0), then_ppo=64)
    assert run.result["then_ppo"]["steps"] == run.result["cost"]["ppo_steps"] == 64
    assert run.result["realtime"]
