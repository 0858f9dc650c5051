"""Several tasks in one student: each has its own states and loss, and all share layers, rounds and attempts."""

from pathlib import Path

import numpy as np
import pytest
from recorder import Fitted, Recorder, fingerprint
from samples import HEADS, PROBES, make_student

from kd_agent import distill_tasks, load_policy, load_teacher

TASKS = {PROBES["Discrete"]: "categorical", PROBES["Box"]: "diag_gaussian"}

ROUNDS = 2

TRAINING = {"n_envs": 2, "n_steps": 16, "batch_size": 8, "n_epochs": 3, "hidden": [9], "gamma": 0.9, "gae_lambda": 0.8,
            "ent_coef": 0.01, "clip_range": 0.3, "learning_rate": 0.007, "activation": "relu"}  # fmt: skip


def saved(folder: Path, task: str, seed: int = 1) -> str:
    """The file of a teacher for a task."""
    teacher = make_student(HEADS[TASKS[task]], hidden=(6,), seed=seed)
    return str(teacher.save(folder / f"{TASKS[task]}.safetensors", {"env": task}))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tasks")


@pytest.fixture(scope="module")
def together(folder: Path) -> Recorder:
    """Two tasks; the first attempt holds in one of them, the two after it in none."""
    recorder = Recorder([100.0, 0.0, 0.0, 0.0, 0.0, 0.0])
    given = {"tasks": list(TASKS), "teacher": [saved(folder, task) for task in TASKS], "hidden": [5, 4], "seed": 3,
             "env_steps": 64, "rounds": ROUNDS, "round_steps": 7, "final_steps": 11, "attempts": 3, "exam_episodes": 4,
             "batch_size": 13, "learning_rate": 0.017, "episodes": 6, "max_episodes": 6, "margin": 0.2, "quiet": True,
             "out": str(folder / "run")}  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        recorder.install(patch)
        recorder.result = distill_tasks(given)
    return recorder


def of_task(recorder: Recorder, index: int) -> list[Fitted]:
    return [joint[index] for joint in recorder.joint_fits]


@pytest.mark.parametrize("index", [0, 1])
def test_each_task_is_labelled_by_its_own_teacher_and_fitted_to_its_own_states(
    index: int, together: Recorder, folder: Path
) -> None:
    teacher = load_teacher(saved(folder, list(TASKS)[index]))
    for fit in of_task(together, index):
        for rollout in fit.rollouts:
            labels = teacher({"obs": rollout.obs["obs"].reshape(-1, 4)}).params.numpy()
            np.testing.assert_allclose(rollout.params.reshape(labels.shape), labels, atol=1e-6)


def test_each_task_has_the_loss_of_its_head(together: Recorder) -> None:
    for joint in together.joint_fits:
        assert [dict(fit.objective.weights) for fit in joint] == [{"kl": 1.0}, {"mse": 1.0}]


def test_the_students_of_all_tasks_share_their_hidden_layers_after_the_first(together: Recorder) -> None:
    for joint in together.joint_fits:
        one, two = (fit.student.layers for fit in joint)
        assert [a is b for a, b in zip(one, two, strict=True)] == [False] * 3 + [True] * 3 + [False]


def test_a_joint_fit_sees_all_rounds_with_the_settings_that_were_asked_for(together: Recorder) -> None:
    for index in (0, 1):
        fits = of_task(together, index)
        assert [len(fit.rollouts) for fit in fits] == [1, 2, 3, 4]
        assert [fit.told["steps"] for fit in fits] == [7, 11, 11, 11]
        assert {(fit.told["batch_size"], fit.told["learning_rate"]) for fit in fits} == {(13, 0.017)}
        assert len({fit.told["seed"] for fit in fits}) == len(fits)
        assert len({fit.before for fit in fits[1:]}) == 3


def test_each_task_is_driven_by_its_own_student_and_further_rounds_by_the_best(together: Recorder) -> None:
    """Tasks take turns: the rounds of one are every second."""
    for index in (0, 1):
        driver, best, *_ = (fit.after for fit in of_task(together, index))
        rounds = together.rounds[index::2]
        assert [r.student for r in rounds] == [None, driver, best, best]
        assert [tuple(r.told["seed"]) for r in rounds] == [(3, n) for n in range(4)]


def test_the_attempt_that_holds_in_most_tasks_is_saved_and_judged_in_each(together: Recorder, folder: Path) -> None:
    for index, task in enumerate(TASKS):
        best = of_task(together, index)[1].after
        policy = load_policy(folder / "run" / "student.safetensors", task=task)
        assert fingerprint(policy.graph) == best
        assert [play.who for play in together.verdicts() if play.env_id == task] == [best]
