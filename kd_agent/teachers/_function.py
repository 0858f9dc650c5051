"""A teacher that calls a Python function or a torch module."""

import copy
import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor, nn

from kd_agent.environments import observation_specs
from kd_agent.errors import KDError
from kd_agent.networks import ActionHead, Observations, Origin, PolicyOutput, State, Teacher, head_for
from kd_agent.policies import OBSERVATION, Array
from kd_agent.teachers._density import to_params
from kd_agent.teachers._identity import fingerprint


class FunctionTeacher(Teacher):
    """Calls a function; a torch module is copied, in eval mode, and never differentiated.

    Args:
        function: What to call.
        name: What to call it in messages.
        env: Observation and action space.
        algo: What the report calls its kind.
    """

    unread = "its policy is a function"

    def __init__(
        self,
        function: Callable[[Any], Any],
        name: str,
        env: tuple[gym.Space[Any], gym.Space[Any]],
        algo: str = "function",
    ) -> None:
        self._is_module = isinstance(function, nn.Module)
        # A copy: eval() would change the caller's module, and the caller may go on training it.
        self._function = copy.deepcopy(function).eval() if isinstance(function, nn.Module) else _greedy(function)
        self.observations = observation_specs(env[0])
        self.head: ActionHead = head_for(env[1])
        self.origin = Origin(name, fingerprint(function, name), algo, _count(function))

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
        answer = _without_state(answer, self.origin.source)
        if isinstance(answer, Tensor):
            answer = answer.detach().cpu().numpy()
        params = to_params(self.head.spec, _as_array(answer, self.origin.source), batch, self.origin.source)
        return PolicyOutput(torch.from_numpy(params))


def _greedy(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """The function; greedy, where it is a `predict` that can be (Stable-Baselines3's signature)."""
    if "deterministic" not in _arguments(function):
        return function
    greedy: Callable[..., Any] = function
    return functools.partial(greedy, deterministic=True)


def _arguments(function: Callable[[Any], Any]) -> Sequence[str]:
    """Names of a function's arguments, where they can be known."""
    try:
        return list(inspect.signature(function).parameters)
    except (TypeError, ValueError):
        return []


def _as_array(answer: Any, name: str) -> Array:
    try:
        return np.asarray(answer)
    except ValueError:  # lists of several lengths
        raise KDError(f"{name}: answered with a {type(answer).__name__} that is no array") from None


def _without_state(answer: Any, name: str) -> Any:
    """The answer of a function, or of a `predict` that answers with a state beside it.

    Raises:
        KDError: There is a state to carry on.
    """
    if not isinstance(answer, tuple) or len(answer) != 2:
        return answer
    actions, state = answer
    # An empty tuple is what some make of no state.
    if state is None or state == ():
        return actions
    raise KDError(f"{name}: carries a state from one answer to the next, which a function cannot do here")


def _count(function: Any) -> int | None:
    """Parameters of a module; None for other functions, which may have any number."""
    if not isinstance(function, nn.Module):
        return None
    return sum(parameter.numel() for parameter in function.parameters())
