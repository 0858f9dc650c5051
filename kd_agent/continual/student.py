"""A finished student that goes on acting, and learning without forgetting.

Letters: `T` steps, `S` states, `*O` shape of an observation.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from stable_baselines3.common.vec_env import VecEnv

from kd_agent import plugins
from kd_agent.environments import as_mapping
from kd_agent.environments.vector import start
from kd_agent.evaluation import agree
from kd_agent.losses import Objective, default_loss
from kd_agent.networks import GraphStudent, Teacher
from kd_agent.policies import Array, Policy, PolicyGraph
from kd_agent.rollouts import Reservoir, episode_seeds, labelled


@dataclass(frozen=True)
class Episode:
    """An episode that the student played.

    Attributes:
        observations: Its states, `[T, *O]` by key.
        agreement: Share of them where teacher and student act alike.
        score: Its return.
    """

    observations: Mapping[str, Array]
    agreement: float
    score: float

    @property
    def steps(self) -> int:
        """Its length `T`."""
        return len(next(iter(self.observations.values())))


class ContinualStudent:
    """A student that is taught what it visits, together with a reservoir of what it visited before.

    Args:
        graph: The student to start from.
        teacher: Who labels: new states and old ones alike.
        reservoir: States from before.
        steps: Gradient steps of a lesson.
        batch_size: States of each.
        learning_rate: First rate of a lesson; a cosine takes it down.
        seed: Of the order of the states.

    Attributes:
        policy: The student as it is now.
        lessons: How often it was taught.
    """

    def __init__(
        self, graph: PolicyGraph, teacher: Teacher, reservoir: Reservoir, *,
        steps: int, batch_size: int, learning_rate: float, seed: int,
    ) -> None:  # fmt: skip
        self.policy, self.teacher, self.reservoir, self.lessons = Policy(graph), teacher, reservoir, 0
        self._student, self._new = GraphStudent(graph), list[Mapping[str, Array]]()
        self._objective = Objective(default_loss(teacher))
        self._steps, self._batch_size, self._learning_rate, self._seed = steps, batch_size, learning_rate, seed

    @property
    def graph(self) -> PolicyGraph:
        """The present program."""
        return self.policy.graph

    def learn(self, observations: Sequence[Mapping[str, Array]]) -> None:
        """A lesson: fit to all states that are new, arrays `[S, *O]` by key, and as much to the reservoir."""
        self._new += observations
        new = labelled(_joined(self._new), self.teacher)
        rollouts = [new]
        if len(self.reservoir):
            rollouts = [self.reservoir.labelled(self.teacher)]
            rollouts += [new] * max(1, round(len(self.reservoir) / new.driver.size))
        self.lessons += 1
        plugins.load("learners", "gradient").fit(
            self._student, rollouts, self._objective, steps=self._steps, batch_size=self._batch_size,
            learning_rate=self._learning_rate, seed=self._seed * 1_000 + self.lessons,
        )  # fmt: skip
        self.policy = Policy(self._student.graph(self.graph.provenance))

    def remember(self, observations: Sequence[Mapping[str, Array]] = ()) -> None:
        """Put states, and those that were new until now, into the reservoir."""
        for states in [*self._new, *observations]:
            self.reservoir.add(states)
        self._new = []


def play(env: VecEnv, teacher: Teacher, student: Callable[[], Policy], seed: int) -> Iterator[Episode]:
    """Episodes without end, in one environment that is never made anew.

    Args:
        env: A vector environment of one.
        teacher: Compared with at each state.
        student: Asked at the beginning of each episode for the policy that plays it.
        seed: Of the episodes' seeds.
    """
    observations = start(env, episode_seeds(seed))
    while True:
        policy, seen, agreed, score, done = student(), [], [], 0.0, False
        while not done:
            params = policy.params_batch(observations)
            agreed.append(agree(policy.graph.head, teacher(observations).params.numpy(), params)[0])
            seen.append(observations)
            following, _, dones, infos = env.step(policy.graph.head.greedy(params))
            observations, done = as_mapping(following), bool(dones[0])
        score = infos[0]["episode"][1]
        yield Episode(_joined(seen), float(np.mean(agreed)), score)


def _joined(parts: Sequence[Mapping[str, Array]]) -> dict[str, Array]:
    return {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
