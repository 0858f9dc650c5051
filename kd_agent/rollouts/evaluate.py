"""Evaluation: whole episodes by their seeds, the same for everybody who is compared.

Letters: `N` environments, `M` flags of an action mask, `*A` shape of an action, `*O` shape of an observation.
"""

import inspect
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import gymnasium as gym
import numpy as np
from gymnasium.vector.utils import batch_space
from stable_baselines3.common.vec_env import VecEnv

from kd_agent.environments import Recipe, as_policies_act, recipe_of
from kd_agent.environments.guarded import EPISODE, LAST_EPISODE
from kd_agent.environments.own_wrappers import TypedWrappers
from kd_agent.environments.parked import park_those_without_seed
from kd_agent.environments.vector import action_masks, has_masks, make_env
from kd_agent.errors import KDError
from kd_agent.networks import Teacher, head_for
from kd_agent.policies import OBSERVATION, Array, HeadSpec, Policy
from kd_agent.rollouts.steps import play, random_allowed
from kd_agent.runs import Advance
from kd_agent.runs.seeds import seed_of

N_ENVS = 16
"""Environments that play side by side: one batch of 16 costs a policy little more than one of a single state."""
_LISTED = (gym.spaces.Discrete, gym.spaces.MultiDiscrete, gym.spaces.MultiBinary)
"""Spaces whose actions can be listed, and so masked."""


class Predicts(Protocol):
    """Anything with Stable-Baselines3's `predict`: a student, a teacher, an SB3 model.

    One that plays with action masks takes them as sb3_contrib has it: `predict(..., action_masks=...)`, `[N, M]`.
    """

    def predict(
        self, observation: Any, state: Any = None, episode_start: Any = None, deterministic: bool = False
    ) -> tuple[Array, Any]:
        """Actions and the next state.

        Args:
            observation: `[N, *O]`, or a mapping of such.
            state: The memory that the last call gave; None: none yet.
            episode_start: Whether each observation is the first of its episode, `[N]`.
            deterministic: Greedy actions rather than samples.

        Returns:
            Actions `[N, *A]`, and the memory for the next call.
        """


@dataclass(frozen=True)
class Evaluation:
    """Episodes played.

    Attributes:
        returns: Return of each episode, in the order of the seeds.
        lengths: Steps of each.
    """

    returns: Array
    lengths: Array


def evaluate(
    policy: Predicts | None,
    env: str | Recipe,
    *,
    seeds: Iterable[int],
    env_kwargs: Mapping[str, Any] | None = None,
    wrapper: Sequence[str] = (),
    deterministic: bool | None = None,
    head: HeadSpec | None = None,
    advance: Advance = lambda done, **figures: None,
) -> Evaluation:
    """Play one episode a seed.

    Args:
        policy: Who plays; None: uniformly random actions, among those that the environment allows.
        env: Gymnasium id, or a recipe.
        seeds: Seed of each episode.
        env_kwargs: The environment's keyword arguments.
        wrapper: Wrappers around it, `module:Class`, the innermost first.
        deterministic: Greedy actions rather than samples, which are drawn anew from the first seed: the same seeds
            give the same returns; None: as the policy is meant to be played.
        head: Head of the policies that random actions are held against; they start where its do.
        advance: Called with the number of finished episodes.

    Raises:
        KDError: The environment is unknown or failed, or the policy does not fit it: it plays with action masks, say,
            and the environment has none.
    """
    wanted = list(seeds)
    if not wanted or len(set(wanted)) != len(wanted):
        raise KDError("an evaluation needs at least one seed, and each seed once")
    recipe = TypedWrappers(tuple(wrapper)).around(recipe_of(env, env_kwargs))
    venv = make_env(recipe, min(N_ENVS, len(wanted)))
    if deterministic is None:
        deterministic = not getattr(policy, "sampled", False)
    masked = None
    if policy is None:
        policy = _RandomPolicy(venv, wanted[0], head)
    elif _expects_masks(policy):
        masked = head_for(venv.action_space).spec
    if not deterministic:
        _reseed(policy, wanted[0])
    player = Player(policy, deterministic)
    found: dict[int, tuple[float, int]] = {}
    try:
        for step in play(venv, iter(wanted), player.act, masked):
            # Of each seed the whole episode counts: taking the first that end would favour the short ones.
            for seed, score, length in _ended_episodes(step.infos):
                if seed is not None:
                    found[seed] = (score, length)
            # Once all seeds are given out, who has ended has nothing more to do: no step is taken for nothing.
            park_those_without_seed(venv, step.ended)
            advance(len(found))
            if len(found) == len(wanted):
                break
    finally:
        venv.close()
    returns, lengths = zip(*(found[seed] for seed in wanted), strict=True)
    return Evaluation(np.array(returns), np.array(lengths))


def _expects_masks(policy: Predicts) -> bool:
    """Whether a policy is played with action masks: our own say so, of sb3_contrib's the signature tells."""
    known = getattr(policy, "expects_masks", None)
    if known is not None:
        return bool(known)
    return "action_masks" in inspect.signature(policy.predict).parameters


def _reseed(policy: Predicts, seed: int) -> None:
    """Let a policy of this package draw its actions by the evaluation's seed; others draw as they do."""
    if isinstance(policy, Policy | Teacher):
        # By a stream of its own: the environment's first episode is played by that of the seed itself.
        policy.reseed(seed_of(seed, "sample"))


def _ended_episodes(infos: Sequence[Mapping[str, Any]]) -> Iterator[tuple[int | None, float, int]]:
    """Seed, return and length of each episode that has ended, as `GuardedEnv` reports them."""
    for info in infos:
        for key in (EPISODE, LAST_EPISODE):
            if key in info:
                yield info[key]


class Player:
    """A policy that carries its memory from step to step.

    Args:
        policy: The policy.
        deterministic: Whether it acts greedily.
    """

    def __init__(self, policy: Predicts, deterministic: bool) -> None:
        self._policy = policy
        self._deterministic = deterministic
        self._memory: Any = None

    def act(self, observations: Mapping[str, Array], starts: Array, action_masks: Array | None = None) -> Array:
        """Actions `[N, *A]`.

        Args:
            observations: `[N, *O]` by key.
            starts: Whether each is the first of its episode, `[N]`.
            action_masks: What is allowed, `[N, M]`, for who plays with masks.
        """
        observation: Any = observations
        if list(observations) == [OBSERVATION]:
            # As SB3's `predict` takes what is no mapping.
            observation = observations[OBSERVATION]
        # Who plays without masks need not know the word.
        masks: dict[str, Any] = {} if action_masks is None else {"action_masks": action_masks}
        actions, self._memory = self._policy.predict(observation, self._memory, starts, self._deterministic, **masks)
        return actions


class _RandomPolicy:
    """Uniformly random actions, of those that the environment allows where it says so."""

    def __init__(self, env: VecEnv, seed: int, head: HeadSpec | None) -> None:
        self._env = env
        acted = as_policies_act(env.action_space, head) if head else env.action_space
        self._space = batch_space(acted, env.num_envs)
        # Its own seed, so that the same seeds are played the same way whatever was drawn before.
        self._space.seed(seed)
        self._rng = np.random.default_rng(seed)
        self._masked: HeadSpec | None = None
        if has_masks(env) and isinstance(env.action_space, _LISTED):
            self._masked = head or head_for(env.action_space).spec

    def predict(
        self, observation: Any, state: Any = None, episode_start: Any = None, deterministic: bool = False
    ) -> tuple[Array, Any]:
        """Actions `[N, *A]` whatever is observed.

        Args:
            observation: As `Predicts` has it, and so for the others.
            state: Not needed.
            episode_start: Not needed.
            deterministic: Not needed.
        """
        if self._masked:
            try:
                allowed = action_masks(self._env, self._masked)
            except KDError:
                # A method of that name whose answers are not masks of these actions forbids none of them.
                self._masked = None
            else:
                return random_allowed(self._masked, allowed, self._rng), None
        return np.asarray(self._space.sample()), None
