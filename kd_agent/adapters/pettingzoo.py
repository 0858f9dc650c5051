"""PettingZoo: a student as one agent among others, and frozen opponents as an environment to learn against.

    agents = {name: Agent(policy) for name in env.possible_agents}
    for name in env.agent_iter():                                   # AEC: one after the other
        observation, reward, terminated, truncated, info = env.last()
        env.step(None if terminated or truncated else agents[name].act(observation))

    actions = {name: agents[name].act(observations[name]) for name in env.agents}       # parallel: all at once

    game = "classic/tictactoe-v3"
    gym.register("TicTacToe-v0", lambda: FrozenOpponents(pettingzoo.make("aec", game), policy, agent="player_1"))
    kd_agent.distill({"env": "TicTacToe-v0", ...})

A policy is anything with Stable-Baselines3's `predict`. Masks are where PettingZoo's classic games have them: a Dict
observation with the keys `observation` and `action_mask`, of which a policy sees the first.

Letters: `M` flags of an action mask.
"""

import inspect
from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np
from pettingzoo import AECEnv, ParallelEnv
from pettingzoo.utils.conversions import parallel_to_aec

from kd_agent.errors import KDError, unknown

_PARTS = {"observation", "action_mask"}
"""The keys of a classic game's observation."""
_SEEDS = 2**31


class Agent:
    """A policy that plays the part of one agent, with that agent's memory; `reset` it where an episode begins.

    Args:
        policy: A student, or anything with `predict`.
        deterministic: Greedy actions rather than samples; None: as the policy is meant to be played, which is greedily
            where it does not say.
    """

    def __init__(self, policy: Any, deterministic: bool | None = None) -> None:
        if not hasattr(policy, "predict"):
            raise KDError(f"an agent needs a policy with a method predict(), and got {type(policy).__name__}")
        self._policy = policy
        self._deterministic = not getattr(policy, "sampled", False) if deterministic is None else deterministic
        self._takes_masks = "action_masks" in inspect.signature(policy.predict).parameters
        self._memory: Any = None

    def reset(self, seed: int | None = None) -> None:
        """Begin an episode: nothing is remembered.

        Args:
            seed: Of the samples that a student draws from now on; None: they go on.
        """
        self._memory = None
        if seed is not None and hasattr(self._policy, "reseed"):
            self._policy.reseed(seed)

    def act(self, observation: Any, action_mask: Any = None) -> Any:
        """The action for what the agent observes now.

        Args:
            observation: As the environment gives it, its mask too.
            action_mask: Flags `[M]` where they come another way, in `info` say.

        Returns:
            The action, a plain number where it is one.
        """
        seen, mask = _parts(observation)
        if action_mask is None:
            action_mask = mask
        masks = {}
        if action_mask is not None and self._takes_masks:
            masks["action_masks"] = np.asarray(action_mask)
        begins = np.array([self._memory is None])
        action, self._memory = self._policy.predict(seen, self._memory, begins, self._deterministic, **masks)
        return np.asarray(action).item() if np.ndim(action) == 0 else action


class FrozenOpponents(gym.Env[Any, Any]):
    """A PettingZoo environment as one agent meets it, the others played by frozen policies.

    A step is one of the agent's own turns; its reward is all that the agent has earned since. Where observations carry
    masks, `action_masks()` says what is allowed, as sb3_contrib and this package's students ask for it.

    Args:
        env: AEC or parallel.
        opponents: Who plays the others: one policy for all of them, or one for each by the agent's name.
        agent: The agent that is left to the learner.

    Raises:
        KDError: It is no environment of PettingZoo, an agent is unknown, or one has no policy.
    """

    def __init__(self, env: AECEnv | ParallelEnv, opponents: Any, *, agent: str) -> None:
        if isinstance(env, ParallelEnv):
            env = parallel_to_aec(env)
        if not isinstance(env, AECEnv):
            raise KDError(f"env is a {type(env).__name__}; expected an environment of PettingZoo, AEC or parallel")
        self._env = env
        self._agent = agent
        self._opponents = _seated(opponents, agent, env.possible_agents)
        space = env.observation_space(agent)
        self._mask: Any = None
        if isinstance(space, gym.spaces.Dict) and set(space) == _PARTS:
            space = space["observation"]
            # Only here: who has the method is asked for masks.
            self.action_masks = self._action_masks
        self.observation_space = space
        self.action_space = env.action_space(agent)
        self.metadata = dict(env.metadata)
        self.render_mode = getattr(env, "render_mode", None)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin a game, and play it until it is the agent's turn.

        Args:
            seed: Of the game, and of what the opponents draw.
            options: The environment's.
        """
        super().reset(seed=seed)
        self._env.reset(seed=seed, options=options)
        for opponent in self._opponents.values():
            opponent.reset(int(self.np_random.integers(_SEEDS)))
        observation, _, _, _, info = self._turn()
        return observation, info

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Act, and play on until it is the agent's turn again or the game is over."""
        self._env.step(action)
        return self._turn()

    def render(self) -> Any:
        """As the environment's."""
        return self._env.render()

    def close(self) -> None:
        """Close the environment."""
        self._env.close()

    def _turn(self) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Let the others play until it is the agent's turn, which is also where it learns that the game is over."""
        env = self._env
        while env.agents and env.agent_selection != self._agent:
            observation, _, terminated, truncated, info = env.last()
            action = None
            # Who is out of the game takes an empty step.
            if not (terminated or truncated):
                action = self._opponents[env.agent_selection].act(observation, info.get("action_mask"))
            env.step(action)
        if not env.agents:
            raise KDError(f"the game was over before {self._agent!r} was told its result")
        observation, reward, terminated, truncated, info = env.last()
        seen, self._mask = _parts(observation)
        if isinstance(self.observation_space, gym.spaces.Discrete):
            seen = int(seen)  # Gymnasium's plain number, where PettingZoo's games give an array
        return seen, float(reward), bool(terminated), bool(truncated), dict(info)

    def _action_masks(self) -> Any:
        """What is allowed now, flags `[M]`."""
        return np.asarray(self._mask, bool)


def _parts(observation: Any) -> tuple[Any, Any]:
    """What a policy sees, and the mask that came with it; None: there was none."""
    if isinstance(observation, Mapping) and set(observation) == _PARTS:
        return observation["observation"], observation["action_mask"]
    return observation, None


def _seated(opponents: Any, agent: str, names: list[str]) -> dict[str, Agent]:
    """Every other agent's policy, each with a memory of its own."""
    if agent not in names:
        raise unknown("agent", agent, names)
    others = [name for name in names if name != agent]
    if not isinstance(opponents, Mapping):
        opponents = dict.fromkeys(others, opponents)
    for name in opponents:
        if name not in others:
            raise unknown("opponent", name, others)
    for name in others:
        if name not in opponents:
            raise KDError(f"opponents lack a policy for {name!r}")
    return {name: Agent(opponents[name]) for name in others}
