"""Whole episodes: exactly the first ones, every state of them, with what teacher and student say there."""

from typing import Any

import gymnasium as gym
import masked_agents
import numpy as np
import pytest
from gymnasium.spaces import Discrete
from samples import HEADS, PROBES, make_student

from kd_agent import KDError, load_teacher
from kd_agent.environments import recipe_of
from kd_agent.environments.own_wrappers import TypedWrappers
from kd_agent.environments.vector import make_env, spaces_of
from kd_agent.networks import Origin
from kd_agent.networks.distributions import head_for
from kd_agent.policies.policy import Policy
from kd_agent.rollouts.whole_episodes import Answers, play_whole_episodes
from kd_agent.teachers import GraphTeacher

FIRST = 700
"""Seed of the first episode."""


def in_two_actions(seed: int, name: str = "mlp") -> Policy:
    return make_student(head_for(Discrete(2)), name, hidden=(5,), seed=seed).policy()


STUDENT = in_two_actions(112)
"""Its episodes last from some 40 to some 150 steps."""
OTHER = GraphTeacher(in_two_actions(0).graph, Origin("another", "0" * 64, "student", 1))


def played(student: Policy = STUDENT, n_envs: int = 4, **least: int) -> Answers:
    env = make_env("CartPole-v1", n_envs)
    try:
        return play_whole_episodes(env, OTHER, student, first_seed=FIRST, **{"episodes": 1, "states": 1, **least})
    finally:
        env.close()


def plain_episode(student: Policy, seed: int) -> np.ndarray:
    """Observations of one episode in a plain Gymnasium loop, `[L, 4]`."""
    env = gym.make("CartPole-v1")
    observation, _ = env.reset(seed=seed)
    seen, memory, done = [], None, False
    while not done:
        seen.append(observation)
        start = np.array([len(seen) == 1])
        row, memory = student.step_batch({"obs": observation[None]}, memory, start)
        observation, _, terminated, truncated, _ = env.step(int(row.argmax()))
        done = terminated or truncated
    return np.array(seen)


def test_both_are_asked_in_every_state_of_every_episode_as_a_plain_loop_plays_it() -> None:
    found = played(episodes=9)
    assert set(found.episode) == set(range(9))
    lengths = set()
    for number in range(9):
        seen = {"obs": plain_episode(STUDENT, FIRST + number)}
        own = found.episode == number
        np.testing.assert_allclose(found.student[own], STUDENT.params_batch(seen), atol=1e-5)
        np.testing.assert_allclose(found.teacher[own], OTHER(seen).params.numpy(), atol=1e-5)
        lengths.add(len(seen["obs"]))
    assert max(lengths) > 2 * min(lengths)


@pytest.mark.parametrize("n_envs", [1, 4, 16])
def test_as_many_of_the_first_episodes_are_taken_as_have_both_and_no_more_however_many_play(n_envs: int) -> None:
    """Where what has ended first counted as well, short episodes would be over-represented."""
    lengths = [len(plain_episode(STUDENT, FIRST + number)) for number in range(12)]
    by_episodes = played(n_envs=n_envs, episodes=7)
    assert np.bincount(by_episodes.episode).tolist() == lengths[:7]
    by_states = played(n_envs=n_envs, episodes=2, states=sum(lengths[:5]))
    assert np.bincount(by_states.episode).tolist() == lengths[:5]
    one_more = played(n_envs=n_envs, episodes=2, states=sum(lengths[:5]) + 1)
    assert np.bincount(one_more.episode).tolist() == lengths[:6]


def test_a_student_with_a_memory_begins_anew_with_each_episode() -> None:
    student = in_two_actions(189, "gru")
    found = played(student, n_envs=2, episodes=5)
    for number in range(5):
        rows, memory = [], None
        for observation in plain_episode(student, FIRST + number):
            row, memory = student.step_batch({"obs": observation[None]}, memory, np.array([not rows]))
            rows.append(row[0])
        np.testing.assert_allclose(found.student[found.episode == number], rows, atol=1e-5)


class Lives(gym.Wrapper[Any, Any, Any, Any]):
    """Shows every third step as an end, and begins an episode at every second one, which it ends in its reset."""

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        super().__init__(env)
        self._resets = 0
        self._steps = 0
        self._shown: Any = None

    def reset(self, **more: Any) -> Any:
        self._resets += 1
        if self._resets % 2:
            self._shown, _ = self.env.reset(**more)
        return self._shown, {}

    def step(self, action: Any) -> Any:
        self._shown, reward, over, cut, info = self.env.step(action)
        self._steps += 1
        return self._shown, reward, over, cut or self._steps % 3 == 0, info


def test_an_episode_that_a_wrapper_ends_unseen_is_whole_too() -> None:
    env = make_env(TypedWrappers((f"{__name__}:Lives",)).around(recipe_of("CartPole-v1")), 2)
    found = play_whole_episodes(env, OTHER, STUDENT, first_seed=FIRST, episodes=5, states=1)
    env.close()
    assert np.bincount(found.episode).tolist() == [6] * 5


def test_who_plays_with_masks_is_told_them_and_they_are_kept() -> None:
    agent = masked_agents.agent("Discrete")
    teacher = load_teacher(str(agent.path))
    env = make_env(agent.env_id, 3)
    with masked_agents.Tally() as tally:
        found = play_whole_episodes(env, teacher, Policy(teacher.graph), first_seed=0, episodes=3, states=1)
    env.close()
    assert (tally.invalid, len(found.episode)) == (0, 30)
    assert found.mask is not None
    assert found.mask.shape == (30, 4)
    assert (found.teacher[~found.mask] < -1e6).all()
    np.testing.assert_allclose(found.teacher, found.student, atol=1e-5)
    assert played().mask is None


def test_a_teacher_that_answers_nan_is_refused() -> None:
    nan = load_teacher(lambda observation: np.full((len(observation), 4), np.nan), env=spaces_of(PROBES["Discrete"]))
    env = make_env(PROBES["Discrete"], 2)
    student = make_student(HEADS["categorical"]).policy()
    with pytest.raises(KDError, match="NaN"):
        play_whole_episodes(env, nan, student, first_seed=0, episodes=1, states=1)
    env.close()
