"""Reverse KL, `KL(student || teacher)`: the student keeps to what the teacher would do."""

from torch import Tensor
from torch.distributions import kl_divergence

from kd_agent.actions import ActionHead, Softening
from kd_agent.policy import PolicyOutput


def loss(student: PolicyOutput, teacher: PolicyOutput, head: ActionHead, softening: Softening) -> Tensor:
    """Reverse KL `[B]` of the softened distributions, in nats."""
    q, p, scale = softening.apply(head, student.params, teacher.params)
    return scale * kl_divergence(head.distribution(q), head.distribution(p))
