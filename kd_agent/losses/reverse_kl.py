"""Reverse KL, `KL(student || teacher)`: the student keeps to what the teacher would do."""

from torch import Tensor

from kd_agent.networks import ActionHead, PolicyOutput, Softening


def loss(student: PolicyOutput, teacher: PolicyOutput, head: ActionHead, softening: Softening) -> Tensor:
    """Reverse KL `[B]` of the softened distributions, in nats.

    Args:
        student: Its `params [B, P]`.
        teacher: Its `params [B, P]`.
        head: The action head of both.
        softening: Temperature and convention.
    """
    q, p, scale = softening.apply(head, student.params, teacher.params)
    return scale * head.kl(q, p)
