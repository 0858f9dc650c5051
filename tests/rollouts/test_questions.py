"""Questions are counted, answers kept, and the teacher drives no further than the student's first critical error."""

from typing import Any

import numpy as np
import pytest
from fixed_teachers import Fixed
from known_policies import graph_of
from samples import HEADS, PROBES

from kd_agent.environments import recipe_of
from kd_agent.environments.vector import make_env
from kd_agent.networks import ActionHead
from kd_agent.policies import Policy
from kd_agent.rollouts import Questions, RunningEpisodes, episode_seeds, hand_over
from kd_agent.rollouts.questions import CRITICAL, critical
from kd_agent.rollouts.rollout import STUDENT, TEACHER

HEAD = HEADS["categorical"]
N_ENVS = 3
"""Environments that play side by side."""


class Counting(Fixed):
    """Prefers the first action by so many nats to each other one, and counts the states that it is asked about."""

    def __init__(self, nats: float = 5.0) -> None:
        super().__init__("counting", lambda x: np.tile([nats, 0, 0, 0], (len(x), 1)))
        self.asked = 0

    def __call__(self, observations: Any, state: Any = None, episode_start: Any = None) -> Any:
        self.asked += len(observations["obs"])
        return super().__call__(observations, state, episode_start)


def always(action: int) -> Policy:
    """A student that always takes one action."""
    return Policy(graph_of(np.zeros((4, 4)), HEAD.spec, np.eye(4, dtype=np.float32)[action]))


def episodes(n_envs: int = N_ENVS) -> RunningEpisodes:
    env = make_env(recipe_of(PROBES["Discrete"], {}), n_envs)
    return RunningEpisodes(env, [episode_seeds(number) for number in range(n_envs)])


def visited(student: Policy, questions: Questions, **told: Any) -> int:
    """How many states the student drove in."""
    running = episodes()
    states = hand_over(running, student, questions, HEAD, **{"steps": 40, "most": 100, **told})
    running.close()
    return len(states["obs"])


def test_a_teacher_answers_so_many_questions_and_no_more() -> None:
    teacher = Counting()
    questions = Questions(teacher, 5)
    states = np.arange(12, dtype=np.float32).reshape(3, 4)
    rows = questions.ask({"obs": states})
    questions.ask({"obs": states[:2]}, TEACHER)
    assert rows.shape == (3, 4)
    assert (questions.left, teacher.asked) == (0, 5)
    with pytest.raises(AssertionError, match="1 questions, 0 are left"):
        questions.ask({"obs": states[:1]})
    kept = questions.answers()
    np.testing.assert_array_equal(kept.obs["obs"][0], [*states, *states[:2]])
    np.testing.assert_array_equal(kept.params[0, :3], rows)
    assert kept.driver.tolist() == [[STUDENT] * 3 + [TEACHER] * 2]


def test_a_student_that_errs_at_once_drives_all_but_the_first_state_of_each_episode() -> None:
    teacher = Counting()
    questions = Questions(teacher, 100)
    alone = visited(always(1), questions)
    kept = questions.answers()
    begun = teacher.asked
    assert 0 < begun < 100
    assert alone == 40 * N_ENVS - begun
    assert (kept.driver == TEACHER).all()


def test_the_teacher_drives_on_where_the_student_does_not_err() -> None:
    """As it does where the student's action is not so much less likely: half a nat is no critical error."""
    for student, teacher in ((always(0), Counting()), (always(1), Counting(0.5))):
        assert visited(student, Questions(teacher, 200), most=200) == 0
        assert teacher.asked == 40 * N_ENVS


def test_the_teacher_drives_no_more_than_it_may() -> None:
    teacher = Counting()
    questions = Questions(teacher, 50)
    assert visited(always(0), questions, most=7) == 40 * N_ENVS - 7
    assert (teacher.asked, questions.left) == (7, 43)


def test_random_actions_are_mixed_into_the_students_and_follow_from_the_seed() -> None:
    def actions(**told: Any) -> Any:
        running = episodes()
        hand_over(running, always(1), Questions(Counting(), 0), HEAD, most=0, steps=40, **told)
        done = running.arrays()["actions"]
        running.close()
        return done

    assert (actions() == 1).all()
    half = actions(exploration=0.5, seed=1)
    np.testing.assert_array_equal(half, actions(exploration=0.5, seed=1))
    assert not np.array_equal(half, actions(exploration=0.5, seed=2))
    # A random action of four is the student's own in a quarter of the cases.
    assert 0.2 < (half != 1).mean() < 0.6
    assert (actions(deterministic=False) != 1).any()


ROWS: list[tuple[ActionHead, list[float], list[float], bool]] = [
    (HEAD, [2.0, 0, 0, 0], [0.0, 1, 0, 0], True),
    (HEAD, [0.5, 0, 0, 0], [0.0, 1, 0, 0], False),
    (HEAD, [2.0, 0, 0, 0], [9.0, 1, 0, 0], False),
    # Of two parts, one critical: two nats are one on average, and no more.
    (HEADS["bernoulli"], [1.9, 1, 1], [-1.0, 1, 1], False),
    (HEADS["bernoulli"], [3.1, 1, 1], [-1.0, 1, 1], True),
    # 1.5 standard deviations in both parts, and 1.3.
    (HEADS["diag_gaussian"], [0.0, 0, 0, 0], [1.5, 1.5, -3, -3], True),
    (HEADS["diag_gaussian"], [0.0, 0, 0, 0], [1.3, 1.3, -3, -3], False),
]


@pytest.mark.parametrize(("head", "teacher", "student", "expected"), ROWS)
def test_an_error_is_critical_where_the_action_is_e_times_less_likely(
    head: ActionHead, teacher: list[float], student: list[float], expected: bool
) -> None:
    assert CRITICAL == 1.0
    found = critical(head, np.float32([teacher]), np.float32([student]))
    assert found.tolist() == [expected]
