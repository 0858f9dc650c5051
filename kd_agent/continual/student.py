"""A finished student that goes on acting, and learning without forgetting.

Letters: `T` steps, `S` states, `*O` shape of an observation.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from stable_baselines3.common.vec_env import VecEnv

from kd_agent import plugins
from kd_agent.environments.guarded import EPISODE
from kd_agent.errors import KDError
from kd_agent.evaluation import agree
from kd_agent.losses import Objective, default_loss
from kd_agent.networks import GraphStudent, Teacher
from kd_agent.policies import Array, Policy, PolicyGraph
from kd_agent.rollouts import Reservoir, Rollout, episode_seeds, flat, labelled, play
from kd_agent.runs import RunFolder, checkpoint_file
from kd_agent.runs.seeds import seed_of


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
        self,
        graph: PolicyGraph,
        teacher: Teacher,
        reservoir: Reservoir,
        *,
        steps: int,
        batch_size: int,
        learning_rate: float,
        seed: int,
    ) -> None:
        self.policy = Policy(graph)
        self.teacher = teacher
        self.reservoir = reservoir
        self.lessons = 0
        self._student = GraphStudent(graph)
        self._new: list[Mapping[str, Array]] = []
        self._objective = Objective(default_loss(teacher))
        self._steps = steps
        self._batch_size = batch_size
        self._learning_rate = learning_rate
        self._seed = seed

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
            # The learner draws states alike: repeated, the new ones weigh as much as those from before.
            repeats = max(1, round(len(self.reservoir) / new.driver.size))
            rollouts = [self.reservoir.labelled(self.teacher)] + [new] * repeats
        self.lessons += 1
        plugins.load("learners", "gradient").fit(
            self._student,
            rollouts,
            self._objective,
            steps=self._steps,
            batch_size=self._batch_size,
            learning_rate=self._learning_rate,
            seed=seed_of(self._seed, "fit", self.lessons),
        )
        self.policy = Policy(self._student.graph(self.graph.provenance))

    def remember(self, observations: Sequence[Mapping[str, Array]] = ()) -> None:
        """Put states, and those that were new until now, into the reservoir."""
        for states in [*self._new, *observations]:
            self.reservoir.add(states)
        self._new = []


def play_episodes(env: VecEnv, teacher: Teacher, student: Callable[[], Policy], seed: int) -> Iterator[Episode]:
    """Episodes without end, in one environment that is never made anew.

    Args:
        env: A vector environment of one.
        teacher: Compared with at each state.
        student: Asked at the beginning of each episode for the policy that plays it.
        seed: Of the episodes' seeds.
    """
    policy = student()
    params = np.empty((1, 0), np.float32)

    def _act(observations: Mapping[str, Array], starts: Array, action_masks: Array | None) -> Array:
        nonlocal policy, params
        # A lesson comes between two episodes: one episode is one student's.
        if starts[0]:
            policy = student()
        params = policy.params_batch(observations)
        return policy.graph.head.greedy(params)

    states: list[Mapping[str, Array]] = []
    agreed: list[bool] = []
    for step in play(env, episode_seeds(seed), _act):
        states.append(step.observations)
        label = teacher(step.observations).params.numpy()
        agreed.append(bool(agree(policy.graph.head, label, params)[0]))
        if step.ended[0]:
            score = step.infos[0][EPISODE][1]
            yield Episode(_joined(states), float(np.mean(agreed)), score)
            states, agreed = [], []


def _joined(parts: Sequence[Mapping[str, Array]]) -> dict[str, Array]:
    return {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}


def kept_states(student: Path, graph: PolicyGraph | None = None) -> list[dict[str, Array]]:
    """What a student's run folder keeps of the states that it was fitted to, `[S, *O]` by key; may be none.

    Args:
        student: The student's file.
        graph: The student, whose observations they must be; None: they are anybody's.

    Raises:
        KDError: A file of states is damaged.
    """
    folder = RunFolder(student.parent)
    specs = graph.observations if graph else {}
    kept = []
    for name in sorted(path.stem for path in folder.path.glob("checkpoint/round-*.npz")):
        with folder.reading(checkpoint_file(name)):
            states = flat(Rollout.from_arrays(folder.load_arrays(name) or {}))
            for key, spec in specs.items():
                if states[key].shape[1:] != spec.shape:
                    raise KDError(f"its observation {key!r} has another shape than the student's")
        kept.append(states)
    return kept
