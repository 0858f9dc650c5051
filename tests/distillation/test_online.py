"""Real-time distillation: labels follow the teacher's checkpoints, and the teacher does not notice."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from samples import PROBES, TINY, Agent

from kd_agent import KDError, distill, load_policy, load_teacher
from kd_agent.distillation import online as realtime
from kd_agent.evaluation.statistics import iqm
from kd_agent.networks.base import Teacher
from kd_agent.ppo.teacher import trained_teacher
from kd_agent.ppo.training import CHECK_SEED
from kd_agent.rollouts import Rollout
from kd_agent.rollouts.evaluate import evaluate
from kd_agent.rollouts.reservoir import flat
from kd_agent.runs.reporter import Reporter
from kd_agent.settings import RunConfig, resolve

TRAINING = {
    "total_steps": 192,
    "n_envs": 2,
    "n_steps": 32,
    "batch_size": 32,
    "n_epochs": 2,
    "hidden": [8],
    "eval_episodes": 2,
    "eval_every": 64,
    "learning_rate": 0.01,
}
SETTINGS: dict[str, Any] = {**TINY, "env": PROBES["Discrete"], "training": TRAINING, "realtime": True}

Lesson = tuple[Teacher, Rollout]


@pytest.fixture(scope="module")
def followed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any], list[Lesson]]:
    """A run in real time: its folder, its result, and the teacher and the states of each lesson."""
    folder, lessons = tmp_path_factory.mktemp("realtime"), list[Lesson]()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        fit = realtime.fit

        def witnessed(run: Any, student: Any, rollouts: Any, **more: Any) -> float:
            lessons.append((run.teacher, rollouts[0]))
            return fit(run, student, rollouts, **more)

        patch.setattr(realtime, "fit", witnessed)
        result = distill({**SETTINGS, "out": "run"})
    return folder, result, lessons


def teacher_of(folder: Path) -> Path:
    [path] = folder.glob("runs/teachers/*/teacher.zip")
    return path


def test_every_label_is_the_present_teachers_answer(followed: Any) -> None:
    _, _, lessons = followed
    assert len(lessons) == 3
    for teacher, states in lessons:
        assert np.allclose(states.params[0], teacher(flat(states)).params.numpy(), atol=1e-6)
    (first, before), (second, after) = lessons[:2]
    old = flat(before)
    assert np.array_equal(flat(after)["obs"][: before.driver.size], old["obs"])
    moved = np.abs(after.params[0, : before.driver.size] - before.params[0]).max()
    assert moved > 1e-3, "old states were labelled anew"
    assert not np.allclose(first(old).params, second(old).params, atol=1e-3)


def test_the_timeline_tells_how_far_the_student_is_behind_at_each_checkpoint(followed: Any) -> None:
    folder, result, _ = followed
    rows = result["realtime"]
    assert [row["env_steps"] for row in rows] == [64, 128, 192]
    assert all(0 <= row["agreement"] <= 1 for row in rows)
    assert json.loads((folder / "run" / "realtime.json").read_text())["realtime"] == rows
    assert json.loads((folder / "run" / "result.json").read_text()) == result
    teacher = load_teacher(str(folder / "run" / "checkpoint" / "present.zip"))
    returns = evaluate(teacher, PROBES["Discrete"], seeds=range(CHECK_SEED, CHECK_SEED + 2)).returns
    assert rows[-1]["teacher_iqm"] == float(iqm(returns))


def test_the_finished_student_is_judged_and_its_costs_are_told(followed: Any) -> None:
    folder, result, lessons = followed
    policy = load_policy(folder / "run" / "student.safetensors")
    assert policy.num_parameters == result["student"]["parameters"]
    assert result["teacher"]["source"].endswith("teacher.zip")
    assert result["cost"]["env_steps"] >= 3 * 480 / 8
    assert result["cost"]["gradient_steps"] >= 3 * 20 + 60
    assert 0 < result["cost"]["follow_s"] <= result["cost"]["teacher_s"]
    kept = np.load(folder / "run" / "checkpoint" / "round-1.npz")
    teacher = load_teacher(str(teacher_of(folder)))
    assert np.allclose(kept["params"][0], teacher({"obs": kept["obs.obs"][0]}).params.numpy(), atol=1e-6)
    assert (folder / "run" / "checkpoint" / "followed.npz").is_file()
    assert lessons[-1][1].driver.size <= 480


def test_the_teacher_is_the_same_to_the_last_bit_whether_it_is_followed_or_not(followed: Any, tmp_path: Path) -> None:
    config = resolve(RunConfig, {"env": PROBES["Discrete"], "training": TRAINING})
    alone = load_teacher(str(trained_teacher(config, Reporter(quiet=True), tmp_path)))
    batch = {"obs": np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)}
    assert np.array_equal(alone(batch).params, load_teacher(str(teacher_of(followed[0])))(batch).params)


def test_a_teacher_trained_earlier_is_distilled_as_usual(followed: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(followed[0])
    late = distill({**SETTINGS, "out": "late"})
    usual = distill({**SETTINGS, "out": "usual", "realtime": False})
    assert late["realtime"] == []
    assert "realtime" not in usual
    assert late["student"]["returns"] == usual["student"]["returns"]
    assert late["student"]["kl"] == usual["student"]["kl"]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"student": "gru"}, "gru is not fitted by"),
        ({"student": "tree"}, "tree is not fitted by"),
        ({"search_size": True}, "--search-size do not go together"),
        ({"temperature": "auto"}, "--temperature auto do not go together"),
    ],
)
def test_what_cannot_follow_is_refused_before_anything_is_trained(
    more: dict[str, Any], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(KDError, match=said):
        distill({**SETTINGS, **more, "out": "run"})
    assert not list(tmp_path.iterdir())


def test_a_finished_teacher_cannot_be_followed(agents: dict[str, Agent], tmp_path: Path) -> None:
    with pytest.raises(KDError, match="leave --teacher out"):
        distill({**SETTINGS, "teacher": str(agents["Discrete"].path), "out": str(tmp_path / "run")})
    assert not list(tmp_path.iterdir())
