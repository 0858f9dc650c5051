"""What translating a zip comes to."""

from dataclasses import dataclass

from kd_agent.networks import ActionHead
from kd_agent.policies import Op
from kd_agent.teachers._layers import Program


@dataclass(frozen=True)
class Translation:
    """A policy as graph operations.

    Attributes:
        algo: Name of the algorithm.
        head: Its action head.
        actor: The program that writes `params`.
        critic: Operations that go on from the actor's registers and write `value` (may be empty).
    """

    algo: str
    head: ActionHead
    actor: Program
    critic: list[Op]
