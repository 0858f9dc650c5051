"""Teacher and student see one task differently: a state teacher, a student of pixels or of positions."""

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from samples import HEADS

from kd_agent import distill, load_policy, plugins
from kd_agent.errors import KDError
from kd_agent.policies.graph import ObservationSpec
from kd_agent.policies.normalizer import Normalizer
from kd_agent.settings import DistillConfig, resolve

OURS = (
    "kd_envs/LunarLanderPixels-v3",
    "kd_envs/CartPolePixels-v1",
    "kd_envs/LunarLanderBlind-v3",
    "kd_envs/CartPoleBlind-v1",
)
TINY = {
    "env_steps": 32,
    "n_envs": 2,
    "rounds": 2,
    "round_steps": 2,
    "final_steps": 2,
    "attempts": 1,
    "episodes": 2,
    "max_episodes": 2,
    "hidden": [4],
    "quiet": True,
    "training": {"total_steps": 64, "n_envs": 1, "n_steps": 64, "eval_episodes": 1, "batch_size": 64, "hidden": [8]},
}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("kd_agent.evaluation.agreement.EPISODES", 2)
    monkeypatch.setattr("kd_agent.evaluation.agreement.STATES", 64)
    return tmp_path


@pytest.mark.parametrize("env_id", OURS)
def test_the_shipped_settings_train_the_teacher_as_the_plain_environment_does(env_id: str) -> None:
    config = resolve(DistillConfig, {"env": env_id})
    plain = resolve(DistillConfig, {"env": config.teacher_env})
    assert config.teacher_env == env_id.removeprefix("kd_envs/").replace("Pixels", "").replace("Blind", "")
    assert config.training == plain.training != resolve(DistillConfig, {"env": "Elsewhere-v0"}).training
    given = resolve(DistillConfig, {"env": env_id, "training": {"gamma": 0.5}})
    assert given.training.gamma == 0.5
    assert given.training.n_steps == plain.training.n_steps


@pytest.mark.parametrize(("env_id", "keys"), [(OURS[1], ["pixels"]), (OURS[3], ["positions", "last_action"])])
def test_a_teacher_of_the_state_is_trained_and_the_student_sees_something_else(
    here: Path, env_id: str, keys: list[str]
) -> None:
    result = distill({"env": env_id, "out": "run", **TINY})
    assert result["env"] == env_id
    assert [path.name[:11] for path in Path("runs/teachers").iterdir()] == ["CartPole-v1"]
    student = load_policy(here / "run" / "student.safetensors")
    assert sorted(student.graph.observations) == sorted(keys)
    env = gym.make(env_id)
    whole = env.reset(seed=0)[0]
    alone = {key: whole[key] for key in keys}
    changed = {**whole, "state": whole["state"] + 1}
    ways = [whole, alone, changed]
    if len(keys) == 1:
        ways.append(whole[keys[0]])
    answers = [student.predict(seen, deterministic=True) for seen in ways]
    assert all(np.array_equal(action, answers[0][0]) for action, _ in answers)
    if student.recurrent:
        assert all(np.array_equal(memory, answers[0][1]) for _, memory in answers)
    else:
        assert np.array_equal(student.params(whole), student.params(alone))
        assert student.act(whole) == student.act(alone) == student.act(whole[keys[0]])


def test_the_plain_teacher_is_reused_for_every_view_of_its_task(here: Path) -> None:
    first = distill({"env": OURS[3], "out": "blind", **TINY})
    second = distill({"env": OURS[1], "out": "pixels", **TINY})
    assert first["teacher"]["sha256"] == second["teacher"]["sha256"]
    assert len(list(Path("runs/teachers").iterdir())) == 1


def test_each_pixel_has_its_mean_and_all_share_one_scale() -> None:
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (50, 12, 12, 2), np.uint8)
    pictures[:, :6] //= 8
    known = Normalizer.of(pictures)
    student = plugins.load("students", "cnn").build(
        {"pixels": ObservationSpec((12, 12, 2), "uint8")}, HEADS["categorical"], {"pixels": known}
    )
    normalise = student.graph().ops[0]
    assert (normalise.kind, normalise.inputs) == ("normalise", ("pixels",))
    assert np.allclose(normalise.tensors["mean"], known.mean)
    assert len(np.unique(normalise.tensors["scale"])) == 1
    normal = (pictures - normalise.tensors["mean"]) * normalise.tensors["scale"]
    assert normal.var(axis=0).mean() == pytest.approx(1, abs=1e-3)
    assert normal.var(axis=0)[:6].mean() < 0.1


def test_no_grey_is_clipped_however_little_the_first_pictures_moved() -> None:
    still = Normalizer.of(np.full((50, 12, 12, 1), 7, np.uint8))
    student = plugins.load("students", "cnn").build(
        {"pixels": ObservationSpec((12, 12, 1), "uint8")}, HEADS["categorical"], {"pixels": still}
    )
    normalise = student.graph().ops[0]
    greys = (np.arange(256)[:, None] - normalise.tensors["mean"].ravel()) * normalise.tensors["scale"].ravel()
    assert np.abs(greys).max() <= normalise.attributes["clip"]
    assert np.abs(greys).max() > 5


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"teacher_env": None}, "name it (--teacher), or the environment to train it in (--teacher-env)"),
        ({"teacher_env": "Acrobot-v1"}, "a teacher of Acrobot-v1 does not fit kd_envs/CartPoleBlind-v1, of which"),
        ({"teacher_keys": ["positions"]}, "its observations are Box"),
        ({"teacher_env": "CartPool-v1"}, "CartPole-v1"),
    ],
)
def test_a_teacher_that_could_not_read_its_keys_is_refused_before_it_is_trained(
    here: Path, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(KDError) as caught:
        distill({"env": OURS[3], "out": "run", **TINY, **settings})
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (here / "runs").exists()
    assert not (here / "run").exists()


def test_the_command_line_needs_nothing_but_the_environment(here: Path) -> None:
    from kd_agent.commands.cli import run

    flags = {
        "rounds": 1,
        "round-steps": 1,
        "final-steps": 1,
        "attempts": 1,
        "episodes": 1,
        "max-episodes": 1,
        "env-steps": 16,
        "training.total-steps": 64,
        "training.n-envs": 1,
        "training.n-steps": 64,
        "training.eval-episodes": 1,
    }
    words = [word for name, value in flags.items() for word in (f"--{name}", str(value))]
    assert run("distill", ["--env", OURS[1], "--out", "run", "--quiet", *words]) == 0
    assert list(load_policy(here / "run" / "student.safetensors").graph.observations) == ["pixels"]
