"""Any policy without memory as a student: a pruned teacher is fitted as every student is."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from kd_agent.errors import KDError
from kd_agent.networks.base import PolicyOutput, Student
from kd_agent.networks.distributions import ActionHead
from kd_agent.policies import Op, PolicyGraph
from kd_agent.policies.int8 import LARGEST
from kd_agent.policies.torch_policy import TorchOp, TorchPolicy


class _Rounded(torch.autograd.Function):
    """Rows on the int8 grid; the gradient passes straight through (Bengio et al. 2013), plus a pull.

    Weights whose best value lies between two steps would hop to and fro until the end. So each is drawn to
    its nearest step, by its distance in steps times the row's mean gradient (after Nagel et al. 2022,
    Overcoming Oscillations in Quantization-Aware Training).
    """

    @staticmethod
    def forward(ctx: Any, weight: Tensor) -> Tensor:
        """The weight as `kd_agent.policies.int8.rounded` has it.

        Args:
            ctx: Torch's, to remember what `backward` needs.
            weight: `[m, n]`.
        """
        # A row of zeros has no largest weight to divide by; it stays a row of zeros.
        step = weight.abs().amax(dim=1, keepdim=True).clamp_min(1e-12) / LARGEST
        rounded = torch.round(weight / step) * step
        ctx.save_for_backward((weight - rounded) / step)
        return rounded

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        """Gradient `[m, n]` of the weight."""
        [gradient] = gradients
        [distance] = ctx.saved_tensors
        pull = distance * gradient.abs().mean(dim=1, keepdim=True)
        pulled: Tensor = gradient + pull
        return pulled


class Int8Grid(nn.Module):
    """A weight as int8 says it, to be fitted there."""

    def forward(self, weight: Tensor) -> Tensor:
        """`weight [m, n]` rounded to 255 steps a row."""
        rounded: Tensor = _Rounded.apply(weight)  # type: ignore[no-untyped-call]
        return rounded


class GraphStudent(Student):
    """A student that is the network of a graph.

    Args:
        graph: The policy to start from.
        int8: Fit the weights of linear layers on the int8 grid (quantisation-aware).

    Raises:
        KDError: The policy has a memory.
    """

    def __init__(self, graph: PolicyGraph, *, int8: bool = False) -> None:
        super().__init__()
        if graph.states:
            raise KDError("a policy with a memory cannot be fitted as a graph")
        self.head = ActionHead(graph.head)
        self.observations = graph.observations
        self.network = TorchPolicy(graph)
        if int8:
            self._round_linear_layers()

    def forward(self, observations: Mapping[str, Tensor]) -> PolicyOutput:
        """Differentiable output for a batch `[B, *O]` by key."""
        return PolicyOutput(self.network(observations))

    def ops(self) -> list[Op]:
        """The operations with the present weights."""
        return list(self.network.program().ops)

    def _round_linear_layers(self) -> None:
        for step in self.network.ops:
            if isinstance(step, TorchOp) and step.op.kind == "linear":
                # The optimiser sees the weight of full precision; whoever reads `t_weight` sees the rounded one.
                parametrize.register_parametrization(step, "t_weight", Int8Grid())
