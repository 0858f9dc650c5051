"""Recorded episodes: whole ones by their seeds, with the observation after the last step, and those of rounds."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from samples import PROBES, Agent

from kd_agent import KDError, load_teacher
from kd_agent.environments import Recipe, recipe_of
from kd_agent.environments.vector import make_env
from kd_agent.rollouts import RunningEpisodes, collect_on, episode_seeds, episodes_of, evaluate, record_episodes
from kd_agent.rollouts.rollout import Rollout


class Short(gym.Env[Any, Any]):
    """Shows its seed and the step, and ends after 2 to 6 steps, every other seed by itself."""

    observation_space = gym.spaces.Box(-np.inf, np.inf, (4,), np.float32)
    action_space = gym.spaces.Discrete(4)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        if seed is not None:
            self.seed = seed
        self.step_number = 0
        return self._shown(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.step_number += 1
        over = self.step_number == 2 + self.seed % 5
        by_itself = self.seed % 2 == 0
        return self._shown(), float(action), over and by_itself, over and not by_itself, {}

    def _shown(self) -> Any:
        return np.array([self.seed, self.step_number, 0, 1], np.float32)


@pytest.fixture
def short(register_env: Any) -> Recipe:
    return recipe_of(register_env("ShortRecorded-v0", Short))


def test_each_seed_is_played_once_to_its_end(agents: dict[str, Agent], short: Recipe) -> None:
    teacher = load_teacher(str(agents["Discrete"].path), env=agents["Discrete"].spaces)
    seeds = range(40, 65)
    episodes = record_episodes(teacher, short, seeds=seeds)
    assert [episode.seed for episode in episodes] == list(seeds)
    for episode, seed in zip(episodes, seeds, strict=True):
        steps = 2 + seed % 5
        assert len(episode) == steps
        expected = [[seed, step, 0, 1] for step in range(steps + 1)]
        np.testing.assert_array_equal(episode.observations["obs"], expected)
        rows = teacher({"obs": np.float32(expected[:-1])}).params.numpy()
        np.testing.assert_allclose(episode.params, rows, atol=1e-5)
        np.testing.assert_array_equal(episode.actions, rows.argmax(axis=1))
        np.testing.assert_array_equal(episode.rewards, episode.actions)
        assert (episode.terminated, episode.truncated) == (seed % 2 == 0, seed % 2 == 1)
        assert not episode.drivers.any()


def test_a_recording_earns_what_an_evaluation_earns(agents: dict[str, Agent]) -> None:
    agent = agents["Box"]
    teacher = load_teacher(str(agent.path), env=agent.spaces)
    seeds = range(7, 12)
    episodes = record_episodes(teacher, recipe_of(agent.env_id), seeds=seeds)
    played = evaluate(teacher, agent.env_id, seeds=seeds, deterministic=True)
    np.testing.assert_allclose([episode.rewards.sum() for episode in episodes], played.returns, rtol=1e-6)


def test_sampled_play_is_another_and_the_same_each_time(agents: dict[str, Agent]) -> None:
    agent = agents["Discrete"]
    teacher = load_teacher(str(agent.path), env=agent.spaces)

    def _actions(deterministic: bool) -> list[int]:
        [episode] = record_episodes(teacher, recipe_of(agent.env_id), seeds=[3], deterministic=deterministic)
        return list(episode.actions)

    assert _actions(False) == _actions(False) != _actions(True)


def test_a_teacher_with_masks_is_refused(agents: dict[str, Agent], monkeypatch: pytest.MonkeyPatch) -> None:
    teacher = load_teacher(str(agents["Discrete"].path), env=agents["Discrete"].spaces)
    monkeypatch.setattr(type(teacher), "expects_masks", True)
    with pytest.raises(KDError, match="plays with action masks, for which recorded data have no place"):
        record_episodes(teacher, recipe_of(PROBES["Discrete"]), seeds=[0])


def rounds(agents: dict[str, Agent], recipe: Recipe, steps: list[int]) -> list[Rollout]:
    """Rounds of two environments that are played on, with some random actions."""
    teacher = load_teacher(str(agents["Discrete"].path), env=agents["Discrete"].spaces)
    episodes = RunningEpisodes(make_env(recipe, 2), [episode_seeds(1), episode_seeds(2)])
    found: list[Rollout] = []
    for count in steps:
        found.append(collect_on(episodes, teacher, None, before=found, steps=count, beta=1.0, exploration=0.3))
    episodes.close()
    return found


def test_episodes_go_on_from_round_to_round(agents: dict[str, Agent], short: Recipe) -> None:
    found = rounds(agents, short, [7, 9])
    episodes = episodes_of(found)
    together = np.concatenate([rollout.obs["obs"] for rollout in found])
    for episode in episodes:
        seen = episode.observations["obs"]
        seed, steps = int(seen[0, 0]), len(episode)
        assert len(seen) == steps + 1
        np.testing.assert_array_equal(seen[:steps, 1], np.arange(steps))
        assert (seen[:, 0] == seed).all()
        np.testing.assert_array_equal(episode.rewards, episode.actions)
        if episode.terminated or episode.truncated:
            assert steps == 2 + int(np.float64(seen[0, 0])) % 5 or seed > 1 << 24
            np.testing.assert_array_equal(seen[-1], seen[-2])
    # Of those that are still running the last step is left out: nobody knows what it led to.
    running = [episode for episode in episodes if not (episode.terminated or episode.truncated)]
    assert len(running) <= 2
    assert all(episode.observations["obs"][-1, 1] == len(episode) for episode in running)
    assert together.shape[0] * 2 - sum(map(len, episodes)) in (0, 1, 2)
    drivers = np.concatenate([episode.drivers for episode in episodes])
    assert set(drivers) == {0, 2}


def test_what_was_done_is_what_earned_and_how_it_ended_is_kept(agents: dict[str, Agent], short: Recipe) -> None:
    [rollout] = rounds(agents, short, [30])
    assert rollout.action is not None
    assert rollout.terminated is not None
    np.testing.assert_array_equal(rollout.action, rollout.reward)
    ended = rollout.episode_start[1:]
    assert ended.any()
    assert (rollout.terminated[:-1] <= ended).all()
    assert 0 < rollout.terminated[:-1].sum() < ended.sum()


def test_rounds_that_do_not_tell_what_was_done_are_refused(agents: dict[str, Agent], short: Recipe) -> None:
    [rollout] = rounds(agents, short, [8])
    arrays = rollout.arrays()
    del arrays["action"]
    with pytest.raises(KDError, match="do not tell what was done"):
        episodes_of([Rollout.from_arrays(arrays)])
