"""A student that goes on learning: without a reservoir it forgets, and in one environment it plays on."""

from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from drifting import SHIFT, agreement, states
from samples import HEADS, make_student

from kd_agent import load_policy
from kd_agent.continual.student import ContinualStudent, play_episodes
from kd_agent.environments.vector import make_env
from kd_agent.networks.base import Teacher
from kd_agent.policies.graph import PolicyGraph
from kd_agent.policies.policy import Policy
from kd_agent.rollouts.reservoir import Reservoir


def taught(graph: PolicyGraph, teacher: Teacher, reservoir: Reservoir) -> Policy:
    """The student after lessons in the new world."""
    student = ContinualStudent(graph, teacher, reservoir, steps=200, batch_size=256, learning_rate=5e-3, seed=0)
    for seed in range(2):
        student.learn([states(seed, SHIFT)])
    return student.policy


def test_without_a_reservoir_the_old_world_is_forgotten_and_with_it_is_not(run: Path, teacher: Teacher) -> None:
    old = load_policy(run / "student.safetensors")
    before, fallen = agreement(old, teacher, 0.0), agreement(old, teacher, SHIFT)
    full = Reservoir(2000, 0)
    full.add(states(5, 0.0))
    kept, lost = (taught(old.graph, teacher, reservoir) for reservoir in (full, Reservoir(0, 0)))
    assert min(agreement(kept, teacher, SHIFT), agreement(lost, teacher, SHIFT)) > fallen + 0.05
    assert agreement(kept, teacher, 0.0) > before - 0.03
    assert agreement(lost, teacher, 0.0) < before - 0.06


def test_new_states_are_remembered_once_the_lessons_are_over(run: Path, teacher: Teacher) -> None:
    reservoir = Reservoir(100, 0)
    graph = load_policy(run / "student.safetensors").graph
    student = ContinualStudent(graph, teacher, reservoir, steps=1, batch_size=8, learning_rate=1e-3, seed=0)
    student.learn([{"obs": np.ones((3, 4), np.float32)}])
    assert (reservoir.seen, student.lessons) == (0, 1)
    student.remember([{"obs": np.zeros((2, 4), np.float32)}])
    assert (reservoir.seen, len(reservoir)) == (5, 5)
    student.remember()
    assert reservoir.seen == 5


def test_a_student_plays_on_in_one_environment(run: Path, teacher: Teacher, world: str) -> None:
    policy = load_policy(run / "student.safetensors")
    env = make_env(world, 1, {"begin": 75})
    first, second, third = islice(play_episodes(env, teacher, lambda: policy, 3), 3)
    assert [first.steps, second.steps, third.steps] == [50, 50, 50]
    assert first.observations["obs"][:, 0].max() <= 1 < second.observations["obs"][:, 0].max()
    assert third.observations["obs"][:, 0].min() >= 1
    assert first.agreement > third.agreement
    assert 0 <= first.score <= 50


def small(teacher: Teacher, reservoir: Reservoir) -> ContinualStudent:
    graph = make_student(HEADS["categorical"], hidden=(5,)).graph({"env": "x"})
    return ContinualStudent(graph, teacher, reservoir, steps=3, batch_size=8, learning_rate=1e-3, seed=0)


def test_a_lesson_changes_the_policy_and_keeps_where_it_comes_from(teacher: Teacher) -> None:
    student = small(teacher, Reservoir(10, 0))
    before = student.policy
    student.learn([states(0, 0.0)])
    assert student.policy is not before
    assert student.graph.provenance == before.graph.provenance
    batch = states(1, 0.0)
    assert not np.allclose(student.policy.params_batch(batch), before.params_batch(batch))


def test_all_that_is_new_is_taught_again_in_every_lesson(teacher: Teacher, monkeypatch: pytest.MonkeyPatch) -> None:
    """New states weigh as much as those from before, and are new until they are remembered."""
    taught: list[list[int]] = []
    monkeypatch.setattr(
        "kd_agent.learners.gradient.fit",
        lambda student, rollouts, *rest, **more: taught.append([rollout.driver.size for rollout in rollouts]),
    )
    full = Reservoir(100, 0)
    full.add({"obs": np.zeros((40, 4), np.float32)})
    student = small(teacher, full)
    for count in (10, 30):
        student.learn([{"obs": np.ones((count, 4), np.float32)}])
    student.remember()
    student.learn([{"obs": np.ones((80, 4), np.float32)}])
    assert taught == [[40, 10, 10, 10, 10], [40, 40], [80, 80]]
    alone = small(teacher, Reservoir(0, 0))
    alone.learn([{"obs": np.ones((10, 4), np.float32)}])
    assert taught[-1] == [10]


def test_the_student_of_the_moment_plays_an_episode_to_its_end(world: str, teacher: Teacher) -> None:
    """It is asked for once an episode: a lesson in between does not change who plays."""
    asked: list[Policy] = []

    def student() -> Policy:
        asked.append(make_student(HEADS["categorical"], hidden=(5,), seed=len(asked)).policy())
        return asked[-1]

    env = make_env(world, 1)
    played = list(islice(play_episodes(env, teacher, student, 3), 3))
    env.close()
    for episode, policy in zip(played, asked[1:], strict=False):
        told = policy.params_batch(episode.observations).argmax(-1)
        agreed = told == teacher(episode.observations).params.numpy().argmax(-1)
        assert episode.agreement == pytest.approx(agreed.mean())
