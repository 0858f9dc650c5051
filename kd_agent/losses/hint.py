"""Hint: the student's layer, through a learnt projector, is the teacher's (FitNets, Romero et al. 2015)."""

from torch import Tensor

from kd_agent.networks import LAYER, ActionHead, PolicyOutput, Softening

NEEDS = frozenset({"layer"})
PROJECTS = True


def loss(student: PolicyOutput, teacher: PolicyOutput, head: ActionHead, softening: Softening) -> Tensor:
    """Mean squared error `[B]` over the features of the teacher's layer; both layers are `[B, F]`.

    In reinforcement learning: the feature regression of Actor-Mimic (Parisotto et al. 2016).

    Args:
        student: Its layer, projected to the width of the teacher's, `[B, F]`.
        teacher: Its layer `[B, F]`.
        head: Not used.
        softening: Not used.
    """
    return (student.features[LAYER] - teacher.features[LAYER]).square().mean(-1)
