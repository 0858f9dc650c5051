"""Relation: states that look alike to the teacher look alike to the student; no projector between the layers."""

from torch import Tensor

from kd_agent.losses._similarity import unlikeness
from kd_agent.networks import LAYER, ActionHead, PolicyOutput, Softening

NEEDS = frozenset({"layer"})


def loss(student: PolicyOutput, teacher: PolicyOutput, head: ActionHead, softening: Softening) -> Tensor:
    """Distance `[B]` of the batch's similarities, between 0 and 4 (Tung and Mori 2019).

    Args:
        student: Its layer `[B, F]`.
        teacher: Its layer `[B, F]`, of another width perhaps.
        head: Not used.
        softening: Not used.
    """
    return unlikeness(student.features[LAYER], teacher.features[LAYER])
