"""Running episodes: they go on from call to call, and other environments are brought to where they were."""

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

import numpy as np
import pytest
from walks import WALK, WRAPPERS, Walk

from kd_agent import KDError
from kd_agent.environments import Recipe
from kd_agent.environments.own_wrappers import TypedWrappers
from kd_agent.environments.vector import make_env
from kd_agent.rollouts import RunningEpisodes, Step, episode_seeds

ENVS = 3


@pytest.fixture(params=WRAPPERS)
def recipe(request: pytest.FixtureRequest, register_env: Any) -> Recipe:
    """The walk, in each of its wrappers."""
    register_env(WALK, Walk, max_episode_steps=40)
    return TypedWrappers(WRAPPERS[request.param]).around(Recipe(WALK))


@pytest.fixture
def walk(register_env: Any) -> Recipe:
    """The walk alone."""
    return Recipe(register_env(WALK, Walk, max_episode_steps=40))


def running(recipe: Recipe) -> RunningEpisodes:
    return RunningEpisodes(make_env(recipe, ENVS), [episode_seeds(seed) for seed in range(ENVS)])


def act(observations: Mapping[str, np.ndarray], starts: np.ndarray, allowed: Any) -> np.ndarray:
    """An action that hangs on every number that is seen."""
    return (np.abs(observations["obs"].sum(axis=-1)) * 1e3).astype(np.int64) % 4


def play(episodes: RunningEpisodes, count: int) -> list[Step]:
    return list(islice(episodes.play(act), count))


def assert_same(found: list[Step], expected: list[Step]) -> None:
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one.observations["obs"], other.observations["obs"])
        np.testing.assert_array_equal(one.starts, other.starts)
        np.testing.assert_array_equal(one.rewards, other.rewards)
        np.testing.assert_array_equal(one.ended, other.ended)


@pytest.mark.parametrize("cut", [1, 4, 37])
def test_episodes_go_on_from_call_to_call(cut: int, walk: Recipe) -> None:
    whole = play(running(walk), 90)
    episodes = running(walk)
    parts = play(episodes, cut) + play(episodes, 90 - cut)
    assert_same(parts, whole)
    assert not whole[cut].starts.all()


@pytest.mark.parametrize("cut", [0, 1, 5, 23, 60])
def test_other_environments_are_brought_to_where_they_were(cut: int, recipe: Recipe) -> None:
    one = running(recipe)
    play(one, cut)
    kept = {name: array.copy() for name, array in one.arrays().items()}
    expected = play(one, 60)
    other = running(recipe)
    other.restore(kept)
    assert_same(play(other, 60), expected)
    assert any(step.ended.any() for step in expected)


def test_what_was_brought_back_is_kept_as_it_would_have_been(recipe: Recipe) -> None:
    one, other = running(recipe), running(recipe)
    play(one, 31)
    other.restore(one.arrays())
    for episodes in (one, other):
        play(episodes, 17)
    for name, array in one.arrays().items():
        np.testing.assert_array_equal(other.arrays()[name], array)


def test_actions_are_kept_no_longer_than_the_running_episodes_last(walk: Recipe) -> None:
    episodes = running(walk)
    lengths = np.zeros(ENVS, int)
    longest = []
    for step in play(episodes, 100):
        lengths = np.where(step.ended, 0, lengths + 1)
        longest.append(lengths.max())
    arrays = episodes.arrays()
    np.testing.assert_array_equal(arrays["lengths"], lengths)
    assert arrays["actions"].shape == (longest[-1], ENVS)
    assert max(longest) <= 40


def test_what_a_wrapper_alone_calls_an_end_is_no_new_episode(register_env: Any) -> None:
    register_env(WALK, Walk, max_episode_steps=40)
    episodes = running(TypedWrappers(WRAPPERS["lives"]).around(Recipe(WALK)))
    [step] = play(episodes, 5)[-1:]
    assert step.ended.all()
    assert (episodes.arrays()["lengths"] == 5).any()


def test_each_environment_has_seeds_of_its_own(walk: Recipe) -> None:
    """However long another one's episodes are."""
    env = make_env(walk, ENVS)
    seeds: list[list[int]] = [[], [], []]

    def noted(index: int) -> Iterator[int]:
        for seed in episode_seeds(index):
            seeds[index].append(seed)
            yield seed

    play(RunningEpisodes(env, [noted(index) for index in range(ENVS)]), 80)
    for index, given in enumerate(seeds):
        assert given == list(islice(episode_seeds(index), len(given)))
        assert len(given) > 1
    assert len({len(given) for given in seeds}) > 1


@pytest.mark.parametrize("wrong", ["actions", "lengths", "drawn_before"])
def test_what_is_of_other_environments_is_refused(wrong: str, walk: Recipe) -> None:
    one = running(walk)
    play(one, 7)
    arrays = one.arrays()
    arrays[wrong] = arrays[wrong][..., :2]
    with pytest.raises(KDError, match="its running episodes are of other environments"):
        running(walk).restore(arrays)


def test_closing_closes_the_environments(walk: Recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[Any] = []

    def close(env: Walk) -> None:
        closed.append(env)

    monkeypatch.setattr(Walk, "close", close)
    running(walk).close()
    assert len(closed) == ENVS
