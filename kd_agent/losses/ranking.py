"""Ranking: the order and the gaps of the teacher's preferences over pairs of actions; discrete heads alone."""

from torch import Tensor

from kd_agent.losses._preferences import disorder
from kd_agent.networks import ActionHead, PolicyOutput, Softening


def loss(student: PolicyOutput, teacher: PolicyOutput, head: ActionHead, softening: Softening) -> Tensor:
    """RankNet's divergence plus Huber's loss of the gaps `[B]`, both sides softened whatever the convention.

    Args:
        student: Its `params [B, P]`.
        teacher: Its `params [B, P]`, and its mask if any.
        head: The action head of both, a discrete one.
        softening: Its temperature alone.

    Raises:
        KDError: The head's actions cannot be listed.
    """
    return disorder(student.params, teacher.params, head, softening.temperature, teacher.mask)
