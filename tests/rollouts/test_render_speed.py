"""replay.gif plays at the environment's own speed, also where pictures are dropped."""

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from PIL import Image, ImageSequence
from samples import make_student

from kd_agent.environments import recipe_of
from kd_agent.networks.distributions import head_for
from kd_agent.rollouts import render
from kd_agent.rollouts.render import FPS, frames_per_second, watch, write_gif


def durations(path: Path) -> list[int]:
    """Milliseconds of each picture of an animation."""
    with Image.open(path) as animation:
        return [frame.info["duration"] for frame in ImageSequence.Iterator(animation)]


def noise(count: int) -> list[Any]:
    """Frames of which no two are alike, for GIFs join those that are."""
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (20, 30, 3), np.uint8) for _ in range(count)]


@pytest.mark.parametrize("fps", [4, 15, 30, 50, 60, 125, 1000])
@pytest.mark.parametrize("count", [40, 121])
def test_an_animation_takes_as_long_as_the_episode(
    fps: int, count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(render, "MAX_FRAMES", 50)
    shown = durations(write_gif(tmp_path / "replay.gif", noise(count), fps))
    assert len(shown) <= 50
    assert min(shown) >= 20
    assert sum(shown) == pytest.approx(1000 * count / fps, abs=25)
    assert max(shown[:-1]) - min(shown[:-1]) <= 10  # dropped evenly


def test_without_a_speed_it_is_that_of_most_environments(tmp_path: Path) -> None:
    assert set(durations(write_gif(tmp_path / "replay.gif", noise(5)))) == {1000 / FPS}


@pytest.mark.parametrize(("env", "fps"), [("CartPole-v1", 50), ("Acrobot-v1", 15), ("MountainCar-v0", 30)])
def test_an_environment_says_its_speed(env: str, fps: float) -> None:
    assert frames_per_second(recipe_of(env)) == fps


@pytest.mark.parametrize("told", [None, 0, -30, float("nan"), float("inf"), "fast", [30]])
def test_a_speed_that_is_none_is_not_believed(told: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    made = gym.make("CartPole-v1", render_mode="rgb_array").unwrapped
    monkeypatch.setattr(type(made), "metadata", {**made.metadata, "render_fps": told})
    assert frames_per_second(recipe_of("CartPole-v1")) == FPS


def test_a_watched_student_is_seen_at_the_environments_speed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(render, "has_display", lambda: False)
    monkeypatch.setattr(render, "play_episode", lambda *_: noise(30))
    student = make_student(head_for(gym.spaces.Discrete(3))).save(tmp_path / "s.safetensors", {"env": "Acrobot-v1"})
    assert "the first episode is in" in watch(student, None, {}, tmp_path)
    assert sum(durations(tmp_path / "replay.gif")) == 2000
