"""What is trained by PPO: a teacher, the control, a kickstarted student."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from recorder import GIVEN, SEAMS, Recorder, Stopped, fingerprint, original, recorded
from samples import HEADS, PROBES, make_student
from stable_baselines3 import PPO

from kd_agent import distill
from kd_agent.kickstarting.kickstart import kickstart
from kd_agent.rollouts.evaluate import Evaluation

TASKS = {PROBES["Discrete"]: "categorical", PROBES["Box"]: "diag_gaussian"}

ROUNDS = 2

TRAINING = {"n_envs": 2, "n_steps": 16, "batch_size": 8, "n_epochs": 3, "hidden": [9], "gamma": 0.9, "gae_lambda": 0.8,
            "ent_coef": 0.01, "clip_range": 0.3, "learning_rate": 0.007, "activation": "relu"}  # fmt: skip


def saved(folder: Path, task: str, seed: int = 1) -> str:
    """The file of a teacher for a task."""
    teacher = make_student(HEADS[TASKS[task]], hidden=(6,), seed=seed)
    return str(teacher.save(folder / f"{TASKS[task]}.safetensors", {"env": task}))


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
    found = {"n_envs": model.n_envs, "n_steps": model.n_steps, "batch_size": model.batch_size,
             "n_epochs": model.n_epochs, "hidden": model.policy.net_arch["pi"], "gamma": model.gamma,
             "gae_lambda": model.gae_lambda, "ent_coef": model.ent_coef, "clip_range": model.clip_range(1.0),
             "learning_rate": model.lr_schedule(1.0), "activation": "relu"}  # fmt: skip
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
    kickstart({"env": task, "teacher": saved(tmp_path, task), "out": str(tmp_path / "run"), "total_steps": 256,
               "weight": 2.0, "fade_fraction": 0.5, "critic_warmup": 0.25, "method": "ppd", "hidden": [4], "seed": 3,
               "training": TRAINING, "episodes": 6, "max_episodes": 6, "quiet": True})  # fmt: skip
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
            kickstart({"env": task, "teacher": saved(tmp_path, task), "out": str(tmp_path / str(number)), "hidden": [4],
                       "seed": seed, "training": TRAINING, "quiet": True})  # fmt: skip
    weights = [fingerprint(program) for program in begun]
    means = [op.tensors["mean"].tolist() for program in begun for op in program.ops if op.kind == "normalise"]
    for figures in (weights, means):
        assert figures[0] == figures[1] != figures[2]
