"""Students that are served: each under a name, with the memory of the session.

Letters: `P` head parameters, `M` flags of an action mask, `*O` shape of an observation.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kd_agent.errors import KDError
from kd_agent.policies import Array, Policy, PolicyGraph
from kd_agent.policies import file as graph_file
from kd_agent.serving.actions import ActionWriter
from kd_agent.serving.observations import ObservationReader

_UNNAMED = "student"
"""What a run calls its student's file; the environment says more."""


class ServedStudent:
    """A policy that is asked in JSON.

    Args:
        name: What tool calls call it.
        file: Where it lies.
        task: Which task's policy it is, where the file holds several.
        graph: The policy.
        env_id: The environment whose numbers and actions may have names; "": its own.
        seed: Seed of what it draws, if it is sampled.

    Attributes:
        policy: The policy.
        observations: Reads what it observes.
        actions: Writes what it does.
    """

    def __init__(
        self, name: str, file: str, graph: PolicyGraph, *, task: str | None = None, env_id: str = "", seed: int = 0
    ) -> None:
        self.name = name
        self.file = file
        self.task = task
        self.policy = Policy(graph, seed)
        self.env_id = env_id or self.policy.env_id
        self.observations = ObservationReader(graph.observations, self.env_id)
        self.actions = ActionWriter(graph.head, self.env_id)
        self._memory: Any = None

    def describe(self) -> dict[str, Any]:
        """What it is, for who chooses among several."""
        policy = self.policy
        return {
            "name": self.name,
            "file": self.file,
            "environment": self.env_id,
            "observation": self.observations.schema(),
            "actions": self.actions.describe(),
            "remembers": policy.recurrent,
            "plays_with_masks": policy.expects_masks,
            "draws_its_actions": policy.sampled,
            "parameters": policy.num_parameters,
        }

    def act(self, observation: Mapping[str, Array], action_mask: Array | None) -> Array:
        """The action; what it remembers moves on.

        Args:
            observation: Arrays `[*O]` by key.
            action_mask: Flags `[M]`; None: everything is allowed.
        """
        if self.policy.recurrent:
            drawn = self.policy.sampled
            action, self._memory = self.policy.predict(
                observation, self._memory, deterministic=not drawn, action_masks=action_mask
            )
            return action
        if len(observation) == 1:
            # The fast path of `Policy.act` takes an array alone.
            (alone,) = observation.values()
            return np.asarray(self.policy.act(alone, action_mask))
        return np.asarray(self.policy.act(observation, action_mask))

    def rows(self, observations: Mapping[str, Array], action_mask: Array | None) -> Array:
        """Rows `[B, P]` for observations `[B, *O]` by key, as of what it remembers now, which stays as it is.

        Args:
            observations: Arrays by key.
            action_mask: Flags `[M]`; None: everything is allowed.
        """
        batch = len(next(iter(observations.values())))
        memory = None
        if self._memory is not None:
            memory = [np.repeat(array, batch, axis=0) for array in self._memory]
        masks = None if action_mask is None else np.repeat(action_mask[None], batch, axis=0)
        return self.policy.step_batch(observations, memory, None, masks)[0]

    def forget(self) -> None:
        """Begin an episode.

        Raises:
            KDError: It has no memory.
        """
        if not self.policy.recurrent:
            raise KDError(f"reset: {self.name!r} has no memory to reset; leave it out")
        self._memory = None


def served_students(files: Sequence[str], env: str | None = None, seed: int = 0) -> dict[str, ServedStudent]:
    """The students of saved files, by name: the file's, or of a run's `student.safetensors` the environment's.

    Args:
        files: Their paths; of a file of several tasks each task is one.
        env: A typed id that all of them are to play in.
        seed: Seed of what the sampled ones draw.

    Raises:
        KDError: A file is missing, damaged, or not a policy.
    """
    env_id = (env or "").rpartition(":")[2]
    students: dict[str, ServedStudent] = {}
    for file in files:
        for task, graph in _graphs(file).items():
            name = _free(task or _name(file, graph), students)
            students[name] = ServedStudent(name, file, graph, task=task or None, env_id=env_id, seed=seed)
    return students


def _graphs(file: str | os.PathLike[str]) -> dict[str, PolicyGraph]:
    """The policies of a file by task; "" where it holds one."""
    try:
        tasks = graph_file.read_tasks(file)
    except KDError:
        # One policy, or nothing that can be read: the reader of one says which.
        return {"": graph_file.read(file)}
    return {name: tasks.task(name) for name in tasks.tasks}


def _name(file: str, graph: PolicyGraph) -> str:
    stem = Path(file).stem
    env_id = Policy(graph).env_id
    return env_id if stem == _UNNAMED and env_id else stem


def _free(name: str, taken: Mapping[str, Any]) -> str:
    """A name that no other has: the second of a kind is number 2."""
    number = 1
    free = name
    while free in taken:
        number += 1
        free = f"{name}-{number}"
    return free
