"""Distilling a teacher that plays with action masks: nobody does what is not allowed, from the first step on."""

import json
from pathlib import Path
from typing import Any

import gymnasium as gym
import masked_agents
import numpy as np
import pytest
from masked_agents import IDS, PARTS, SPACES, MaskedEnv, Tally, share_invalid
from samples import PROBES, Agent, settings, train_agent

from kd_agent import KDError, distill, evaluate, load_policy, load_teacher
from kd_agent.adapters.gymnasium import Skills, log_prob
from kd_agent.continual.follow_drift import follow_drift
from kd_agent.environments import Recipe
from kd_agent.evaluation.verdict import evaluate_file
from kd_agent.explanations.explain import explain_file
from kd_agent.kickstarting.kickstart import kickstart
from kd_agent.rollouts.render import play_episode
from kd_agent.settings import EvaluateConfig, ExplainConfig, FollowDriftConfig, resolve

every_space = pytest.mark.parametrize("name", SPACES)


@pytest.fixture(scope="module", params=SPACES)
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path, dict[str, Any]]:
    """A distillation in each space, with random actions in it: the space, the run folder, the result."""
    name = str(request.param)
    folder = tmp_path_factory.mktemp("masks") / name
    with Tally() as tally:
        more = {"exploration": 0.3, "env_steps": 1200, "round_steps": 100, "final_steps": 400}
        result = distill(settings(masked_agents.agent(name), folder, **more))
    assert tally.steps > 1200
    assert tally.invalid == 0
    return name, folder, result


def test_a_whole_distillation_has_no_invalid_action_and_a_student_that_plays_with_masks(run: Any) -> None:
    name, folder, result = run
    student = load_policy(folder / "student.safetensors")
    assert student.expects_masks
    observations, masks = masked_agents.states(name)
    actions, _ = student.predict(observations, deterministic=True, action_masks=masks)
    assert share_invalid(actions, masks, name) == 0
    teacher = load_teacher(str(masked_agents.agent(name).path))
    theirs, _ = teacher.predict(observations, deterministic=True, action_masks=masks)
    assert np.mean((actions == theirs).reshape(len(masks), -1).all(-1)) > 0.6
    assert result["student"]["agreement"] > 0.6
    # The yardstick knows the masks too: else it would be in the hundreds of millions, or as far as what is forbidden.
    assert result["student"]["kl"] < result["student"]["kl_uniform"] < 10
    assert result["teacher"]["mean"] > result["random"]["mean"]


def test_the_masks_lie_beside_the_states(run: Any) -> None:
    name, folder, _ = run
    arrays = dict(np.load(folder / "checkpoint" / "round-0.npz"))
    assert arrays["mask"].dtype == bool
    assert arrays["mask"].shape == (*arrays["driver"].shape, sum(PARTS[name]))
    teacher = load_teacher(str(masked_agents.agent(name).path))
    label = teacher.label({"obs": arrays["obs.obs"].reshape(-1, 6)}, action_masks=arrays["mask"])
    np.testing.assert_allclose(label.params, arrays["params"].reshape(-1, label.params.shape[1]), atol=1e-5, rtol=1e-5)


def test_the_file_is_evaluated_shown_and_explained_under_masks(run: Any, tmp_path: Path) -> None:
    name, folder, _ = run
    file = str(folder / "student.safetensors")
    agent = masked_agents.agent(name)
    with Tally() as tally:
        config = {"student": file, "teacher": [str(agent.path)], "episodes": 8, "quiet": True}
        evaluate_file(resolve(EvaluateConfig, config))
        evaluate_file(resolve(EvaluateConfig, {**config, "sampled": True}))
        for sampled in (False, True):
            play_episode(load_policy(file), Recipe(IDS[name]), "", 3, sampled)
        more = {"teacher": [str(agent.path)], "states": 320, "quiet": True, "out": str(tmp_path)}
        explained = explain_file(resolve(ExplainConfig, {"student": file, **more}))
    assert tally.steps > 2 * 80 * 2
    assert tally.invalid == 0
    assert explained["kl"] < explained["kl_uniform"] < 10
    # Under the masks of the states, whatever else is shown: so no saliency is astronomical.
    assert all(feature["teacher"]["kl"] < 50 for feature in explained["saliency"]["features"])


def test_a_student_that_plays_with_masks_is_refused_where_there_are_none(run: Any) -> None:
    name, folder, _ = run
    if name == "Discrete":
        config = {"student": str(folder / "student.safetensors"), "env": "MaskedNot-v0", "episodes": 2, "quiet": True}
        with pytest.raises(KDError, match="has no method action_masks") as caught:
            evaluate_file(resolve(EvaluateConfig, config))
        assert "\n" not in str(caught.value)


KINDS_OF_FIT: list[dict[str, Any]] = [
    {"student": "tree"},
    {"student": "gru", "final_steps": 60},
    {"loss": {"mse": 1.0}},
    {"loss": {"ranking": 1.0}},
    {"loss": {"reverse_kl": 1.0}},
    {"temperature": "auto"},
    {"sampled": True},
    {"temperature": "auto"},
]


@pytest.mark.parametrize("more", KINDS_OF_FIT, ids=str)
def test_every_kind_of_fit_learns_masked_rows(more: dict[str, Any], tmp_path: Path) -> None:
    fit = {"env_steps": 1200, "final_steps": 300, "rounds": 1, "attempts": 1, **more}
    with Tally() as tally:
        result = distill(settings(masked_agents.agent("Discrete"), tmp_path / "run", **fit))
    assert tally.invalid == 0
    assert result["student"]["agreement"] > 0.7
    assert np.isfinite(result["student"]["kl"])


@every_space
def test_the_random_policy_keeps_to_what_is_allowed_and_is_the_same_each_time(name: str) -> None:
    with Tally() as tally:
        first = evaluate(None, IDS[name], seeds=range(30)).returns
    # Sixteen play side by side, the last of them beyond what was asked for.
    assert tally.steps >= 300
    assert tally.invalid == 0
    np.testing.assert_array_equal(evaluate(None, IDS[name], seeds=range(30)).returns, first)


class OddMasks(MaskedEnv):
    """Its method of that name says something else."""

    def action_masks(self) -> Any:
        return [True, False]


def test_masks_that_do_not_fit_are_named_for_who_needs_them_and_forbid_the_random_policy_nothing(
    register_env: Any,
) -> None:
    env_id = register_env("OddMasks-v0", OddMasks)
    assert len(evaluate(None, env_id, seeds=range(3)).returns) == 3
    teacher = load_teacher(str(masked_agents.agent("Discrete").path))
    with pytest.raises(KDError, match=r"action_masks\(\) of the environment gave 2 flags, its actions have 4"):
        evaluate(teacher, env_id, seeds=[1])


def test_a_teacher_without_masks_plays_without_and_that_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], small_ppo: Agent
) -> None:
    distill(settings(small_ppo, tmp_path / "run", quiet=False, progress=False))
    said = [line for line in capsys.readouterr().err.splitlines() if "action masks" in line]
    assert len(said) == 1
    assert "teacher and student play without them" in said[0]
    assert not load_policy(tmp_path / "run" / "student.safetensors").expects_masks


@pytest.fixture(scope="module")
def small_ppo(tmp_path_factory: pytest.TempPathFactory) -> Agent:
    return train_agent(tmp_path_factory.mktemp("ppo") / "ppo.zip", IDS["Discrete"])


def test_what_cannot_be_done_with_masks_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    agent = masked_agents.agent("Discrete")
    out = tmp_path / "run"
    with pytest.raises(KDError, match=r"MaskedNot-v0 has no method action_masks\(\)"):
        distill({**settings(agent, out), "env": "MaskedNot-v0"})
    with pytest.raises(KDError, match="PPO trains --control without"):
        distill(settings(agent, out, control=True))
    with pytest.raises(KDError, match="this command knows nothing of"):
        kickstart({"env": IDS["Discrete"], "teacher": [str(agent.path)], "out": str(out), "quiet": True})
    assert not out.exists()


def test_following_a_drift_is_refused(tmp_path: Path, run: Any) -> None:
    name, folder, _ = run
    file, teacher = str(folder / "student.safetensors"), str(masked_agents.agent(name).path)
    config = {"student": file, "teacher": teacher, "env": IDS[name], "out": str(tmp_path / "drift"), "quiet": True}
    with pytest.raises(KDError, match="action masks"):
        follow_drift(resolve(FollowDriftConfig, config))


def test_skills_and_references_keep_to_masks_too(run: Any) -> None:
    name, folder, _ = run
    student = load_policy(folder / "student.safetensors")
    env = Skills(gym.make(IDS[name]), [student], steps=4)
    env.reset(seed=1)
    with Tally() as tally:
        env.step(0)
    assert (tally.steps, tally.invalid) == (4, 0)
    observations, masks = masked_agents.states(name, 5)
    action = student.act(observations[0], masks[0])
    masked = log_prob(student, observations[0], action, masks[0])
    assert log_prob(student, observations[0], action) <= masked <= 0
    other = Skills(gym.make(PROBES["Discrete"]), [student])
    other.reset(seed=1)
    with pytest.raises(KDError, match="no method action_masks"):
        other.step(0)


def test_a_resumed_run_with_masks_ends_as_an_uninterrupted_one(run: Any, tmp_path: Path) -> None:
    name, folder, _ = run
    if name != "MultiDiscrete":
        return
    again = tmp_path / "again"
    (again / "checkpoint").mkdir(parents=True)
    for file in (
        "config.yaml",
        "teacher.json",
        "checkpoint/driver.npz",
        *(f"checkpoint/round-{k}.npz" for k in range(3)),
    ):
        (again / file).write_bytes((folder / file).read_bytes())
    more = {"exploration": 0.3, "env_steps": 1200, "round_steps": 100, "final_steps": 400, "resume": True}
    distill(settings(masked_agents.agent(name), again, **more))
    student = "student.safetensors"
    assert (again / student).read_bytes() == (folder / student).read_bytes()
    assert json.loads((again / "result.json").read_text())["verdict"]
