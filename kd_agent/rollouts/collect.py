"""Rollouts: states visited by teacher, student or the random policy, each labelled by the teacher.

Letters: `T` steps, `N` environments, `P` head parameters, `M` flags of an action mask, `F` features of a layer, `*O`
shape of an observation.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import islice
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector.utils import batch_space
from stable_baselines3.common.vec_env import VecEnv

from kd_agent.environments import as_policies_act
from kd_agent.errors import KDError
from kd_agent.networks import PolicyOutput, State, Teacher
from kd_agent.policies import Array, HeadSpec, Policy
from kd_agent.rollouts.steps import episode_seeds, play, random_allowed
from kd_agent.runs import Advance

TEACHER, STUDENT, RANDOM = 0, 1, 2
"""Who chose an action, in `Rollout.driver`."""


@dataclass(frozen=True)
class Rollout:
    """Arrays of one round.

    Attributes:
        obs: Observations `[T, N, *O]` by key.
        params: The teacher's rows `[T, N, P]`, float32.
        driver: Who chose the action, `[T, N]`.
        reward: `[T, N]`.
        episode_start: `[T, N]`, whether the observation is the first of an episode.
        weight: `[T, N]`, weight of each state in the fit.
        value: The teacher's estimates `[T, N]`, where it has a critic.
        layer: One of the teacher's layers `[T, N, F]`, where that was asked for.
        mask: What was allowed `[T, N, M]`, where teacher or student plays with masks; `params` are masked by it.
    """

    obs: Mapping[str, Array]
    params: Array
    driver: Array
    reward: Array
    episode_start: Array
    weight: Array
    value: Array | None = None
    layer: Array | None = None
    mask: Array | None = None

    def __post_init__(self) -> None:
        shape = self.driver.shape
        for array in self.arrays().values():
            if len(shape) != 2 or array.shape[:2] != shape:
                raise KDError("the arrays of a rollout differ in steps or environments")
        if not np.isfinite(self.params).all():
            raise KDError("the teacher answered NaN or infinity")

    def arrays(self) -> dict[str, Array]:
        """Plain arrays, for a checkpoint."""
        arrays = {}
        for key, array in self.obs.items():
            arrays[f"obs.{key}"] = array
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name != "obs" and value is not None:
                arrays[field.name] = value
        return arrays

    @staticmethod
    def from_arrays(arrays: Mapping[str, Array]) -> "Rollout":
        """Inverse of `arrays`."""
        obs: dict[str, Array] = {}
        rest: dict[str, Array] = {}
        for name, array in arrays.items():
            if name.startswith("obs."):
                obs[name.removeprefix("obs.")] = array
            else:
                rest[name] = array
        return Rollout(obs, **rest)


def collect(
    env: VecEnv,
    teacher: Teacher,
    student: Policy | None,
    *,
    steps: int,
    beta: float,
    exploration: float = 0.0,
    deterministic: bool = True,
    seed: int | Sequence[int] = 0,
    layer: str | None = None,
    advance: Advance = lambda done, **figures: None,
) -> Rollout:
    """Play from fresh episodes and label every state.

    At each step of each environment the teacher acts with probability `beta`, else the
    student does (DAgger, Ross et al. 2011); a share `exploration` of the actions is random. Both carry
    their memory along every step, whoever acts, and begin anew with each episode. Where one of them plays with action
    masks, everybody keeps to what is allowed, random actions too.

    Args:
        env: Made by `make_env`.
        teacher: Labels, and acts where beta says so.
        student: Acts elsewhere; None: the teacher always does.
        steps: Steps `T` of each environment.
        beta: Probability that the teacher acts.
        exploration: Probability of a random action.
        deterministic: Teacher and student act greedily; else by samples.
        seed: Entropy of everything random here, the episodes' seeds included.
        layer: Name of the teacher's layer to keep.
        advance: Called with the number of steps taken, over all environments.

    Raises:
        KDError: The environment failed or tells no masks that are needed, or the teacher answered NaN or has no such
            layer.
    """
    rng = np.random.default_rng(seed)
    seeds = episode_seeds(int(rng.integers(2**63)))
    acted = as_policies_act(env.action_space, teacher.head.spec)
    random_actions = batch_space(acted, env.num_envs)
    random_actions.seed(int(rng.integers(2**31)))
    # What is drawn here is drawn in this order by every run that there has been: a new draw goes to the end.
    players = _Players(
        teacher,
        student,
        random_actions,
        rng,
        beta=beta,
        exploration=exploration,
        deterministic=deterministic,
        layer=layer,
    )
    rows: list[dict[str, Any]] = []
    for step in islice(play(env, seeds, players.act, players.masked), steps):
        rows.append(
            {
                "obs": step.observations,
                "episode_start": step.starts,
                "reward": step.rewards,
                **players.record,
            }
        )
        advance(len(rows) * env.num_envs)
    return _stack(rows)


class _Players:
    """Teacher, student and random policy: who acts is drawn at each step, and the teacher labels every state.

    Attributes:
        record: Labels and drivers of the last step, by the names of `Rollout`.
        masked: The head that masks are of; None where nobody plays with them.
    """

    def __init__(
        self,
        teacher: Teacher,
        student: Policy | None,
        random_actions: gym.Space[Any],
        rng: np.random.Generator,
        *,
        beta: float,
        exploration: float,
        deterministic: bool,
        layer: str | None,
    ) -> None:
        self._teacher = teacher
        self._student = student
        self._random_actions = random_actions
        self._rng = rng
        # Without a student there is nobody else to act.
        self._beta = beta if student else 1.0
        self._exploration = exploration
        self._deterministic = deterministic
        self._layer = layer
        self._teacher_memory: State = None
        self._student_memory: State = None
        self.record: dict[str, Array] = {}
        expected = teacher.expects_masks or (student is not None and student.expects_masks)
        self.masked = teacher.head.spec if expected else None

    def act(self, observations: Mapping[str, Array], starts: Array, action_masks: Array | None = None) -> Array:
        """Actions `[N, *A]` of whoever is drawn.

        Args:
            observations: `[N, *O]` by key.
            starts: Whether each is the first of its episode, `[N]`.
            action_masks: What is allowed, `[N, M]`; None: everything.
        """
        # The teacher is asked at every step, also where it does not act: its answer is the label.
        label = self._teacher.label(observations, self._teacher_memory, starts, action_masks)
        self._teacher_memory = label.state
        params = label.params.numpy()
        driver = self._drawn(len(starts))
        actions = self._chosen(self._teacher.head.spec, params)
        # A student with a memory sees every state, also those where somebody else acts.
        if self._student and (self._student.recurrent or (driver == STUDENT).any()):
            chosen, self._student_memory = self._student.step_batch(
                observations, self._student_memory, starts, action_masks
            )
            _overwrite(actions, driver == STUDENT, self._chosen(self._student.graph.head, chosen))
        if (driver == RANDOM).any():
            _overwrite(actions, driver == RANDOM, self._random(action_masks))
        self.record = {"params": params, "driver": driver, **_more(label, self._layer)}
        return actions

    def _chosen(self, head: HeadSpec, params: Array) -> Array:
        """Actions `[N, *A]` of rows `[N, P]`."""
        return head.greedy(params) if self._deterministic else head.sample(params, self._rng)

    def _random(self, action_masks: Array | None) -> Array:
        """Uniformly random actions `[N, *A]` among those that are allowed."""
        if action_masks is None:
            return np.asarray(self._random_actions.sample())
        return random_allowed(self._teacher.head.spec, action_masks, self._rng)

    def _drawn(self, n: int) -> Array:
        """Who acts in each of `n` environments."""
        driver = np.where(self._rng.random(n) < self._beta, TEACHER, STUDENT)
        return np.where(self._rng.random(n) < self._exploration, RANDOM, driver).astype(np.int8)


def aggregate(rollouts: Sequence[Rollout]) -> dict[str, Array]:
    """The arrays of all rollouts, `Rollout.arrays`, state by state `[S, ...]`: DAgger's data set."""
    parts: dict[str, list[Array]] = {}
    for rollout in rollouts:
        for name, array in rollout.arrays().items():
            parts.setdefault(name, []).append(array.reshape(-1, *array.shape[2:]))
    return {name: np.concatenate(arrays) for name, arrays in parts.items()}


def _more(label: PolicyOutput, layer: str | None) -> dict[str, Array]:
    """What else of the teacher's answer is kept."""
    kept: dict[str, Array] = {}
    if label.value is not None:
        kept["value"] = label.value.numpy()
    if label.mask is not None:
        kept["mask"] = label.mask.numpy()
    if layer is not None:
        kept["layer"] = label.layer(layer, "the teacher").numpy()
    return kept


def _overwrite(actions: Array, where: Array, other: Array) -> None:
    actions[where] = other[where]


def _stack(rows: Sequence[Mapping[str, Any]]) -> Rollout:
    """The steps of all environments as one rollout."""
    first, *_ = rows
    obs: dict[str, Array] = {}
    for key in first["obs"]:
        obs[key] = np.stack([row["obs"][key] for row in rows])
    rest: dict[str, Array] = {}
    for name in first:
        if name != "obs":
            rest[name] = np.stack([row[name] for row in rows])
    weight = np.ones(rest["driver"].shape, np.float32)
    return Rollout(obs, weight=weight, **rest)
