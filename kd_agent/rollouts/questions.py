"""Questions to a teacher that are counted: states are asked one by one, or lie on its way while it drives.

Letters: `S` states, `N` environments, `P` head parameters, `*A` shape of an action, `*O` shape of an observation.
"""

from collections.abc import Mapping
from dataclasses import replace
from itertools import islice

import numpy as np
import torch
from torch import Tensor

from kd_agent.networks import ActionHead, Teacher
from kd_agent.policies import Array, Policy
from kd_agent.rollouts.reservoir import labelled
from kd_agent.rollouts.rollout import STUDENT, TEACHER, Rollout, in_one_step
from kd_agent.rollouts.running import RunningEpisodes
from kd_agent.runs import Advance

CRITICAL = 1.0
"""Nats, on average over the parts of an action, by which a teacher must hold the student's action to be less likely
than its own for it to be a critical error: e times less likely."""


class Questions:
    """A teacher that answers so many questions and no more; every answer is kept.

    Args:
        teacher: Who answers; without memory, for the states are in no order.
        most: How many questions.
        layer: Name of the teacher's layer to keep.

    Attributes:
        left: Questions that may still be asked.
    """

    def __init__(self, teacher: Teacher, most: int, layer: str | None = None) -> None:
        self._teacher = teacher
        self._layer = layer
        self._answers: list[Rollout] = []
        self.left = most

    def ask(self, observations: Mapping[str, Array], driver: int = STUDENT) -> Array:
        """Ask about states; each is a question.

        Args:
            observations: The states `[S, *O]` by key.
            driver: Who acts there.

        Returns:
            The teacher's rows `[S, P]`.
        """
        count = len(next(iter(observations.values())))
        assert count <= self.left, f"{count} questions, {self.left} are left"
        self.left -= count
        answer = labelled(observations, self._teacher, self._layer)
        self._answers.append(replace(answer, driver=np.full_like(answer.driver, driver)))
        rows: Array = answer.params[0]
        return rows

    def answers(self) -> Rollout:
        """All states asked about, in the order of the questions, as one step of `S` environments."""
        return in_one_step(self._answers)


def hand_over(
    episodes: RunningEpisodes,
    student: Policy,
    questions: Questions,
    head: ActionHead,
    *,
    most: int,
    steps: int,
    exploration: float = 0.0,
    deterministic: bool = True,
    seed: int = 0,
    advance: Advance = lambda done, **figures: None,
) -> dict[str, Array]:
    """Let a teacher begin episodes and a student go on with them: the states that the student drove in.

    In each episode the teacher drives, by its greedy actions, up to the first critical error of the student's, which is
    still corrected; from there on the student drives. Once the teacher may drive no more the student drives alone.

    Args:
        episodes: The environments and what they are playing.
        student: Who drives after the teacher.
        questions: To the teacher; each step that it drives is one.
        head: The teacher's action head.
        most: Steps that the teacher drives at most.
        steps: Steps of each environment.
        exploration: Probability that the student's action is replaced by a random one.
        deterministic: The student acts greedily; else by samples.
        seed: Entropy of random actions and of samples.
        advance: Called with the number of steps taken, over all environments.

    Returns:
        Observations `[S, *O]` by key.
    """
    rng = np.random.default_rng(seed)
    drivers = _Drivers(
        student,
        questions,
        head,
        taught=np.zeros(episodes.env.num_envs, bool),
        most=most,
        exploration=exploration,
        deterministic=deterministic,
        rng=rng,
    )
    for number, _ in enumerate(islice(episodes.play(drivers.act), steps), start=1):
        advance(number * episodes.env.num_envs)
    return {key: np.concatenate(arrays) for key, arrays in drivers.visited.items()}


class _Drivers:
    """Who drives in each environment: the teacher at the head of an episode, the student after its first error.

    Attributes:
        visited: The states that the student drove in, step by step, by key.
    """

    def __init__(
        self,
        student: Policy,
        questions: Questions,
        head: ActionHead,
        *,
        taught: Array,
        most: int,
        exploration: float,
        deterministic: bool,
        rng: np.random.Generator,
    ) -> None:
        self._student = student
        self._questions = questions
        self._head = head
        self._most = most
        self._exploration = exploration
        self._deterministic = deterministic
        self._rng = rng
        self._taught = taught
        self.visited: dict[str, list[Array]] = {}

    def act(self, observations: Mapping[str, Array], starts: Array, action_masks: Array | None = None) -> Array:
        """Actions `[N, *A]` of whoever drives.

        Args:
            observations: `[N, *O]` by key.
            starts: Whether each is the first of its episode, `[N]`.
            action_masks: Not served; nobody here plays with masks.
        """
        spec = self._head.spec
        rows, _ = self._student.step_batch(observations, None, starts)
        actions = spec.greedy(rows) if self._deterministic else spec.sample(rows, self._rng)
        random = self._rng.random(len(starts)) < self._exploration
        if random.any():
            actions[random] = spec.sample(self._head.uniform(len(starts)).numpy(), self._rng)[random]
        asked = np.flatnonzero(self._taught | starts)[: self._most]
        self._most -= len(asked)
        self._taught = np.isin(np.arange(len(starts)), asked)
        if len(asked):
            said = self._questions.ask({key: array[asked] for key, array in observations.items()}, TEACHER)
            actions[asked] = spec.greedy(said)
            self._taught[asked[critical(self._head, said, rows[asked])]] = False
        alone = np.isin(np.arange(len(starts)), asked, invert=True)
        for key, array in observations.items():
            self.visited.setdefault(key, []).append(array[alone])
        return actions


def critical(head: ActionHead, teacher: Array, student: Array) -> Array:
    """Whether the student's greedy actions are critical errors by the teacher's rows, `[S]`.

    Args:
        head: Their head.
        teacher: The teacher's rows `[S, P]`.
        student: The student's rows `[S, P]`.
    """
    said, meant = torch.from_numpy(teacher), torch.from_numpy(student)
    worse = _nats_of_means(head, said, meant) if head.spec.is_gaussian else _nats_of_choices(head, said, meant)
    flags: Array = (worse.mean(0) > CRITICAL).numpy()
    return flags


def _nats_of_means(head: ActionHead, teacher: Tensor, student: Tensor) -> Tensor:
    """How many nats less likely the student's means are than the teacher's own, by part `[A, S]`."""
    mean, log_std = head.mean_log_std(teacher)
    other, _ = head.mean_log_std(student)
    # Before clip or squash, as losses compare them.
    return (0.5 * ((mean - other) / log_std.exp()) ** 2).T


def _nats_of_choices(head: ActionHead, teacher: Tensor, student: Tensor) -> Tensor:
    """How many nats less likely the student's choices are than the teacher's own, by part `[parts, S]`."""
    parts = []
    for said, meant in zip(head.log_probabilities(teacher), head.log_probabilities(student), strict=True):
        chosen = said.gather(-1, meant.argmax(-1, keepdim=True)).squeeze(-1)
        parts.append(said.amax(-1) - chosen)
    return torch.stack(parts)
