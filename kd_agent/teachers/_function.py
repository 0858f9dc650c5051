"""A teacher that calls a Python function or a torch module."""

import copy
import hashlib
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor, nn

from kd_agent.environments import observation_specs
from kd_agent.networks import ActionHead, Observations, Origin, PolicyOutput, State, Teacher, head_for
from kd_agent.policies import OBSERVATION, Array
from kd_agent.teachers._density import to_params


class FunctionTeacher(Teacher):
    """Calls a function; a torch module is copied, in eval mode, and never differentiated.

    Args:
        function: What to call.
        name: What to call it in messages.
        env: Observation and action space.
        algo: What the report calls its kind.
    """

    def __init__(
        self,
        function: Callable[[Any], Any],
        name: str,
        env: tuple[gym.Space[Any], gym.Space[Any]],
        algo: str = "function",
    ) -> None:
        self._is_module = isinstance(function, nn.Module)
        # A copy: eval() would change the caller's module, and the caller may go on training it.
        self._function = copy.deepcopy(function).eval() if isinstance(function, nn.Module) else function
        self.observations = observation_specs(env[0])
        self.head: ActionHead = head_for(env[1])
        self.origin = Origin(name, _sha256(function, name), algo, _count(function))

    @torch.no_grad()
    def __call__(
        self, observations: Observations, state: State = None, episode_start: Array | None = None
    ) -> PolicyOutput:
        """Label a batch `[B, *O]` by key."""
        inputs: dict[str, Any] = {}
        for key in self.observations:
            # A copy: the function may write into what it is called with.
            array = np.array(observations[key])
            inputs[key] = torch.from_numpy(array) if self._is_module else array
        batch = len(next(iter(inputs.values())))
        is_dict = list(inputs) != [OBSERVATION]
        answer = self._function(inputs if is_dict else inputs[OBSERVATION])
        if isinstance(answer, Tensor):
            answer = answer.detach().cpu().numpy()
        params = to_params(self.head.spec, np.asarray(answer), batch, self.origin.source)
        return PolicyOutput(torch.from_numpy(params))


def _sha256(function: Any, name: str) -> str:
    """Hash of a module's weights; of the name alone for other functions."""
    digest = hashlib.sha256(name.encode())
    if isinstance(function, nn.Module):
        for key, tensor in sorted(function.state_dict().items()):
            digest.update(key.encode() + np.ascontiguousarray(tensor.detach().cpu().numpy()).tobytes())
    return digest.hexdigest()


def _count(function: Any) -> int | None:
    """Parameters of a module; None for other functions, which may have any number."""
    if not isinstance(function, nn.Module):
        return None
    return sum(parameter.numel() for parameter in function.parameters())
