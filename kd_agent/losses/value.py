"""Value: the student's critic answers as the teacher's does, so that its layers learn what the teacher expects."""

from torch import Tensor

from kd_agent.errors import KDError
from kd_agent.networks import ActionHead, PolicyOutput, Softening

NEEDS = frozenset({"value"})


def loss(student: PolicyOutput, teacher: PolicyOutput, head: ActionHead, softening: Softening) -> Tensor:
    """Half the squared error `[B]` of the values, which the objective gives in standard deviations of the teacher's.

    Args:
        student: Its `value [B]`.
        teacher: Its `value [B]`.
        head: Not used.
        softening: Not used.

    Raises:
        KDError: One of them has no critic.
    """
    if student.value is None or teacher.value is None:
        raise KDError("the loss 'value' needs a critic in student and teacher")
    return 0.5 * (student.value - teacher.value).square()
