"""Cross-entropy on the teacher's greedy action, the hard label of reinforcement learning."""

import torch
from torch import Tensor

from kd_agent.networks import ActionHead, PolicyOutput, Softening


def loss(student: PolicyOutput, teacher: PolicyOutput, head: ActionHead, softening: Softening) -> Tensor:
    """`-log q(y)` `[B]` at temperature 1, `y` being the teacher's mode.

    Gaussians: the negative log-density of the teacher's mean (before any squash), which is bounded
    below because log standard deviations are.

    Args:
        student: Its `params [B, P]`.
        teacher: Its `params [B, P]`.
        head: The action head of both.
        softening: Not used: a label has no temperature.
    """
    if head.spec.is_gaussian:
        mean, _ = head.mean_log_std(teacher.params)
        return torch.neg(head.gaussian(student.params).log_prob(mean))
    label = head.mode(teacher.params).to(student.params.device)
    if head.kind == "bernoulli":
        bits = label.reshape(len(label), -1).to(student.params.dtype)
        return torch.neg(head.distribution(student.params).log_prob(bits))
    start = label.new_tensor(head.spec.start)
    # A mode is in the environment's numbers, which may begin at another one than 0.
    parts = label.reshape(len(label), -1) - start
    value = parts.squeeze(-1) if head.kind == "categorical" else parts
    return torch.neg(head.distribution(student.params).log_prob(value))
