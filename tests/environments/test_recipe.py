"""Recipes: which environment an id means, and what a student's file keeps of it."""

import json
import sys
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
from samples import make_graph

from kd_agent import KDError
from kd_agent.environments.recipe import Recipe, recipe_of, recipe_of_student, resolve_id, versions

SHORT = ("gym.wrappers.TimeLimit", {"max_episode_steps": 9})
RECIPE = Recipe("CartPole-v1", {"sutton_barto_reward": True}, (SHORT,), frame_stack=2)


def test_a_recipe_survives_json() -> None:
    assert Recipe.from_json(json.loads(json.dumps(RECIPE.to_json()))) == RECIPE


@pytest.mark.parametrize(
    "damage",
    [
        {"wrappers": None},
        {"wrappers": ["TimeLimit"]},
        {"env_kwargs": 3},
        {"frame_stack": "two"},
        {"frame_stack": float("inf")},
    ],
)
def test_a_damaged_recipe_is_named(damage: dict[str, Any]) -> None:
    with pytest.raises(KDError, match="the environment's description is damaged"):
        Recipe.from_json({**RECIPE.to_json(), **damage})


@pytest.mark.parametrize("name", ["env_id", "env_kwargs", "wrappers", "frame_stack"])
def test_a_recipe_without_one_of_its_parts_is_damaged(name: str) -> None:
    plain = RECIPE.to_json()
    del plain[name]
    with pytest.raises(KDError, match=name):
        Recipe.from_json(plain)


def test_a_student_is_played_in_the_recipe_that_its_file_keeps_or_names() -> None:
    kept = make_graph(provenance={"recipe": RECIPE.to_json()})
    assert recipe_of_student(kept, "s") == RECIPE
    assert recipe_of_student(kept, "s", None, {"sutton_barto_reward": False}).env_kwargs["sutton_barto_reward"] is False
    assert recipe_of_student(kept, "s", "Acrobot-v1") == Recipe("Acrobot-v1")
    assert recipe_of_student(make_graph(provenance={"env": "Acrobot-v1"}), "s") == Recipe("Acrobot-v1")
    with pytest.raises(KDError, match=r"^s: does not say what its environment is; name it \(--env\)$"):
        recipe_of_student(make_graph(provenance={"made by": "hand"}), "s")


def test_arguments_asked_for_win_over_those_of_a_recipe_which_stays_as_it_is() -> None:
    asked = recipe_of(RECIPE, {"sutton_barto_reward": False})
    assert asked.env_kwargs == {"sutton_barto_reward": False}
    assert (asked.wrappers, asked.frame_stack) == (RECIPE.wrappers, RECIPE.frame_stack)
    assert RECIPE.env_kwargs == {"sutton_barto_reward": True}
    assert recipe_of("CartPole-v1", {"render_mode": None}) == Recipe("CartPole-v1", {"render_mode": None})


def test_atari_skips_frames_once_unless_somebody_asks_for_more() -> None:
    pytest.importorskip("ale_py")
    assert recipe_of("ALE/Pong-v5").env_kwargs == {"frameskip": 1}
    assert recipe_of("ALE/Pong-v5", {"frameskip": 2}).env_kwargs == {"frameskip": 2}
    assert recipe_of("PongNoFrameskip-v4").env_kwargs == {}


def test_an_unknown_id_is_answered_with_the_nearest() -> None:
    with pytest.raises(KDError, match="did you mean 'CartPole-v"):
        resolve_id("CartPoel-v1")


def test_an_id_with_a_module_is_registered_by_importing_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, register_env: Any
) -> None:
    register_env("Temporary-v0", "gymnasium.envs.classic_control:CartPoleEnv")
    (tmp_path / "registers_nothing_else.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    assert resolve_id("registers_nothing_else:Temporary-v0") == "Temporary-v0"
    assert "registers_nothing_else" in sys.modules
    with pytest.raises(KDError, match="module 'absent_module' cannot be imported"):
        resolve_id("absent_module:Temporary-v0")


def test_versions_are_the_playable_ones_by_number_and_not_by_letter(register_env: Any) -> None:
    for number in (2, 10, 9):
        register_env(f"Counted-v{number}", "gymnasium.envs.classic_control:CartPoleEnv")
    register_env("CountedOther-v99", "gymnasium.envs.classic_control:CartPoleEnv")
    register_env("Counted-v11", _raise_gone)
    assert versions("Counted-v0") == ["Counted-v10", "Counted-v9", "Counted-v2"]
    with pytest.warns(UserWarning, match="playing on Counted-v10"):
        assert resolve_id("Counted-v11") == "Counted-v10"


def _raise_gone(*args: Any, **kwargs: Any) -> gym.Env[Any, Any]:
    raise ImportError("gone")
