"""Collecting: teacher, student or the random policy play, and the teacher labels every state.

Letters: `T` steps, `N` environments, `M` flags of an action mask, `*A` shape of an action, `*O` of an observation.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector.utils import batch_space
from stable_baselines3.common.vec_env import VecEnv

from kd_agent.environments import as_policies_act
from kd_agent.networks import PolicyOutput, State, Teacher
from kd_agent.policies import Array, HeadSpec, Policy
from kd_agent.rollouts.rollout import RANDOM, STUDENT, TEACHER, Rollout
from kd_agent.rollouts.running import RunningEpisodes
from kd_agent.rollouts.steps import Step, episode_seeds, random_allowed
from kd_agent.runs import Advance


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

    Args:
        env: Made by `make_env`.
        teacher: As `collect_on` has it, and so for all that follow.
        student: Acts where the teacher does not.
        steps: Steps `T` of each environment.
        beta: Probability that the teacher acts.
        exploration: Probability of a random action.
        deterministic: Teacher and student act greedily; else by samples.
        seed: Entropy of everything random here, the episodes' seeds included.
        layer: Name of the teacher's layer to keep.
        advance: Called with the number of steps taken.
    """
    rng = np.random.default_rng(seed)
    seeds = episode_seeds(int(rng.integers(2**63)))
    return collect_on(
        RunningEpisodes(env, [seeds] * env.num_envs),
        teacher,
        student,
        steps=steps,
        beta=beta,
        exploration=exploration,
        deterministic=deterministic,
        seed=rng,
        layer=layer,
        advance=advance,
    )


def collect_on(
    episodes: RunningEpisodes,
    teacher: Teacher,
    student: Policy | None,
    *,
    before: Sequence[Rollout] = (),
    steps: int,
    beta: float,
    exploration: float = 0.0,
    deterministic: bool = True,
    seed: int | np.random.Generator = 0,
    layer: str | None = None,
    advance: Advance = lambda done, **figures: None,
) -> Rollout:
    """Play on from where the episodes are and label every state.

    At each step of each environment the teacher acts with probability `beta`, else the
    student does (DAgger, Ross et al. 2011); a share `exploration` of the actions is random. Both carry
    their memory along every step, whoever acts, and begin anew with each episode. Where one of them plays with action
    masks, everybody keeps to what is allowed, random actions too.

    Args:
        episodes: The environments and what they are playing.
        teacher: Labels, and acts where beta says so.
        student: Acts elsewhere; None: the teacher always does.
        before: What has been collected from them so far, the last of it last; whoever has a memory looks at what the
            running episodes have shown. A student is a new one in each round and remembers nothing of them.
        steps: Steps `T` of each environment.
        beta: Probability that the teacher acts.
        exploration: Probability of a random action.
        deterministic: Teacher and student act greedily; else by samples.
        seed: Entropy of who acts, of random actions and of samples.
        layer: Name of the teacher's layer to keep.
        advance: Called with the number of steps taken, over all environments.

    Raises:
        KDError: The environment failed or tells no masks that are needed, or the teacher answered NaN or has no such
            layer.
    """
    env = episodes.env
    rng = np.random.default_rng(seed)
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
    if before and players.remember:
        for observations, starts in _shown(before):
            players.look(observations, starts)
    rows: list[dict[str, Any]] = []
    for step in islice(episodes.play(players.act, players.masked), steps):
        rows.append(
            {
                "obs": step.observations,
                "episode_start": step.starts,
                "reward": step.rewards,
                "action": step.actions,
                "terminated": _terminated(step),
                **players.record,
            }
        )
        advance(len(rows) * env.num_envs)
    return _stack(rows)


def _terminated(step: Step) -> Array:
    """Where a step ended an episode other than by a limit, `[N]`."""
    cut = np.array([bool(info.get("TimeLimit.truncated", False)) for info in step.infos])
    return np.asarray(step.ended & ~cut)


def _shown(before: Sequence[Rollout]) -> Iterator[tuple[dict[str, Array], Array]]:
    """Observations `[N, *O]` by key and starts `[N]`, step by step since the oldest running episode began.

    Args:
        before: What has been collected so far, in order.
    """
    steps = [(rollout, step) for rollout in before for step in range(len(rollout.driver))]
    starts = np.array([rollout.episode_start[step] for rollout, step in steps])
    number = np.arange(len(steps))[:, None]
    # By environment, the last step at which an episode began.
    began = np.where(starts, number, 0).max(axis=0)
    for rollout, step in steps[began.min() :]:
        yield {key: array[step] for key, array in rollout.obs.items()}, rollout.episode_start[step]


class _Players:
    """Teacher, student and random policy: who acts is drawn at each step, and the teacher labels every state.

    Attributes:
        record: Labels and drivers of the last step, by the names of `Rollout`.
        masked: The head that masks are of; None where nobody plays with them.
        remember: Whether one of them has a memory.
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
        self.remember = teacher.recurrent or (student is not None and student.recurrent)

    def look(self, observations: Mapping[str, Array], starts: Array) -> None:
        """Let those who remember see a step that has been played.

        Args:
            observations: `[N, *O]` by key.
            starts: Whether each is the first of its episode, `[N]`.
        """
        # Without masks: they change what is answered, and nothing of what is remembered.
        self._teacher_memory = self._teacher(observations, self._teacher_memory, starts).state
        if self._student:
            _, self._student_memory = self._student.step_batch(observations, self._student_memory, starts)

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
