"""A teacher that is a policy object of Stable-Baselines3, asked by its own methods.

For what is not understood as data: policies of one's own, from a zip that is trusted or alive in this process.

Letters: `B` batch, `L` layers of a memory, `H` its units.
"""

import inspect
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor

from kd_agent.environments import as_sb3_acts, observation_specs
from kd_agent.networks import ActionHead, Observations, Origin, PolicyOutput, State, Teacher, head_for
from kd_agent.policies import OBSERVATION, Array, Normalizer
from kd_agent.teachers._density import to_params
from kd_agent.teachers._request import Spaces


class Sb3Teacher(Teacher):
    """Tells logits where the policy has them, and else its greedy actions, with the stated density.

    Args:
        policy: Its policy, which is this teacher's alone: it is put into eval mode.
        origin: Where it comes from.
        env: Observation and action space.
        normalizers: VecNormalize's statistics by key.
    """

    unread = "its policy is of a class of its own, which runs and is not read"

    def __init__(self, policy: Any, origin: Origin, env: Spaces, normalizers: Mapping[str, Normalizer]) -> None:
        policy.set_training_mode(False)
        self._policy = policy
        self._normalizers = normalizers
        self._has_logits = isinstance(policy.action_space, gym.spaces.Discrete)
        self.recurrent = hasattr(policy, "lstm_actor")
        self.origin = origin
        self.observations = observation_specs(env[0])
        head = head_for(as_sb3_acts(env[1]))
        takes_masks = "action_masks" in inspect.signature(policy.predict).parameters
        self._is_maskable = takes_masks and not head.spec.is_gaussian
        self.head = ActionHead(replace(head.spec, expects_masks=True)) if self._is_maskable else head

    @torch.no_grad()
    def __call__(
        self, observations: Observations, state: State = None, episode_start: Array | None = None
    ) -> PolicyOutput:
        """Label a batch `[B, *O]` by key; a memory is `(hidden, cell)`, each `[B, L, H]`."""
        shown: Any = {}
        for key in self.observations:
            array = np.array(observations[key])
            shown[key] = self._normalizers[key](array) if key in self._normalizers else array
        batch = len(next(iter(shown.values())))
        if list(shown) == [OBSERVATION]:
            shown = shown[OBSERVATION]
        memory = None
        if self.recurrent:
            answer, memory = self._recall(shown, state, self._starts(state, episode_start, batch))
        else:
            answer = self._answer(shown)
        params = to_params(self.head.spec, answer, batch, self.origin.source)
        return PolicyOutput(torch.from_numpy(params), state=memory)

    def _answer(self, observations: Any) -> Array:
        """Logits `[B, P]` or actions `[B, *A]` of a policy without memory."""
        if self._has_logits:
            tensors, _ = self._policy.obs_to_tensor(observations)
            if hasattr(self._policy, "q_net"):
                return np.asarray(self._policy.q_net(tensors))
            if hasattr(self._policy, "get_distribution"):
                return np.asarray(self._policy.get_distribution(tensors).distribution.logits)
        if self._is_maskable:
            return self._logits_of_parts(observations)
        actions, _ = self._policy.predict(observations, deterministic=True)
        return np.asarray(actions)

    def _logits_of_parts(self, observations: Any) -> Array:
        """Logits `[B, P]` of a policy with masks and actions of several parts: a mask may forbid its greedy action."""
        tensors, _ = self._policy.obs_to_tensor(observations)
        parts = self._policy.get_distribution(tensors).distributions
        logits: Array = np.concatenate([np.asarray(part.logits) for part in parts], axis=-1)
        if self.head.kind == "bernoulli":
            # There a bit is a choice between 0 and 1 with a logit each.
            return logits[:, 1::2] - logits[:, 0::2]
        return logits

    def _recall(self, observations: Any, state: State, starts: Array) -> tuple[Array, tuple[Tensor, ...]]:
        """The same of a recurrent policy, and its next memory."""
        last = None
        if state is not None:
            # The policy has its layers first, everybody else the batch.
            last = tuple(np.moveaxis(np.asarray(part), 0, 1) for part in state)
        actions, following = self._policy.predict(observations, last, starts, deterministic=True)
        answer = np.asarray(actions)
        if self._has_logits:
            answer = self._logits(observations, last, starts, following)
        memory = tuple(torch.from_numpy(np.ascontiguousarray(np.moveaxis(part, 1, 0))) for part in following)
        return answer, memory

    def _logits(self, observations: Any, last: Any, starts: Array, like: Any) -> Array:
        tensors, _ = self._policy.obs_to_tensor(observations)
        parts = [np.zeros_like(part) for part in like] if last is None else last
        memory = tuple(map(torch.tensor, parts))
        distribution, _ = self._policy.get_distribution(tensors, memory, torch.from_numpy(starts.astype(np.float32)))
        return np.asarray(distribution.distribution.logits)

    def _starts(self, state: State, episode_start: Array | None, batch: int) -> Array:
        """Where the memory begins anew, `[B]`."""
        if episode_start is None:
            episode_start = np.full(batch, state is None)
        return np.broadcast_to(np.asarray(episode_start, bool), (batch,))
