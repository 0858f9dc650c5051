"""Where an agent goes and what it does there: the steps on which a written file is held against it.

Letters: `B` steps, `A` numbers of an action, `*A` shape of an action, `*O` of an observation, `N` environments.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np

from kd_agent.deployment.agents import Agent
from kd_agent.environments import Recipe
from kd_agent.environments.vector import has_masks, make_env
from kd_agent.export import Steps
from kd_agent.policies import Array, ObservationSpec, PolicyGraph
from kd_agent.rollouts import Player, Predicts, episode_seeds, play
from kd_agent.runs.seeds import seed_of

STEPS = 1024
"""Steps that a file is asked about, unless its observations are so large that fewer take their time."""
MAX_NUMBERS = 1 << 21
"""Numbers of all observations together: 74 of four stacked frames of Atari."""
_N_ENVS = 4
_EPISODE = 64
"""Steps of an episode where observations are random."""


@dataclass(frozen=True)
class Walk:
    """Steps and what the agent did.

    Attributes:
        steps: What it observed.
        actions: Its greedy actions, flat, `[B, A]`.
        kind: What the observations are: "visited" or "random".
    """

    steps: Steps
    actions: Array
    kind: str


def walk(agent: Agent, steps: int = STEPS, seed: int = 0) -> Walk:
    """What an agent observes and does: in its environment, or where that is not to be had, of random observations.

    Args:
        agent: The agent.
        steps: `B`, at most.
        seed: Of the episodes, or of the observations.
    """
    numbers = sum(int(np.prod(spec.shape)) for spec in agent.graph.observations.values())
    steps = max(_N_ENVS, min(steps, MAX_NUMBERS // numbers))
    if agent.recipe is None:
        asked = _random(agent.graph, steps, np.random.default_rng(seed_of(seed, "parity")))
        return Walk(asked, answers(agent.player, bool(agent.graph.states), asked), "random")
    asked, actions = _visited(agent, agent.recipe, steps, seed)
    return Walk(asked, actions, "visited")


def answers(player: Predicts, recurrent: bool, steps: Steps) -> Array:
    """What a player here does, `[B, A]`: in one batch, or step by step where it has a memory.

    Args:
        player: The player.
        recurrent: Whether it has a memory.
        steps: What it is asked about.
    """
    rows = []
    memory: Any = None
    for part in batches(steps, recurrent):
        masks = {} if part.masks is None else {"action_masks": part.masks}
        actions, memory = player.predict(part.observations, memory, part.starts, deterministic=True, **masks)
        rows.append(actions)
    return flat_actions(np.concatenate(rows))


def batches(steps: Steps, recurrent: bool) -> Iterator[Steps]:
    """All steps at once, or where there is a memory one after the other.

    Args:
        steps: The steps.
        recurrent: Whether there is a memory.
    """
    if not recurrent:
        yield steps
        return
    for index in range(len(steps.starts)):
        here = slice(index, index + 1)
        observations = {key: array[here] for key, array in steps.observations.items()}
        yield Steps(observations, steps.starts[here], None if steps.masks is None else steps.masks[here])


class _Walker(Player):
    """Plays greedily, and knows what was allowed at the last step."""

    def __init__(self, policy: Predicts) -> None:
        super().__init__(policy, deterministic=True)
        self.allowed: Array | None = None

    def act(self, observations: Mapping[str, Array], starts: Array, action_masks: Array | None = None) -> Array:
        """Actions `[N, *A]`.

        Args:
            observations: `[N, *O]` by key.
            starts: Whether each is the first of its episode, `[N]`.
            action_masks: What is allowed, `[N, M]`, for who plays with masks.
        """
        self.allowed = action_masks
        return super().act(observations, starts, action_masks)


def _visited(agent: Agent, recipe: Recipe, steps: int, seed: int) -> tuple[Steps, Array]:
    """What an agent observes and does in its environment."""
    walker = _Walker(agent.player)
    observed: list[Mapping[str, Array]] = []
    starts, masks, actions = [], [], []
    env = make_env(recipe, _N_ENVS)
    try:
        head = agent.graph.head
        masked = head if head.expects_masks and has_masks(env) else None
        for step in islice(play(env, episode_seeds(seed_of(seed, "parity")), walker.act, masked), steps // _N_ENVS):
            observed.append(step.observations)
            starts.append(step.starts)
            actions.append(flat_actions(step.actions))
            masks.append(walker.allowed)
    finally:
        env.close()
    observations = {key: _in_a_row([step[key] for step in observed]) for key in agent.graph.observations}
    allowed = _in_a_row([mask for mask in masks if mask is not None]) if masked else None
    began = _in_a_row(starts)
    return Steps(observations, began, allowed), _in_a_row(actions)


def _in_a_row(steps: list[Array]) -> Array:
    """Arrays `[N, ...]`, one a step, as one `[B, ...]`: all of the first environment's, then the second's."""
    by_environment = np.stack(steps, axis=1)
    return np.asarray(by_environment.reshape(-1, *by_environment.shape[2:]))


def _random(graph: PolicyGraph, steps: int, rng: np.random.Generator) -> Steps:
    """Random observations, in episodes of `_EPISODE` steps."""
    observations = {}
    for key, spec in graph.observations.items():
        observations[key] = _random_array(spec, steps, rng)
    masks = None
    if graph.head.expects_masks:
        masks = rng.random((steps, graph.head.num_masks)) < 0.7
    return Steps(observations, np.arange(steps) % _EPISODE == 0, masks)


def _random_array(spec: ObservationSpec, steps: int, rng: np.random.Generator) -> Array:
    shape = (steps, *spec.shape)
    if spec.categories:
        sizes = np.reshape(spec.categories, spec.shape)
        return np.asarray(rng.integers(0, sizes, shape), spec.dtype)
    if np.dtype(spec.dtype).kind == "f":
        return rng.standard_normal(shape).astype(np.float32)
    # A byte is any, and so of other whole numbers the small ones.
    return np.asarray(rng.integers(0, 2 if spec.dtype in ("bool", "int8") else 256, shape), spec.dtype)


def flat_actions(actions: Array) -> Array:
    """Actions `[B, *A]` as float64 `[B, A]`."""
    array = np.asarray(actions, np.float64)
    return array.reshape(len(array), -1)
