"""A saved student in use: NumPy and safetensors only.

    policy = load_policy("student.safetensors")
    action, state = policy.predict(observation)

Letters: `B` batch, `P` head parameters, `*A` shape of an action, `*O` shape of an observation.
"""

import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from importlib import import_module
from typing import Any

import numpy as np

from kd_agent.errors import KDError
from kd_agent.policies.fast_act import compile_act
from kd_agent.policies.graph import OBSERVATION, PARAMS, ObservationSpec, PolicyGraph
from kd_agent.policies.head import Array

Observation = Any
"""An array-like `[*O]` or `[B, *O]`, or a mapping of such for Dict observations."""


class Policy:
    """A PolicyGraph ready to act.

    Attributes:
        graph: The program it runs.
        backend: What runs it, "numpy" or "native".
    """

    backend = "numpy"

    def __init__(self, graph: PolicyGraph, seed: int | None = None) -> None:
        self.graph = graph
        self._seed = seed
        self._run = graph.compile()
        self._fast = compile_act(graph)
        # That way knows greedy actions alone.
        self._fast_act = None if graph.sampled else self._fast
        self._scalar = graph.head.kind == "categorical"

    @cached_property
    def rng(self) -> "np.random.Generator":
        """The generator behind whatever is sampled, made on first use: numpy.random is not small."""
        return np.random.default_rng(self._seed)

    def reseed(self, seed: int) -> None:
        """Begin the samples anew, those of `predict(deterministic=False)` and of a sampled policy's `act`."""
        self._seed = seed
        self.__dict__.pop("rng", None)  # Where `cached_property` keeps it.

    @property
    def env_id(self) -> str:
        """Gymnasium id of the environment that the policy was made for ("" if unknown)."""
        # Less a module: Gymnasium imports what an id names, and nothing that stands in a file is to be imported.
        return str(self.graph.provenance.get("env", "")).rpartition(":")[2]

    @property
    def num_parameters(self) -> int:
        """Number of parameters that act."""
        return self.graph.num_parameters

    @property
    def recurrent(self) -> bool:
        """Whether it has a memory."""
        return bool(self.graph.states)

    @property
    def sampled(self) -> bool:
        """Whether it is meant to be played by samples, as it was judged; else greedily."""
        return self.graph.sampled

    @property
    def expects_masks(self) -> bool:
        """Whether it was taught under action masks, and is to be played with them."""
        return self.graph.head.expects_masks

    def predict(
        self,
        observation: Observation,
        state: tuple[Array, ...] | None = None,
        episode_start: Array | None = None,
        deterministic: bool = False,
        action_masks: Any = None,
    ) -> tuple[Array, tuple[Array, ...] | None]:
        """Actions, with the signature of Stable-Baselines3 and, for masks, of sb3_contrib.

        Args:
            observation: One observation `[*O]` or a batch `[B, *O]`.
            state: Memory of a recurrent policy (None for the others).
            episode_start: `[B]`, where the memory begins anew.
            deterministic: The greedy action instead of a sample.
            action_masks: `[M]` or `[B, M]`, what is allowed (`HeadSpec.num_masks`); None: everything.

        Returns:
            The action `[*A]` or actions `[B, *A]`, in the environment's units, and the next state.

        Raises:
            KDError: The observation, the state or the mask has another shape, or the observation is NaN or infinite.
        """
        head = self.graph.head
        # The type itself: a subclass of ndarray may have a `dot` or a `reshape` of its own.
        if deterministic and self._fast and action_masks is None and type(observation) is np.ndarray:
            action = self._fast(observation)
            if action is not None:
                return (np.dtype(head.dtype).type(action) if self._scalar else action), None
        batch, alone = self._batch(observation)
        params, state = self.step_batch(batch, state, episode_start, action_masks)
        actions = head.greedy(params) if deterministic else head.sample(params, self.rng)
        if alone:
            return actions[0], state
        return actions, state

    def act(self, observation: Observation, action_masks: Any = None) -> Any:
        """The action of one observation `[*O]`, as `choose` has it: an int for Discrete, else an array `[*A]`.

        Args:
            observation: The observation.
            action_masks: `[M]`, what is allowed; None: everything.
        """
        if self.recurrent:
            raise KDError("this policy has a memory, which act() would forget; use predict() and pass its state on")
        if self._fast_act and action_masks is None and type(observation) is np.ndarray:
            action = self._fast_act(observation)
            if action is not None:
                return action
        batch, alone = self._batch(observation)
        if not alone:
            raise KDError("act() takes one observation; use predict() for a batch")
        action = self.choose(self.params_batch(batch, action_masks))[0]
        if self._scalar:
            return int(action)
        return action

    def params(self, observation: Observation, action_masks: Any = None) -> Array:
        """Head parameters `[B, P]` (`B` = 1 for one observation); of a first step, where there is a memory.

        Args:
            observation: One observation `[*O]` or a batch `[B, *O]`.
            action_masks: `[M]` or `[B, M]`, what is allowed; None: everything.
        """
        return self.params_batch(self._batch(observation)[0], action_masks)

    def probabilities(self, observation: Observation, action_masks: Any = None) -> Array:
        """Action probabilities, laid out as `params`; KDError for continuous actions.

        Args:
            observation: One observation `[*O]` or a batch `[B, *O]`.
            action_masks: `[M]` or `[B, M]`, what is allowed; None: everything.
        """
        return self.graph.head.probabilities(self.params(observation, action_masks))

    def to_torch(self) -> Any:
        """The policy as a `torch.nn.Module` with `forward(obs) -> params` and `act(obs)`, to embed or fine-tune."""
        return import_module("kd_agent.policies.torch_policy").TorchPolicy(self.graph)

    def params_batch(self, observations: Mapping[str, Array], action_masks: Any = None) -> Array:
        """`params [B, P]` of arrays `[B, *O]` by key, unchecked: for loops that trust their source.

        Args:
            observations: Arrays by key.
            action_masks: `[B, M]`, what is allowed; None: everything.
        """
        return self.step_batch(observations, action_masks=action_masks)[0]

    def greedy_batch(self, observations: Mapping[str, Array], action_masks: Any = None) -> Array:
        """Greedy actions `[B, *A]` of arrays `[B, *O]` by key, unchecked.

        Args:
            observations: Arrays by key.
            action_masks: `[B, M]`, what is allowed; None: everything.
        """
        return self.graph.head.greedy(self.params_batch(observations, action_masks))

    def choose(self, params: Array) -> Array:
        """Actions `[B, *A]` of rows `[B, P]` as the policy is meant to be played: drawn or greedy."""
        head = self.graph.head
        return head.sample(params, self.rng) if self.sampled else head.greedy(params)

    def step_batch(
        self,
        observations: Mapping[str, Array],
        state: Sequence[Any] | None = None,
        episode_start: Any = None,
        action_masks: Any = None,
    ) -> tuple[Array, tuple[Array, ...] | None]:
        """`params [B, P]` and the next state of arrays `[B, *O]` by key, the observations unchecked.

        Args:
            observations: Arrays by key.
            state: What the last step returned (None: a first step).
            episode_start: `[B]`, where the memory begins anew.
            action_masks: `[B, M]`, what is allowed; None: everything.

        Returns:
            The parameters, and the state to pass on (None without a memory).
        """
        params, following = self._step(observations, state, episode_start)
        if action_masks is not None:
            params = self.graph.head.masked(params, action_masks)
        return params, following

    def _step(
        self, observations: Mapping[str, Array], state: Sequence[Any] | None, episode_start: Any
    ) -> tuple[Array, tuple[Array, ...] | None]:
        """As `step_batch`, before any mask: what a backend does in its own way."""
        if not self.recurrent:
            return self._run(observations)[PARAMS], None
        batch = len(next(iter(observations.values())))
        registers = self._run({**observations, **self.graph.memory(batch, state, episode_start)})
        return registers[PARAMS], self.graph.next_state(registers)

    def _batch(self, observation: Observation) -> tuple[dict[str, Array], bool]:
        """Checked arrays `[B, *O]` by key, and whether it was one observation without a batch."""
        specs = self.graph.observations
        if isinstance(observation, Mapping):
            parts = observation
            for key in specs:
                if key not in parts:
                    raise KDError(f"the observation lacks the key {key!r}")
        elif len(specs) == 1:
            parts = dict.fromkeys(specs, observation)
        else:
            raise KDError(f"the observation must be a mapping with the keys {', '.join(specs)}")
        arrays = {}
        alone = []
        for key, spec in specs.items():
            arrays[key] = check_array(parts[key], spec, key)
            alone.append(arrays[key].ndim == len(spec.shape))
        if all(alone):
            return {key: array[None] for key, array in arrays.items()}, True
        if any(alone) or len(set(map(len, arrays.values()))) > 1:
            raise KDError("the observation's parts have different batch sizes")
        return arrays, False


def check_array(value: Any, spec: ObservationSpec, name: str = OBSERVATION) -> Array:
    """A value as a float32 array of an observation's shape.

    Args:
        value: An array-like `[*O]` or `[B, *O]`.
        spec: What it should be.
        name: Its key, for messages.

    Raises:
        KDError: It is no array of numbers, of another shape, or NaN or infinite.
    """
    try:
        array = np.asarray(value)
        numeric = array.astype(np.float32, copy=False) if array.dtype.kind in "fiub" else None
    except (ValueError, TypeError, OverflowError):
        numeric = None
    if numeric is None:
        raise KDError(f"observation {name!r} is not an array of numbers; expected shape {spec.shape}")
    if (numeric.shape != spec.shape and numeric.shape[1:] != spec.shape) or numeric.ndim > len(spec.shape) + 1:
        raise KDError(f"observation {name!r} has shape {numeric.shape}, expected {spec.shape} or (B, *{spec.shape})")
    flat = numeric.reshape(-1)
    # One product tells nearly always; finite numbers whose squares overflow are looked at once more.
    if not math.isfinite(flat @ flat) and not np.isfinite(numeric).all():
        raise KDError(f"observation {name!r} is NaN or infinite")
    return numeric
