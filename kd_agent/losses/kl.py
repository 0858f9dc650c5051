"""Forward KL, `KL(teacher || student)`: the student covers all that the teacher might do."""

from torch import Tensor

from kd_agent.networks import ActionHead, PolicyOutput, Softening


def loss(student: PolicyOutput, teacher: PolicyOutput, head: ActionHead, softening: Softening) -> Tensor:
    """Forward KL `[B]` of the softened distributions, in nats (Hinton et al. 2015, Rusu et al. 2015).

    Args:
        student: Its `params [B, P]`.
        teacher: Its `params [B, P]`.
        head: The action head of both.
        softening: Temperature and convention.
    """
    q, p, scale = softening.apply(head, student.params, teacher.params)
    return scale * head.kl(p, q)
