"""Teachers of the Discrete probe that answer by a formula: good, corrupted, and good in some states."""

from hashlib import sha256
from typing import Any

import numpy as np
import torch
from samples import HEADS, make_student

from kd_agent.networks.base import Origin, PolicyOutput, Teacher


class Fixed(Teacher):
    """Answers by a function, under a name."""

    def __init__(self, name: str, answer: Any, kind: str = "categorical") -> None:
        self.head, self.answer = HEADS[kind], answer
        self.origin = Origin(name, sha256(name.encode()).hexdigest(), "hand", 10)
        self.observations = make_student(self.head).observations

    def __call__(self, observations: Any, state: Any = None, episode_start: Any = None) -> PolicyOutput:
        return PolicyOutput(torch.from_numpy(np.asarray(self.answer(observations["obs"]), np.float32)))


def good(name: str = "good", scale: float = 1.0) -> Fixed:
    """Knows the Discrete probe's best action, without much conviction."""
    return Fixed(name, lambda x: scale * x)


def corrupted() -> Fixed:
    """Prefers the worst action, and is very sure of it."""
    return Fixed("corrupted", lambda x: -30 * x)


def specialist(name: str, knows: Any) -> Fixed:
    """Is sure of the best action in some states, and has no preference in the others."""
    return Fixed(name, lambda x: np.where(knows(x[:, :1]), 20 * x, np.arange(4) / 1e3))
