"""What is trained by PPO alone: a teacher, and the control."""

from pathlib import Path
from typing import Any

import pytest
from recorder import GIVEN, SEAMS, Recorder, Stopped, recorded
from stable_baselines3 import PPO

from kd_agent import distill

TRAINING = {"n_envs": 2, "n_steps": 16, "batch_size": 8, "n_epochs": 3, "hidden": [9], "gamma": 0.9, "gae_lambda": 0.8,
            "ent_coef": 0.01, "clip_range": 0.3, "learning_rate": 0.007, "activation": "relu"}  # fmt: skip


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
    spent = run.result["cost"]["env_steps"] + run.result["cost"]["validation_steps"]
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


def test_a_control_that_was_trained_before_is_not_trained_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    learnt: list[PPO] = []
    monkeypatch.setattr(SEAMS["learn"], lambda model, total, **more: learnt.append(model))
    for resume in (False, True):
        scores = [] if resume else [100.0]
        run = recorded(tmp_path / "run", Recorder(scores), control=True, training=TRAINING, resume=resume)
        assert run.result["control"]["mean"] == 100.0
        assert {"teacher_s", "distill_s", "evaluate_s", "control_s"} <= set(run.result["cost"])
    assert len(learnt) == 1
