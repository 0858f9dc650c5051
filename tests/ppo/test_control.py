"""The control: the student's network without a teacher, as many steps, on the same seeds."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from samples import PROBES, Agent, settings
from stable_baselines3 import PPO

from kd_agent import KDError, distill, load_teacher
from kd_agent.plugins import load
from kd_agent.ppo.control import control_training
from kd_agent.rollouts.evaluate import evaluate
from kd_agent.runs.folder import RunFolder
from kd_agent.settings import DistillConfig, resolve

PPO_SETTINGS = {"normalize": True, "n_envs": 4, "n_steps": 64, "batch_size": 64, "n_epochs": 1, "hidden": [8]}


@pytest.fixture(scope="module")
def run(agents: dict[str, Agent], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A run with a control, of continuous actions."""
    folder = tmp_path_factory.mktemp("control") / "run"
    return folder, distill({**settings(agents["Box"], folder), "control": True, "training": PPO_SETTINGS})


def test_the_control_is_the_students_network_and_had_its_steps(run: tuple[Path, dict[str, Any]]) -> None:
    folder, result = run
    control, cost = result["control"], result["cost"]
    assert control["parameters"] == result["student"]["parameters"]
    assert 0 <= control["env_steps"] - (cost["env_steps"] + cost["validation_steps"]) < 64
    assert PPO.load(folder / "control.zip").num_timesteps == control["env_steps"]
    assert control["seconds"] == cost["control_s"] > 0


def test_it_plays_the_verdicts_seeds_greedily(run: tuple[Path, dict[str, Any]]) -> None:
    folder, result = run
    played = evaluate(load_teacher(str(folder / "control.zip")), PROBES["Box"], seeds=range(20_000, 20_006))
    control = result["control"]
    assert played.returns.tolist() == control["returns"]
    assert control["mean_ci"][0] <= control["mean"] <= control["mean_ci"][1]
    assert control["difference"] == pytest.approx(result["student"]["mean"] - control["mean"])
    assert control["better"] == (control["difference_ci"][0] > 0)


def test_the_result_and_the_report_show_it(run: tuple[Path, dict[str, Any]]) -> None:
    folder, result = run
    assert json.loads((folder / "result.json").read_text()) == result
    page = (folder / "report.html").read_text()
    assert f"control: the same network, trained by PPO alone</td><td>{result['control']['mean']:.1f}" in page
    assert f"{result['control']['env_steps']:,} environment steps" in page


def test_a_report_without_a_control_does_not_mention_one(runs: dict[str, Any], tmp_path: Path) -> None:
    load("report", "html").write(RunFolder(tmp_path), runs["Box"][1])
    assert "control" not in (tmp_path / "report.html").read_text()


def test_a_finished_control_is_not_trained_again(
    run: tuple[Path, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, result = run
    monkeypatch.setattr(PPO, "learn", lambda *a, **k: pytest.fail("trained again"))
    again = distill({"env": PROBES["Box"], "out": str(folder), "resume": True, "quiet": True})
    timeless = [{k: v for k, v in r["control"].items() if k != "seconds"} for r in (result, again)]
    assert timeless[0] == timeless[1]


def test_the_control_sees_normalised_observations_and_has_a_critic_of_the_teachers_size(
    run: tuple[Path, dict[str, Any]],
) -> None:
    folder, _ = run
    model = PPO.load(folder / "control.zip")
    assert model.policy.net_arch == {"pi": [8], "vf": [8]}
    assert model.policy.activation_fn.__name__ == "SiLU"
    assert np.load(folder / "control.npz")["mean"].shape == (4,)


@pytest.mark.parametrize("steps", [480, 5_000, 100_000])
def test_a_budget_is_cut_into_at_least_32_updates_and_rounded_up(steps: int) -> None:
    config = resolve(DistillConfig, {"env": "LunarLander-v3", "hidden": [16, 16]})
    training = control_training(config.training, steps, "silu")
    update = training.n_steps * training.n_envs
    assert training.total_steps % update == 0
    assert 0 <= training.total_steps - steps < update
    assert training.total_steps // update >= min(32, steps // training.n_envs)
    assert training.batch_size <= update
    assert (training.gamma, training.learning_rate, training.normalize) == (0.999, 6e-4, False)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"student": "gru"}, "--control trains mlp students, not gru"),
        ({"env": "CliffWalking-v1", "teacher": ()}, "--control trains students that see a whole Box"),
    ],
)
def test_a_control_that_ppo_cannot_be_is_refused_before_anything_is_trained(
    more: dict[str, Any], message: str, agents: dict[str, Agent], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PPO, "learn", lambda *a, **k: pytest.fail("trained"))
    with pytest.raises(KDError, match=message):
        distill({**settings(agents["Box"], tmp_path / "run"), "control": True, **more})
    assert not (tmp_path / "run").exists()
