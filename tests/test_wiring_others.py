"""What is wired around the loop: several tasks, the search for a size, the control, kickstarting, a PPO teacher."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from recorder import GIVEN, SEAMS, Fitted, Recorder, Stopped, fingerprint, original, recorded
from samples import HEADS, PROBES, make_student
from stable_baselines3 import PPO

from kd_agent import distill, distill_tasks, load_policy, load_teacher
from kd_agent.kickstarting.kickstart import kickstart
from kd_agent.rollouts.evaluate import Evaluation
from kd_agent.runs.seeds import seed_of

TASKS = {PROBES["Discrete"]: "categorical", PROBES["Box"]: "diag_gaussian"}
ROUNDS = 2
TRAINING = {
    "n_envs": 2,
    "n_steps": 16,
    "batch_size": 8,
    "n_epochs": 3,
    "hidden": [9],
    "gamma": 0.9,
    "gae_lambda": 0.8,
    "ent_coef": 0.01,
    "clip_range": 0.3,
    "learning_rate": 0.007,
    "activation": "relu",
}


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
    given = {
        "tasks": list(TASKS),
        "teacher": [saved(folder, task) for task in TASKS],
        "hidden": [5, 4],
        "seed": 3,
        "env_steps": 64,
        "rounds": ROUNDS,
        "round_steps": 7,
        "final_steps": 11,
        "attempts": 3,
        "exam_episodes": 4,
        "batch_size": 13,
        "learning_rate": 0.017,
        "episodes": 6,
        "max_episodes": 6,
        "margin": 0.2,
        "quiet": True,
        "out": str(folder / "run"),
    }
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
        assert [r.told["seed"] for r in rounds] == [seed_of(3, "round", n) for n in range(4)]


def test_the_attempt_that_holds_in_most_tasks_is_saved_and_judged_in_each(together: Recorder, folder: Path) -> None:
    for index, task in enumerate(TASKS):
        best = of_task(together, index)[1].after
        policy = load_policy(folder / "run" / "student.safetensors", task=task)
        assert fingerprint(policy.graph) == best
        assert [play.who for play in together.verdicts() if play.env_id == task] == [best]


def test_a_search_judges_the_last_fit_of_the_smallest_size_that_holds(tmp_path: Path) -> None:
    """Linear and one unit earn nothing; two units (22 parameters) and three are as good as the teacher."""
    recorder = Recorder(by_policy=lambda policy: 100.0 if policy.num_parameters >= 22 else 0.0)
    recorded(
        tmp_path / "run",
        recorder,
        search_size=True,
        hidden=[3],
        attempts=2,
        loss="kl",
        teacher_layer=None,
        student_layer=None,
    )
    assert recorder.result["search"]["chosen"] == [2]
    policy = load_policy(tmp_path / "run" / "student.safetensors")
    chosen = [fit for fit in recorder.fits if fit.after == fingerprint(policy.graph)]
    assert [fit.told["steps"] for fit in chosen] == [GIVEN["final_steps"]]
    assert policy.graph.provenance["config"]["hidden"] == [2]
    assert {play.who for play in recorder.verdicts()} == {chosen[0].after}


def test_the_control_is_the_students_network_trained_as_long_and_plays_the_verdicts_seeds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    learnt: list[tuple[PPO, int]] = []
    monkeypatch.setattr(SEAMS["learn"], lambda model, total, **more: learnt.append((model, total)))
    run = recorded(tmp_path / "run", Recorder([10.0, 100.0]), control=True, training=TRAINING)
    [(model, total)] = learnt
    assert model.policy.net_arch == {"pi": [7, 3], "vf": [9]}
    assert model.policy.activation_fn.__name__ == "Tanh"
    assert model.seed == 3
    spent = run.result["cost"]["env_steps"] + run.result["cost"]["exam_steps"]
    assert 0 <= total - spent < model.n_steps * model.n_envs
    *_, last = run.plays
    assert last.seeds == [seed for play in run.verdicts() for seed in play.seeds]
    assert last.who not in {None, *(play.who for play in run.verdicts())}


def test_the_training_of_a_teacher_has_the_settings_that_were_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    learnt: list[tuple[PPO, int]] = []

    def learn(model: PPO, total: int, **more: Any) -> None:
        learnt.append((model, total))
        raise Stopped

    monkeypatch.setattr(SEAMS["learn"], learn)
    monkeypatch.chdir(tmp_path)
    plain = {"loss": "kl", "teacher_layer": None, "student_layer": None, "out": str(tmp_path / "run")}
    with pytest.raises(Stopped):
        distill({**GIVEN, **plain, "training": {**TRAINING, "total_steps": 1234}})
    [(model, total)] = learnt
    assert total == 1234
    found = {
        "n_envs": model.n_envs,
        "n_steps": model.n_steps,
        "batch_size": model.batch_size,
        "n_epochs": model.n_epochs,
        "hidden": model.policy.net_arch["pi"],
        "gamma": model.gamma,
        "gae_lambda": model.gae_lambda,
        "ent_coef": model.ent_coef,
        "clip_range": model.clip_range(1.0),
        "learning_rate": model.lr_schedule(1.0),
        "activation": "relu",
    }
    assert found == TRAINING
    assert model.policy.activation_fn.__name__ == "ReLU"
    assert model.seed == 3


def test_a_kickstarts_teacher_weighs_as_asked_for_and_fades_in_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights: list[float] = []
    warming: list[bool] = []
    ways: set[tuple[bool, float, float]] = set()
    seeds: list[int] = []
    bonus, learn = original("bonus"), original("learn")

    def spied_bonus(guidance: Any, *given: Any) -> Any:
        weights.append(guidance.weight)
        warming.append(guidance.warming)
        ways.add((guidance.proximal, guidance.clip_range, guidance.ent_coef))
        return bonus(guidance, *given)

    def spied_learn(model: PPO, *given: Any, **more: Any) -> Any:
        seeds.append(model.seed)
        return learn(model, *given, **more)

    monkeypatch.setattr(SEAMS["bonus"], spied_bonus)
    monkeypatch.setattr(SEAMS["learn"], spied_learn)
    monkeypatch.setattr(SEAMS["keeper"], lambda *args, **more: Evaluation(np.ones(1), np.ones(1)))
    Recorder(verdict=lambda seed: 100.0).install(monkeypatch)
    task = PROBES["Discrete"]
    kickstart(
        {
            "env": task,
            "teacher": saved(tmp_path, task),
            "out": str(tmp_path / "run"),
            "total_steps": 256,
            "weight": 2.0,
            "fade_fraction": 0.5,
            "critic_warmup": 0.25,
            "method": "ppd",
            "hidden": [4],
            "seed": 3,
            "training": TRAINING,
            "episodes": 6,
            "max_episodes": 6,
            "quiet": True,
        }
    )
    assert seeds == [3]
    assert ways == {(True, 0.3, 0.01)}
    assert weights[0] == 2.0
    assert weights == sorted(weights, reverse=True)
    assert np.mean([weight > 0 for weight in weights]) == pytest.approx(0.5, abs=0.03)
    assert np.mean(warming) == pytest.approx(0.25, abs=0.03)
    assert min(weight for weight, warm in zip(weights, warming, strict=True) if warm) == 2.0


def test_a_kickstarts_seed_decides_the_first_weights_and_the_states_that_normalise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[Any] = []

    def learn(model: PPO, *given: Any, **more: Any) -> None:
        begun.append(model.policy.program())
        raise Stopped

    monkeypatch.setattr(SEAMS["learn"], learn)
    task = PROBES["Discrete"]
    for number, seed in enumerate((3, 3, 4)):
        with pytest.raises(Stopped):
            kickstart(
                {
                    "env": task,
                    "teacher": saved(tmp_path, task),
                    "out": str(tmp_path / str(number)),
                    "hidden": [4],
                    "seed": seed,
                    "training": TRAINING,
                    "quiet": True,
                }
            )
    weights = [fingerprint(program) for program in begun]
    means = [op.tensors["mean"].tolist() for program in begun for op in program.ops if op.kind == "normalise"]
    for figures in (weights, means):
        assert figures[0] == figures[1] != figures[2]
