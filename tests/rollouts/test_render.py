"""Watching a student: a GIF where there is no display, a window where there is one, and a word where it cannot be."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from draws import SAMPLED
from gymnasium.spaces import Discrete
from PIL import Image
from samples import HEADS, PROBES, make_student

from kd_agent import KDError, evaluate
from kd_agent.environments import recipe_of
from kd_agent.networks.distributions import head_for
from kd_agent.rollouts import render
from kd_agent.rollouts.render import MAX_SIDE, has_display, play_episode, watch, write_gif


def test_watching_without_a_display_leaves_a_gif_and_what_cannot_be_drawn_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kd_agent.rollouts.render.has_display", lambda: False)
    two = make_student(head_for(Discrete(2))).save(tmp_path / "s.safetensors", {"env": "CartPole-v1"})
    assert str(tmp_path / "replay.gif") in watch(two, None, {}, tmp_path)
    assert (tmp_path / "replay.gif").read_bytes()[:4] == b"GIF8"
    probe = make_student(HEADS["categorical"]).save(tmp_path / "p.safetensors", {"env": PROBES["Discrete"]})
    assert "cannot be rendered here" in watch(probe, None, {}, tmp_path)


def test_an_episode_has_a_picture_for_each_state_that_was_acted_on() -> None:
    """A student of zeros pushes CartPole to one side: it falls after the same few steps on each seed."""
    policy = make_student(head_for(Discrete(2))).policy()
    frames = play_episode(policy, recipe_of("CartPole-v1"), "rgb_array", seed=3)
    again = play_episode(policy, recipe_of("CartPole-v1"), "rgb_array", seed=3)
    assert 5 < len(frames) < 500
    assert frames[0].shape == (400, 600, 3)
    assert all(np.array_equal(one, other) for one, other in zip(frames, again, strict=True))
    assert not np.array_equal(frames[0], frames[-1])


def test_with_a_display_three_episodes_are_watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    played: list[tuple[str, int, bool]] = []

    def play(policy: Any, recipe: Any, mode: str, seed: int, sampled: bool) -> list[Any]:
        played.append((mode, seed, sampled))
        return []

    monkeypatch.setattr(render, "has_display", lambda: True)
    monkeypatch.setattr(render, "play_episode", play)
    student = make_student(head_for(Discrete(2))).save(tmp_path / "s.safetensors", {"env": "CartPole-v1"})
    assert watch(student, None, {}, tmp_path) == "watched 3 episodes of CartPole-v1"
    assert played == [("human", render.SEED + number, False) for number in range(3)]
    assert not (tmp_path / "replay.gif").exists()


def test_a_display_is_what_the_system_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(render.sys, "platform", "linux")
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    assert not has_display()
    monkeypatch.setenv("WAYLAND_DISPLAY", "wayland-0")
    assert has_display()
    monkeypatch.delenv("WAYLAND_DISPLAY")
    monkeypatch.setattr(render.sys, "platform", "darwin")
    assert has_display()


def test_a_long_episode_is_shown_in_fewer_smaller_pictures_and_as_much_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(render, "MAX_FRAMES", 6)
    rng = np.random.default_rng(0)
    frames = [rng.integers(0, 256, (500, 1000, 3), np.uint8) for _ in range(7)]
    with Image.open(write_gif(tmp_path / "long.gif", frames)) as found:
        assert found.n_frames == 4
        assert found.size == (MAX_SIDE, MAX_SIDE // 2)
        assert found.info["duration"] == 40


def test_no_frames_are_no_animation(tmp_path: Path) -> None:
    with pytest.raises(KDError, match="there are no frames"):
        write_gif(tmp_path / "empty.gif", [])
    assert list(tmp_path.iterdir()) == []


def test_the_environment_that_is_asked_for_wins_over_the_one_that_the_file_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(render, "has_display", lambda: False)
    student = make_student(HEADS["categorical"]).save(tmp_path / "s.safetensors", {"env": "CartPole-v1"})
    assert watch(student, PROBES["Discrete"], {}, tmp_path).startswith(f"{PROBES['Discrete']} cannot be rendered here")


def test_a_sampled_student_is_shown_as_it_is_played_unless_told_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[bool] = []
    monkeypatch.setattr(render, "has_display", lambda: True)
    monkeypatch.setattr(render, "play_episode", lambda policy, recipe, mode, seed, sampled: shown.append(sampled))
    for provenance in (SAMPLED, {"env": "CartPole-v1"}):
        student = make_student(head_for(Discrete(2))).save(tmp_path / "s.safetensors", provenance)
        for sampled in (None, True, False):
            watch(student, None, {}, tmp_path, sampled=sampled)
    assert shown[::3] == [True, True, False, False, True, False]


def test_an_episode_by_samples_is_another_one_and_the_same_again() -> None:
    policy = make_student(head_for(Discrete(2))).policy()
    recipe = recipe_of("CartPole-v1")
    greedy, sampled, again = (play_episode(policy, recipe, "rgb_array", 3, drawn) for drawn in (False, True, True))
    assert len(sampled) != len(greedy)
    assert len(sampled) == len(again)
    assert all(np.array_equal(one, other) for one, other in zip(sampled, again, strict=True))
    # The one that an evaluation of this seed plays.
    played = evaluate(policy, recipe, seeds=[3], deterministic=False)
    assert played.lengths.tolist() == [len(sampled)]
