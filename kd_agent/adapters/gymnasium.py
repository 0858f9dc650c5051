"""Frozen students as parts of an environment: skills to choose from, and a reference to stay near.

They need NumPy and Gymnasium only.
"""

from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.utils import RecordConstructorArgs

from kd_agent.errors import KDError
from kd_agent.policies import Array, Policy


class Skills(gym.Wrapper[Any, Any, Any, Any], RecordConstructorArgs):
    """An environment whose actions are students: each plays for some steps as its file says, with a fresh memory.

    A step returns the last observation and the sum of the rewards (Sutton et al. 1999, options of fixed length).

    Args:
        env: The environment that the skills were made for.
        skills: The students to choose from.
        steps: Steps that a chosen one plays, fewer where the episode ends.
    """

    def __init__(self, env: gym.Env[Any, Any], skills: Sequence[Policy], *, steps: int = 8) -> None:
        # Gymnasium writes the arguments into the environment's spec; it asks for them before the wrapper begins.
        RecordConstructorArgs.__init__(self, skills=skills, steps=steps)
        gym.Wrapper.__init__(self, env)
        if not skills or steps < 1:
            raise KDError("a skill library needs at least one skill, which plays at least one step")
        self._skills = tuple(skills)
        self._steps = steps
        self.action_space = gym.spaces.Discrete(len(skills))
        self._observation: Any = None

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """As the environment's.

        Args:
            seed: The environment's.
            options: The environment's.
        """
        self._observation, info = self.env.reset(seed=seed, options=options)
        return self._observation, info

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Let skill number `action` play."""
        total = 0.0
        memory = None
        for _ in range(self._steps):
            skill = self._skills[int(action)]
            masks = masks_for(skill, self.env)
            greedily = not skill.sampled
            chosen, memory = skill.predict(self._observation, memory, deterministic=greedily, action_masks=masks)
            self._observation, reward, terminated, truncated, info = self.env.step(chosen)
            total += float(reward)
            if terminated or truncated:
                break
        return self._observation, total, terminated, truncated, info


class NearReference(gym.Wrapper[Any, Any, Any, Any], RecordConstructorArgs):
    """An environment that pays for actions which a frozen student finds likely.

    The reward grows by `coefficient * log reference(action | observation)`. For a learner whose entropy bonus has
    the same coefficient, that is `-coefficient * KL(learner || reference)`, the penalty that keeps it near.

    Args:
        env: The environment that the reference was made for.
        reference: The student, without a memory.
        coefficient: Reward per nat.
    """

    def __init__(self, env: gym.Env[Any, Any], reference: Policy, *, coefficient: float) -> None:
        RecordConstructorArgs.__init__(self, reference=reference, coefficient=coefficient)
        gym.Wrapper.__init__(self, env)
        if reference.recurrent or reference.graph.head.kind == "squashed_gaussian":
            raise KDError("a reference needs a density of its actions, and no memory")
        self._reference = reference
        self._coefficient = coefficient
        self._observation: Any = None

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """As the environment's.

        Args:
            seed: The environment's.
            options: The environment's.
        """
        self._observation, info = self.env.reset(seed=seed, options=options)
        return self._observation, info

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """As the environment's; `info["reference_log_prob"]` is what was paid for, in nats."""
        # Before the step: the reference is asked about what the learner saw when it chose.
        masks = masks_for(self._reference, self.env)
        likely = log_prob(self._reference, self._observation, action, masks)
        self._observation, reward, terminated, truncated, info = self.env.step(action)
        info = {**info, "reference_log_prob": likely}
        return self._observation, float(reward) + self._coefficient * likely, terminated, truncated, info


def masks_for(policy: Policy, env: gym.Env[Any, Any]) -> Any:
    """What an environment allows now, for a policy that plays with action masks; None for the others.

    Args:
        policy: The policy.
        env: Where it plays; the method `action_masks` is looked for through its wrappers.

    Raises:
        KDError: It has no such method.
    """
    if not policy.expects_masks:
        return None
    try:
        method = env.get_wrapper_attr("action_masks")
    except AttributeError:
        raise KDError("the policy plays with action masks, and the environment has no method action_masks()") from None
    return method()


def log_prob(policy: Policy, observation: Any, action: Any, action_masks: Any = None) -> float:
    """Log-probability (Box: log-density before clipping) of one action, in nats.

    Args:
        policy: A policy without a memory.
        observation: One observation, `[*O]` or a dict of such by key.
        action: The action `[*A]`, in the environment's units.
        action_masks: `[M]`, what is allowed; None: everything.
    """
    head = policy.graph.head
    params = policy.params(observation, action_masks)
    flat = np.asarray(action).reshape(-1)
    if head.is_gaussian:
        mean, log_std = np.split(params[0].astype(np.float64), 2)
        errors = (flat - mean) / np.exp(log_std)
        return float(-(0.5 * errors**2 + log_std + 0.5 * np.log(2 * np.pi)).sum())
    if head.kind == "bernoulli":
        # log sigmoid(x) = -log(1 + exp(-x)), which does not overflow.
        against = np.where(flat > 0, -params[0], params[0])
        return float(-np.logaddexp(0, against).sum())
    total = np.float32(0)
    for logits, index in zip(head.split(params), flat - np.asarray(head.start), strict=True):
        total += _log_softmax(logits[0])[int(index)]
    return float(total)


def _log_softmax(logits: Array) -> Array:
    shifted = logits - logits.max()
    return np.asarray(shifted - np.log(np.exp(shifted).sum()))
