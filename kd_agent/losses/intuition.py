"""Intuition: what the teacher prefers and what looks alike to it, most where its decision is clear.

The article that this package realises names "intuition distillation" and leaves it undefined; this is our reading.
"""

from torch import Tensor

from kd_agent.losses._preferences import decision_gap, disorder
from kd_agent.losses._similarity import unlikeness
from kd_agent.networks import LAYER, ActionHead, PolicyOutput, Softening

NEEDS = frozenset({"layer"})


def loss(student: PolicyOutput, teacher: PolicyOutput, head: ActionHead, softening: Softening) -> Tensor:
    """Ranking plus relation `[B]`, weighted by the teacher's decision gap over its mean in the batch.

    Args:
        student: Its `params [B, P]` and layer `[B, F]`.
        teacher: Its `params [B, P]` and layer `[B, F]`, of another width perhaps, and its mask if any.
        head: The action head of both, a discrete one.
        softening: Its temperature alone.

    Raises:
        KDError: The head's actions cannot be listed.
    """
    ranked = disorder(student.params, teacher.params, head, softening.temperature, teacher.mask)
    gap = decision_gap(teacher.params, head, teacher.mask)
    related = unlikeness(student.features[LAYER], teacher.features[LAYER])
    return gap / gap.mean().clamp_min(1e-6) * (ranked + related)
