"""Served students in their environments: episodes, and explanations of single states. This is what needs torch."""

from collections.abc import Mapping
from operator import attrgetter
from typing import Any

import numpy as np

from kd_agent.deployment.agents import Agent, Reading, read_agent
from kd_agent.deployment.walk import walk
from kd_agent.errors import KDError
from kd_agent.explanations.features import features_of
from kd_agent.explanations.local import local_effects
from kd_agent.networks import ActionHead
from kd_agent.policies import Array, Policy
from kd_agent.rollouts import evaluate
from kd_agent.serving.students import ServedStudent
from kd_agent.settings import ServeConfig

_WALKED = 1024
"""Steps that a student plays so that an explanation knows its states."""
_REFERENCES = 128
"""States among them whose values are lent, evenly spread."""
_FEATURES = 12
"""Features that an explanation names."""


class World:
    """The environment of one student, as the command line has it or as its file does.

    Args:
        student: The student.
        config: The settings.

    Raises:
        KDError: Its environment is not to be had, or it does not fit the one that is typed.
    """

    def __init__(self, student: ServedStudent, config: ServeConfig) -> None:
        reading = Reading(env=config.env, env_kwargs=config.env_kwargs, wrapper=config.wrapper, task=student.task)
        self._student = student
        self._agent: Agent = read_agent(student.file, reading)
        if self._agent.recipe is None:
            raise KDError(f"{student.name!r} cannot be played here: {self._agent.reason}")
        self._recipe = self._agent.recipe
        self._states: dict[str, Array] | None = None

    def play(self, episodes: int, seed: int) -> dict[str, Any]:
        """Play episodes by their seeds, as `kd-agent evaluate` does.

        Args:
            episodes: How many.
            seed: Of the first; the others count up.
        """
        # A policy of its own: neither the session's memory nor its draws are touched.
        policy = Policy(self._student.policy.graph)
        returns = evaluate(policy, self._recipe, seeds=range(seed, seed + episodes)).returns
        return {
            "environment": self._recipe.env_id,
            "seeds": [seed, seed + episodes - 1],
            "mean": float(returns.mean()),
            "worst": float(returns.min()),
            "returns": returns.tolist(),
        }

    def explain(self, observation: dict[str, Array], action_mask: Array | None) -> dict[str, Any]:
        """Which features the answer to an observation hangs on.

        Args:
            observation: Arrays `[*O]` by key.
            action_mask: Flags `[M]`; None: everything is allowed.
        """
        student = self._student
        graph = student.policy.graph
        one = {key: array[None] for key, array in observation.items()}
        features = features_of(graph.observations, student.env_id)

        def ask(observations: Mapping[str, Array]) -> Array:
            return student.rows(observations, action_mask)

        effects = local_effects(ask, ActionHead(graph.head), features, one, self._references())
        row = ask(one)
        shown = []
        for effect in sorted(effects, key=attrgetter("kl"), reverse=True)[:_FEATURES]:
            shown.append({"name": effect.name, "kl": _short(effect.kl), "changes_the_action": _short(effect.changed)})
        return {
            **student.actions.action(graph.head.greedy(row)[0]),
            "runner_up": student.actions.runner_up(row[0]),
            "features": shown,
        }

    def _references(self) -> dict[str, Array]:
        """States `[R, *O]` by key that the student visits, played once."""
        if self._states is None:
            visited = walk(self._agent, _WALKED).steps
            count = len(visited.starts)
            chosen = np.linspace(0, count - 1, min(_REFERENCES, count)).astype(int)
            self._states = {key: array[chosen] for key, array in visited.observations.items()}
        return self._states


def _short(number: float) -> float:
    return float(f"{number:.3g}")
