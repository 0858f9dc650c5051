"""Whole episodes of a student, and what teacher and student say in each of their states.

Letters: `S` states, `N` environments, `P` head parameters, `M` flags of an action mask, `*A` shape of an action, `*O`
shape of an observation.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, count
from typing import Any

import numpy as np
from stable_baselines3.common.vec_env import VecEnv

from kd_agent.errors import KDError
from kd_agent.networks import State, Teacher
from kd_agent.policies import Array, Policy
from kd_agent.rollouts.steps import play


@dataclass(frozen=True)
class Answers:
    """What two policies say in all states of whole episodes.

    Attributes:
        episode: Number of each state's episode `[S]`, from 0 in the order of the seeds.
        teacher: The teacher's rows `[S, P]`.
        student: The student's, who acted by them.
        steps: Steps that the environments took in all, those of episodes that do not count included.
        mask: What was allowed `[S, M]`, where rows are masked; None elsewhere.
    """

    episode: Array
    teacher: Array
    student: Array
    steps: int
    mask: Array | None = None

    def __post_init__(self) -> None:
        if not np.isfinite(self.teacher).all():
            raise KDError("the teacher answered NaN or infinity")


def play_whole_episodes(
    env: VecEnv,
    teacher: Teacher,
    student: Policy,
    *,
    first_seed: int,
    episodes: int,
    states: int,
    deterministic: bool = True,
) -> Answers:
    """Let a student play and ask its teacher in each state.

    Played are the first of the seeds that make up both so many episodes and so many states. Episodes of later seeds,
    begun while the last of these were playing, do not count, not even those that ended: a short one would do so sooner.

    Args:
        env: Made by `make_env`.
        teacher: Who labels the states.
        student: Who plays.
        first_seed: Of the first episode; the others' count up.
        episodes: How many at least.
        states: How many at least.
        deterministic: Whether it plays greedily, rather than by samples.

    Raises:
        KDError: The environment failed or tells no masks that are needed, or the teacher answered NaN.
    """
    head = teacher.head.spec
    masked = head if teacher.expects_masks or student.expects_masks else None
    both = _Both(env, teacher, student, first_seed, deterministic)
    steps = play(env, count(first_seed), both.act, masked)
    lengths: Counter[int] = Counter()
    wanted = None
    while wanted is None:
        next(steps)
        playing = both.rows[-1]["episode"]
        lengths.update(playing.tolist())
        # Seeds are given out in their order: what comes before all that are being played is over.
        over = [lengths[number] for number in range(playing.min())]
        wanted = _first_with(over, episodes, states)
    return both.answers(wanted)


def _first_with(lengths: Sequence[int], episodes: int, states: int) -> int | None:
    """How many of the first episodes make up so many episodes and states; None where all of them do not."""
    enough = [number for number, total in enumerate(accumulate(lengths), start=1) if total >= states]
    if not enough or len(lengths) < episodes:
        return None
    return max(episodes, enough[0])


class _Both:
    """A student that acts and a teacher that is asked, with the memories of both.

    Attributes:
        rows: What they said in each step, by the names of `Answers`.
    """

    def __init__(self, env: VecEnv, teacher: Teacher, student: Policy, first_seed: int, deterministic: bool) -> None:
        self._env = env
        self._teacher = teacher
        self._student = student
        self._first_seed = first_seed
        self._deterministic = deterministic
        self._rng = np.random.default_rng(first_seed)
        self._teacher_memory: State = None
        self._student_memory: Any = None
        self.rows: list[dict[str, Array]] = []

    def act(self, observations: Mapping[str, Array], starts: Array, action_masks: Array | None = None) -> Array:
        """The student's actions `[N, *A]`.

        Args:
            observations: `[N, *O]` by key.
            starts: Whether each is the first of its episode, `[N]`.
            action_masks: What is allowed, `[N, M]`; None: everything.
        """
        # Asked of the environments, because a wrapper may end an episode within its reset, unseen.
        seeds = np.array(self._env.get_attr("episode_seed"))
        label = self._teacher.label(observations, self._teacher_memory, starts, action_masks)
        self._teacher_memory = label.state
        chosen, self._student_memory = self._student.step_batch(
            observations, self._student_memory, starts, action_masks
        )
        row = {"episode": seeds - self._first_seed, "teacher": label.params.numpy(), "student": chosen}
        if label.mask is not None:
            row["mask"] = label.mask.numpy()
        self.rows.append(row)
        head = self._student.graph.head
        return head.greedy(chosen) if self._deterministic else head.sample(chosen, self._rng)

    def answers(self, episodes: int) -> Answers:
        """What was said in the first episodes."""
        columns = {name: np.concatenate([row[name] for row in self.rows]) for name in self.rows[0]}
        counts = columns["episode"] < episodes
        steps = len(columns["episode"])
        return Answers(**{name: column[counts] for name, column in columns.items()}, steps=steps)
