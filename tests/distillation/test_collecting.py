"""Rounds go on where the last one ended, in the process that began them and in another one."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from prepared_runs import begun
from sample_graphs import memory_graph
from samples import HEADS, make_student
from walks import WALK, WRAPPERS, Walk

from kd_agent import KDError
from kd_agent.distillation import dagger
from kd_agent.distillation.collecting import (
    beta_of,
    collect_round,
    keep_round,
    read_round,
    running_episodes,
    steps_of_round,
)
from kd_agent.distillation.dagger import Rounds, collect_rounds
from kd_agent.networks import Origin
from kd_agent.policies import ObservationSpec
from kd_agent.rollouts import Rollout
from kd_agent.runs import Run
from kd_agent.teachers import GraphTeacher

N_ENVS, ROUNDS, STEPS = 3, 4, 7
SEEN = {"time": 5, "stacked": 12, "restless lives, stacked": 12}
"""Numbers of an observation where they are not four."""


def teacher_of(kind: str, numbers: int) -> GraphTeacher:
    """A teacher of the walk, without or with a memory."""
    if kind == "mlp":
        observations = {"obs": ObservationSpec((numbers,), "float32")}
        graph = make_student(HEADS["categorical"], observations=observations, hidden=(6,), seed=3).graph()
    else:
        graph = memory_graph(kind)
    return GraphTeacher(graph, Origin(kind, "0" * 64, "student", 1_000))


CASES = [*((wrapping, "mlp") for wrapping in WRAPPERS), ("plain", "gru"), ("plain", "lstm")]


@pytest.fixture(params=CASES, ids=" under ".join)
def settings(request: pytest.FixtureRequest, register_env: Any) -> dict[str, Any]:
    """A run of several short rounds."""
    register_env(WALK, Walk, max_episode_steps=40)
    wrapping, kind = request.param
    return {
        "teacher": teacher_of(kind, SEEN.get(wrapping, 4)),
        "env": WALK,
        "wrapper": WRAPPERS[wrapping],
        "n_envs": N_ENVS,
        "rounds": ROUNDS,
        "env_steps": ROUNDS * STEPS * N_ENVS,
        "round_steps": 3,
        "student": "gru" if kind != "mlp" else "mlp",
        "exploration": 0.1,
    }


@contextmanager
def rounds_of(run: Run) -> Iterator[Rounds]:
    """All rounds of a run, and one beyond them."""
    rounds = collect_rounds([run])
    try:
        if len(rounds) == ROUNDS:
            rounds.collect(rounds.new_students(0))
            rounds.keep()
        yield rounds
    finally:
        rounds.close()


def contents(rounds: Rounds) -> dict[str, np.ndarray]:
    """What was collected, one round after the other."""
    [data] = rounds.data
    return {name: np.concatenate([r.arrays()[name] for r in data]) for name in data[0].arrays()}


def test_rounds_shorter_than_an_episode_see_whole_ones(tmp_path: Path, settings: dict[str, Any]) -> None:
    with begun(tmp_path / "run", **settings) as run, rounds_of(run) as rounds:
        starts = contents(rounds)["episode_start"]
        assert len(rounds) == ROUNDS + 1
        assert [len(rollout.driver) for rollout in rounds.data[0]] == [STEPS] * ROUNDS + [4]
        assert starts[0].all()
        # Where a round begins, most episodes have begun before.
        assert starts[STEPS::STEPS].mean() < 0.5
        assert starts[1:].any()


@pytest.mark.parametrize("stopped_at", [1, 3, ROUNDS])
def test_a_stopped_run_goes_on_in_the_same_episodes(
    stopped_at: int, tmp_path: Path, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    with begun(tmp_path / "whole", **settings) as run, rounds_of(run) as rounds:
        expected = contents(rounds)

    def stops(*args: Any) -> Rollout:
        if len(args[-1]) == stopped_at:
            raise KeyboardInterrupt
        return collect_round(*args)

    monkeypatch.setattr(dagger, "collect_round", stops)
    with pytest.raises(KeyboardInterrupt), begun(tmp_path / "run", **settings) as run, rounds_of(run):
        pass
    monkeypatch.undo()
    with begun(tmp_path / "run", **settings, resume=True) as run, rounds_of(run) as rounds:
        found = contents(rounds)
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array, err_msg=name)


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    with begun(tmp_path / "run", env_steps=60, n_envs=2) as found:
        yield found


def test_a_round_is_kept_with_how_its_running_episodes_came_about(run: Run) -> None:
    one, other = running_episodes(run, "episodes"), running_episodes(run, "episodes")
    rollout = collect_round(run, one, None, [])
    keep_round(run, 0, rollout, one)
    again = read_round(run, 0, other)
    assert set(again.arrays()) == set(rollout.arrays())
    for name, array in one.arrays().items():
        np.testing.assert_array_equal(other.arrays()[name], array)
    assert other.arrays()["actions"].shape == (10, 2)
    for episodes in (one, other):
        episodes.close()


def test_a_round_without_running_episodes_is_read_too(run: Run) -> None:
    episodes = running_episodes(run, "episodes")
    rollout = collect_round(run, episodes, None, [])
    run.folder.save_arrays("round-0", rollout.arrays())
    other = running_episodes(run, "episodes")
    np.testing.assert_array_equal(read_round(run, 0, other).params, rollout.params)
    assert not other.arrays()["lengths"].any()


def test_running_episodes_of_another_run_are_refused(run: Run) -> None:
    one = running_episodes(run, "episodes")
    keep_round(run, 0, collect_round(run, one, None, []), one)
    other = running_episodes(run.planned(n_envs=3), "episodes")
    with pytest.raises(KDError, match=r"episodes-0\.npz: damaged \(its running episodes are of other environments\)"):
        read_round(run, 0, other)


def test_a_round_that_is_not_there_is_named(run: Run) -> None:
    with pytest.raises(KDError, match=r"its checkpoint lacks round-7\.npz"):
        read_round(run, 7, running_episodes(run, "episodes"))


def test_purposes_and_environments_have_episodes_of_their_own(run: Run) -> None:
    firsts = []
    for purpose in ("episodes", "lessons"):
        episodes = running_episodes(run, purpose)
        firsts += [*collect_round(run, episodes, None, []).obs["obs"][0, :, 0]]
        episodes.close()
    assert len(set(firsts)) == 4


def test_the_teacher_acts_always_at_first_and_less_in_a_line_until_it_never_does() -> None:
    assert [beta_of(number, 4) for number in range(6)] == [1, 0.75, 0.5, 0.25, 0, 0]
    assert [beta_of(number, 0.0) for number in range(3)] == [1, 0, 0]


@pytest.mark.parametrize(("env_steps", "parts", "n_envs", "steps"), [(100, 5, 4, 5), (101, 5, 4, 6), (1, 8, 16, 1)])
def test_a_budget_is_spent_at_least(env_steps: int, parts: int, n_envs: int, steps: int) -> None:
    assert steps_of_round(env_steps, parts, n_envs) == steps
    assert steps * parts * n_envs >= env_steps
