"""Several tasks in one student: each has its own states and loss, and all share layers, rounds and attempts."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from recorder import Fitted, Recorder, Stopped, fingerprint
from samples import HEADS, PROBES, make_student

from kd_agent import KDError, distill_tasks, load_policy, load_teacher
from kd_agent.runs.seeds import seed_of

TASKS = {PROBES["Discrete"]: "categorical", PROBES["Box"]: "diag_gaussian"}
ROUNDS, ATTEMPTS = 2, 3
SETTINGS: dict[str, Any] = {
    "tasks": list(TASKS), "hidden": [5, 4], "activation": "tanh", "seed": 3, "env_steps": 64, "rounds": ROUNDS,
    "round_steps": 7, "final_steps": 11, "attempts": ATTEMPTS, "exam_episodes": 80, "batch_size": 13,
    "learning_rate": 0.017, "episodes": 60, "max_episodes": 61, "margin": 0.2, "quiet": True,
}  # fmt: skip
"""No setting has its default."""
SCORES = [100.0, 80.0, 80.0, 80.0, 80.0, 80.0]
"""Of the students of each attempt in turn: the first attempt holds in one task, the two after it in none."""


def saved(folder: Path, task: str, seed: int = 1, kind: str = "mlp") -> str:
    """The file of a teacher for a task."""
    teacher = make_student(HEADS[TASKS[task]], kind, hidden=(6,), seed=seed)
    return str(teacher.save(folder / f"{TASKS[task]}.safetensors", {"env": task}))


def taught(folder: Path, recorder: Recorder, **more: Any) -> Recorder:
    """What reached the stand-ins in a distillation of both tasks."""
    teachers = [saved(folder, task) for task in TASKS]
    with pytest.MonkeyPatch.context() as patch:
        recorder.install(patch)
        recorder.result = distill_tasks({**SETTINGS, "teacher": teachers, "out": str(folder / "run"), **more})
    return recorder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tasks")


@pytest.fixture(scope="module")
def together(folder: Path) -> Recorder:
    return taught(folder, Recorder(SCORES))


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
        assert [r.told["seed"] for r in rounds] == [seed_of(3, "round", n) for n in range(4)]


def test_the_attempt_that_holds_in_most_tasks_is_saved_and_judged_in_each(together: Recorder, folder: Path) -> None:
    for index, task in enumerate(TASKS):
        best = of_task(together, index)[1].after
        policy = load_policy(folder / "run" / "student.safetensors", task=task)
        assert fingerprint(policy.graph) == best
        assert {play.who for play in together.verdicts() if play.env_id == task} == {best}


def test_falling_behind_in_one_task_ends_no_validation_and_holding_does(together: Recorder) -> None:
    """The student of the first attempt holds in the first task after 60 episodes; every other one plays on."""
    for index, expected in enumerate(([60, 80, 80], [80, 80, 80])):
        attempts = [fit.after for fit in of_task(together, index)[1:]]
        episodes = [sum(len(play.seeds) for play in together.validations() if play.who == who) for who in attempts]
        assert episodes == expected
        env_ids = {play.env_id for play in together.validations() if play.who in attempts}
        assert env_ids == {list(TASKS)[index]}


def test_each_task_has_the_shared_settings_in_a_folder_of_its_own(together: Recorder, folder: Path) -> None:
    for task in TASKS:
        kept = yaml.safe_load((folder / "run" / task.replace("/", "-") / "config.yaml").read_text())
        shared = {name: value for name, value in SETTINGS.items() if name not in ("tasks", "quiet")}
        assert {name: kept[name] for name in shared} == shared
        assert (kept["env"], kept["student"]) == (task, "mlp")
        assert kept["n_envs"] == 1, "64 steps, and an episode has 50"
    assert yaml.safe_load((folder / "run" / "config.yaml").read_text())["tasks"] == list(TASKS)


def test_what_all_tasks_cost_is_told_together(together: Recorder) -> None:
    cost = together.result["cost"]
    steps_of_a_round = {"own": 64 // ROUNDS, "extra": 64 // 8}
    assert cost["env_steps"] == 2 * (ROUNDS * steps_of_a_round["own"] + (ATTEMPTS - 1) * steps_of_a_round["extra"])
    assert cost["gradient_steps"] == 7 + 11 * ATTEMPTS
    assert cost["validation_steps"] == 10 * sum(len(play.seeds) for play in together.on_seeds(10_000))
    assert cost["verdict_steps"] == 10 * sum(len(play.seeds) for play in together.on_seeds(20_000))
    assert {"teacher_s", "distill_s", "evaluate_s"} <= set(cost)


def test_the_file_says_of_each_task_who_taught_it(together: Recorder, folder: Path) -> None:
    for task in TASKS:
        provenance = load_policy(folder / "run" / "student.safetensors", task=task).graph.provenance
        teacher = load_teacher(saved(folder, task))
        assert (provenance["env"], provenance["teacher_sha256"]) == (task, teacher.origin.sha256)
        assert together.result["tasks"][task]["teacher"]["sha256"] == teacher.origin.sha256


@pytest.mark.parametrize("stopped_at", [2, 2 * ROUNDS + 2], ids=["between rounds", "between attempts"])
def test_tasks_that_were_stopped_go_on_each_with_its_own_student_and_data(
    stopped_at: int, together: Recorder, folder: Path, tmp_path: Path
) -> None:
    """A round of both tasks is two calls of `collect`."""
    with pytest.raises(Stopped):
        taught(tmp_path, Recorder(SCORES, stop_at_round=stopped_at))
    finished = 2 if stopped_at > 2 * ROUNDS else 0
    again = taught(tmp_path, Recorder(SCORES[2 * finished :]), resume=True)
    expected = together.rounds[stopped_at:]
    assert [r.student for r in again.rounds] == [r.student for r in expected]
    assert [r.told["seed"] for r in again.rounds] == [r.told["seed"] for r in expected]
    fits = together.joint_fits[finished + 1 if finished else 1 :]
    for found, wanted in zip(again.joint_fits, fits, strict=True):
        assert [fit.before for fit in found] == [fit.before for fit in wanted]
        assert [len(fit.rollouts) for fit in found] == [len(fit.rollouts) for fit in wanted]
    for name in ("env_steps", "gradient_steps", "validation_steps"):
        assert again.result["cost"][name] == together.result["cost"][name]
    for task in TASKS:
        files = [load_policy(path / "run" / "student.safetensors", task=task) for path in (folder, tmp_path)]
        assert fingerprint(files[0].graph) == fingerprint(files[1].graph)


def test_tasks_do_not_go_on_under_other_settings(folder: Path, together: Recorder) -> None:
    with pytest.raises(KDError, match="was begun with batch_size = 13, not 14"):
        taught(folder, Recorder([]), resume=True, batch_size=14)


def test_a_resumed_driver_shares_its_layers_as_before(tmp_path: Path) -> None:
    """With three rounds the driver of the second is fitted on after the run was stopped."""
    with pytest.raises(Stopped):
        taught(tmp_path, Recorder(SCORES, stop_at_round=2), rounds=3)
    again = taught(tmp_path, Recorder(SCORES), rounds=3, resume=True)
    for joint in again.joint_fits:
        one, two = (fit.student.layers for fit in joint)
        assert [a is b for a, b in zip(one, two, strict=True)] == [False] * 3 + [True] * 3 + [False]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"loss": "hint"}, "losses of layers or values, are for one task"),
        ({"tasks": [PROBES["Discrete"]] * 2}, "different environments"),
        ({"teacher": ["one file"]}, "1 for 2 tasks"),
        ({"hidden": [5]}, "leave none to share"),
    ],
)
def test_what_several_tasks_cannot_share_is_refused(more: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(KDError, match=said):
        taught(tmp_path, Recorder([]), **more)
    assert not (tmp_path / "run").exists()


def test_a_teacher_whose_student_could_not_share_is_refused(tmp_path: Path) -> None:
    teachers = [saved(tmp_path, task, kind="gru") for task in TASKS]
    with pytest.raises(KDError, match="needs a gru student; the tasks of one are shared by an mlp"):
        distill_tasks({**SETTINGS, "teacher": teachers, "out": str(tmp_path / "run")})


def test_tasks_are_played_and_kept_by_samples_where_that_is_asked_for(tmp_path: Path, together: Recorder) -> None:
    sampled = taught(tmp_path, Recorder(SCORES), sampled=True)
    for run, greedy in ((sampled, False), (together, True)):
        assert {r.told["deterministic"] for r in run.rounds} == {greedy}
        assert {play.deterministic for play in [*run.validations(), *run.verdicts()]} == {greedy}
        assert {result["play"] for result in run.result["tasks"].values()} == {"greedy" if greedy else "sampled"}
        assert {policy.sampled for policy in run.result.policies.values()} == {not greedy}
