"""The same task as state and picture, and as state and positions."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from kd_envs.modalities import CartPolePainter, LanderPainter, with_positions

PIXELS = ("kd_envs/LunarLanderPixels-v3", "kd_envs/CartPolePixels-v1")
BLIND = ("kd_envs/LunarLanderBlind-v3", "kd_envs/CartPoleBlind-v1")
VELOCITIES = {"kd_envs/LunarLanderBlind-v3": [2, 3, 5], "kd_envs/CartPoleBlind-v1": [1, 3]}


def play(env: gym.Env[Any, Any], steps: int, seed: int = 0, action: int | None = None) -> list[Any]:
    rng, found = np.random.default_rng(0), [env.reset(seed=seed)[0]]
    for _ in range(steps):
        found.append(env.step(int(rng.integers(env.action_space.n)) if action is None else action)[0])  # type: ignore[attr-defined]
    return found


def middle(picture: np.ndarray) -> np.ndarray:
    """Column and row of the middle of what is brighter than the sky."""
    rows, columns = np.indices(picture.shape)
    return np.array([(picture * columns).sum(), (picture * rows).sum()]) / picture.sum()


@pytest.mark.parametrize("env_id", PIXELS + BLIND)
def test_the_state_is_that_of_the_plain_environment(env_id: str) -> None:
    base = env_id.removeprefix("kd_envs/").replace("Pixels", "").replace("Blind", "")
    assert gym.spec(env_id).reward_threshold == gym.spec(base).reward_threshold
    theirs, ours = play(gym.make(base), 9), play(gym.make(env_id), 9)
    assert all(np.array_equal(a, b["state"]) for a, b in zip(theirs, ours, strict=True))


@pytest.mark.parametrize("env_id", PIXELS)
def test_a_picture_moves_from_channel_to_channel_as_it_ages(env_id: str) -> None:
    observations = play(gym.make(env_id, ages=(5, 2, 0)), 7)
    cameras = observations[0]["pixels"].shape[-1] // 3
    pictures = [observation["pixels"][..., -cameras:] for observation in observations]
    assert all(not np.array_equal(a, b) for a, b in zip(pictures[1:], pictures[:-1], strict=True))
    for step, observation in enumerate(observations):
        expected = [pictures[max(step - age, 0)] for age in (5, 2, 0)]
        assert np.array_equal(observation["pixels"], np.concatenate(expected, axis=-1))


@pytest.mark.parametrize("env_id", PIXELS)
def test_an_episode_shows_nothing_of_the_one_before(env_id: str) -> None:
    used = gym.make(env_id)
    play(used, 9, seed=1)
    first, second = play(used, 9), play(gym.make(env_id), 9)
    assert all(np.array_equal(a["pixels"], b["pixels"]) for a, b in zip(first, second, strict=True))


def test_the_landers_velocity_can_be_seen() -> None:
    ages = (10, 0)
    env = gym.make(PIXELS[0], width=96, ages=ages)
    observations = play(env, 12, action=0)
    shift = np.diff([middle(observations[-1]["pixels"][:44, :, camera]) for camera in (0, 2)], axis=0)[0]
    lander = env.unwrapped.lander  # type: ignore[attr-defined]
    gravity = 10 * (ages[0] - 1) / 50 / 2
    expected = np.array([lander.linearVelocity.x, -(lander.linearVelocity.y + gravity)]) * ages[0] / 50 * 96 / 20
    assert np.allclose(shift, expected, atol=0.05)
    assert np.abs(expected).max() > 1


def test_the_lander_is_drawn_where_the_game_draws_it() -> None:
    env = gym.make("LunarLander-v3", render_mode="rgb_array")
    for seed in range(3):
        play(env, 40, seed=seed, action=0)
        theirs = np.asarray(env.render(), np.float64) @ (0.299, 0.587, 0.114)
        small = theirs[:396].reshape(66, 6, 100, 6).mean(axis=(1, 3))[:-10]
        ours = LanderPainter(width=100)(env.unwrapped)[10:, :, 0]
        flags = np.abs(ours - small) > 60
        assert flags.mean() < 0.01
        assert np.abs(ours - small)[~flags].mean() < 1.5
        assert np.abs(ours - small)[:20].max() < 60
        assert ours[:40].max() > 100


def test_the_second_camera_follows_the_lander_and_shows_its_angle() -> None:
    env = gym.make("LunarLander-v3").unwrapped
    paint = LanderPainter(width=60)
    env.reset(seed=0)
    env.moon.position = (0, -20)  # type: ignore[attr-defined]
    env.sky_polys = [[(0, -20), (20, -20), (20, 13), (0, 13)]]  # type: ignore[attr-defined]
    pictures = {}
    for x, angle in ((8.0, 0.0), (14.0, 0.3), (9.0, -0.3)):
        for body in env.drawlist:  # type: ignore[attr-defined]
            body.position, body.angle = (x, 9.0), angle
        pictures[angle] = paint(env)[..., 1].astype(float)
        assert np.allclose(middle(pictures[angle]), (29.5, 19.5), atol=2)
    assert np.allclose(pictures[0.3], pictures[-0.3][:, ::-1], atol=2)
    assert np.abs(pictures[0.3] - pictures[0.0]).max() > 100


def test_the_pole_is_drawn_at_its_angle() -> None:
    env = gym.make("CartPole-v1").unwrapped
    env.reset(seed=0)
    env.state = np.array([1.2, 0, 0.2, 0])  # type: ignore[attr-defined]
    picture = CartPolePainter(width=96)(env)[..., 0]
    columns = [middle(picture[row : row + 1])[0] for row in (10, 20)]
    assert columns[0] - columns[1] == pytest.approx(10 * np.tan(0.2), abs=0.1)
    assert middle(picture[26:])[0] == pytest.approx((1.2 + 2.4) * 20 - 0.5, abs=0.1)


def test_the_picture_is_the_same_while_somebody_watches() -> None:
    for env_id in PIXELS:
        alone, watched = gym.make(env_id), gym.make(env_id, render_mode="rgb_array")
        first, second = play(alone, 9), play(watched, 9)
        assert all(np.array_equal(a["pixels"], b["pixels"]) for a, b in zip(first, second, strict=True))
        assert np.asarray(watched.render()).shape == (400, 600, 3)


@pytest.mark.parametrize("env_id", BLIND)
def test_the_blind_see_positions_and_no_velocities(env_id: str) -> None:
    env = gym.make(env_id)
    for observation in play(env, 5):
        expected = np.delete(observation["state"], VELOCITIES[env_id])
        assert np.array_equal(observation["positions"], expected)
    space = env.observation_space["positions"]  # type: ignore[index]
    whole = env.observation_space["state"]  # type: ignore[index]
    assert np.array_equal(space.high, np.delete(whole.high, VELOCITIES[env_id]))


def test_the_blind_see_what_they_did_last() -> None:
    env = gym.make("kd_envs/CartPoleBlind-v1")
    shown = [env.reset(seed=0)[0]]
    for action in (1, 0, 0):
        shown.append(env.step(action)[0])
    assert [observation["last_action"].tolist() for observation in shown] == [[0, 0], [0, 1], [1, 0], [1, 0]]
    assert env.reset(seed=1)[0]["last_action"].tolist() == [0, 0]
    assert all(observation in env.observation_space for observation in shown)


def test_a_last_action_that_is_continuous_is_shown_as_it_is() -> None:
    env = with_positions("Pendulum-v1")
    assert env.reset(seed=0)[0]["last_action"].tolist() == [0]
    observation = env.step(np.array([1.5], np.float32))[0]
    assert observation["last_action"].tolist() == [1.5]
    assert observation in env.observation_space
