"""Kickstarting and proximal policy distillation: the loss is what is written down, and the teacher fades."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from samples import HEADS, PROBES, Agent, make_student

from kd_agent import KDError, load_policy, load_teacher
from kd_agent.environments.recipe import Recipe
from kd_agent.kickstarting.kickstart import check, kickstart
from kd_agent.networks.base import Teacher
from kd_agent.policies.normalizer import Normalizer
from kd_agent.policies.policy import Policy
from kd_agent.ppo import training as train
from kd_agent.rollouts.evaluate import Evaluation
from kd_agent.settings import KickstartConfig, resolve

PPO_SETTINGS = {"n_envs": 4, "n_steps": 32, "batch_size": 64, "n_epochs": 1, "hidden": [8], "eval_episodes": 4}
TINY = {"total_steps": 1024, "hidden": [8], "episodes": 6, "max_episodes": 6, "quiet": True, "training": PPO_SETTINGS}
NORMALIZER = Normalizer(np.full(4, 0.1), np.full(4, 2.0))
STEPS, ENVS = 16, 2


@pytest.fixture(scope="module")
def run(agents: dict[str, Agent], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A whole kickstart of continuous actions."""
    folder = tmp_path_factory.mktemp("kickstart") / "run"
    agent = agents["Box"]
    return folder, kickstart({**TINY, "env": agent.env_id, "teacher": str(agent.path), "out": str(folder)})


def test_the_run_folder_is_as_a_distillations(run: tuple[Path, dict[str, Any]]) -> None:
    folder, result = run
    assert json.loads((folder / "result.json").read_text()) == result
    names = {"student.safetensors", "config.yaml", "teacher.json", "report.html"}
    assert names <= {path.name for path in folder.iterdir()}
    assert list(folder.glob("**/events.out.tfevents.*"))
    assert load_policy(folder / "student.safetensors").num_parameters == result["student"]["parameters"] == 58
    assert resolve(KickstartConfig, {}, str(folder / "config.yaml")).total_steps == 1024
    overtook = result["verdict"]["difference_ci"][0] > 0
    assert result["kickstart"] == {
        "method": "kickstart",
        "fade": "linear",
        "weight": 1.0,
        "last_weight": 0.0,
        "overtook": overtook,
    }
    assert result["cost"]["env_steps"] == 1024 + 512 * 4
    assert result["cost"]["gradient_steps"] == 64 * 1 * 4


def test_the_same_seed_gives_the_same_student(
    run: tuple[Path, dict[str, Any]], agents: dict[str, Agent], tmp_path: Path
) -> None:
    again = {**TINY, "env": PROBES["Box"], "teacher": str(agents["Box"].path)}
    kickstart({**again, "out": str(tmp_path / "same")})
    kickstart({**again, "out": str(tmp_path / "other"), "seed": 1})
    first, same, other = (
        (folder / "student.safetensors").read_bytes() for folder in (run[0], tmp_path / "same", tmp_path / "other")
    )
    assert first == same != other


def test_a_student_begun_elsewhere_is_gone_on_from(
    run: tuple[Path, dict[str, Any]], agents: dict[str, Agent], tmp_path: Path
) -> None:
    """Under a rate of next to nothing it stays what it was."""
    settings = {**TINY, "training": {**PPO_SETTINGS, "learning_rate": 1e-12}, "method": "ppd", "fade": "adaptive"}
    begun = run[0] / "student.safetensors"
    kickstart(
        {
            **settings,
            "env": PROBES["Box"],
            "teacher": str(agents["Box"].path),
            "init": str(begun),
            "out": str(tmp_path / "run"),
        }
    )
    states = agents["Box"].observations()
    one, two = load_policy(begun).params(states), load_policy(tmp_path / "run" / "student.safetensors").params(states)
    np.testing.assert_allclose(one, two, atol=1e-6)


def test_the_best_of_all_evaluations_is_kept(
    agents: dict[str, Agent], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent, scores, played = agents["Discrete"], iter([1.0, 3.0, 2.0, 2.5]), list[Policy]()

    def scripted(player: Policy, recipe: Recipe, **_: Any) -> Evaluation:
        played.append(player)
        return Evaluation(np.array([next(scores)]), np.array([7]))

    monkeypatch.setattr(train, "evaluate", scripted)
    settings = {**TINY, "training": {**PPO_SETTINGS, "eval_every": 256, "learning_rate": 1e-2}}
    result = kickstart({**settings, "env": agent.env_id, "teacher": str(agent.path), "out": str(tmp_path / "run")})
    states = agent.observations()
    answers = [player.params(states) for player in [load_policy(tmp_path / "run" / "student.safetensors"), *played]]
    assert [np.array_equal(answers[0], answer) for answer in answers[1:]] == [False, True, False, False]
    assert result["cost"]["validation_steps"] == 4 * 7


def test_guided_by_a_good_teacher_a_student_becomes_like_it(agents: dict[str, Agent], tmp_path: Path) -> None:
    agent = agents["Discrete"]
    shared = {**TINY, "env": agent.env_id, "teacher": str(agent.path), "total_steps": 2048, "fade_fraction": 1.0}
    shared["training"] = {**PPO_SETTINGS, "learning_rate": 2e-2}
    close = [
        kickstart({**shared, "weight": weight, "out": str(tmp_path / str(weight))})["student"]["kl"]
        for weight in (3.0, 0.0)
    ]
    assert close[0] < 0.5 * close[1]


def recurrent(teacher: Teacher) -> None:
    teacher.recurrent = True


def squashed(teacher: Teacher) -> None:
    teacher.head = HEADS["squashed_gaussian"]


def discrete(teacher: Teacher) -> None:
    teacher.head = HEADS["categorical"]


def elsewhere(teacher: Teacher) -> None:
    teacher.observations = {"state": next(iter(teacher.observations.values()))}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (recurrent, "a teacher with a memory cannot guide PPO"),
        (squashed, "acts by squashed_gaussian .2,., PPO's student by diag_gaussian .2,."),
        (discrete, "acts by categorical .4,., PPO's student by diag_gaussian"),
        (elsewhere, "sees .*state.*, the student sees Box"),
    ],
)
def test_a_teacher_that_cannot_guide_is_refused(
    change: Callable[[Teacher], None], message: str, agents: dict[str, Agent]
) -> None:
    teacher = load_teacher(str(agents["Box"].path))
    check(teacher, agents["Box"].spaces)
    change(teacher)
    with pytest.raises(KDError, match=message):
        check(teacher, agents["Box"].spaces)


@pytest.mark.parametrize(
    "space",
    [
        gym.spaces.Discrete(5),
        gym.spaces.Dict({"a": gym.spaces.Box(0, 1, (2,))}),
        gym.spaces.Box(0, 255, (8, 8, 3), np.uint8),
    ],
)
def test_an_environment_that_is_no_box_of_numbers_is_refused(space: gym.Space[Any], agents: dict[str, Agent]) -> None:
    with pytest.raises(KDError, match="a Box of numbers, not"):
        check(None, (space, agents["Box"].spaces[1]))


@pytest.mark.parametrize(
    ("kind", "head", "message"),
    [
        ("gru", "diag_gaussian", "PPO trains mlp students, not one with gru"),
        ("mlp", "categorical", "acts by categorical"),
        ("mlp", "squashed_gaussian", "acts by squashed_gaussian, PPO's students by diag_gaussian"),
    ],
)
def test_an_unfit_beginning_is_refused_before_anything_is_written(
    kind: str, head: str, message: str, agents: dict[str, Agent], tmp_path: Path
) -> None:
    begun = make_student(HEADS[head], kind, hidden=(5,)).save(tmp_path / "begun.safetensors")
    with pytest.raises(KDError, match=message):
        kickstart(
            {
                **TINY,
                "env": PROBES["Box"],
                "teacher": str(agents["Box"].path),
                "init": str(begun),
                "out": str(tmp_path / "run"),
            }
        )
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("method", "ppo"),
        ("fade", "cosine"),
        ("weight", -1),
        ("critic_warmup", 2),
        ("total_steps", 0),
        ("lambda", 1),
    ],
)
def test_a_wrong_setting_is_named(name: str, value: Any) -> None:
    with pytest.raises(KDError, match=name):
        resolve(KickstartConfig, {"env": "CartPole-v1", name: value})
